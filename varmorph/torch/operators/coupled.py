"""Variational operators whose outputs depend on each other: regularised dilation, joint opening and closing."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from varmorph.adjoints import Adjoint, Implicit
from varmorph.arguments import Size, check_joint_penalty, geometry_within
from varmorph.convergence import check_start
from varmorph.torch.arguments import (
    check_bias,
    check_edge_smoothing,
    check_edge_weights,
    check_image,
    check_level,
    check_nonnegative,
    check_positive,
    check_ridge,
    check_smoothing,
    check_weight,
    two_levels,
)
from varmorph.torch.backend.choice import compute_dtype, implementation
from varmorph.torch.energy.energy import Edges, Energy, Ridge
from varmorph.torch.energy.incidence import DataEdges, GridEdges, WindowEdges
from varmorph.torch.energy.minimisation import Solution, checked_methods, minimise_parts
from varmorph.torch.energy.penalties import named_penalty
from varmorph.torch.energy.solvers import Newton, Solver
from varmorph.torch.energy.transforms import solved_under_transforms
from varmorph.torch.operators.planes import Planes, by_planes, minimise_planes
from varmorph.torch.separable.expectile import sides_of
from varmorph.torch.separable.minimisation import minimise as minimise_separable
from varmorph.torch.separable.neighbours import inside_image, negative_offsets, per_edge, window_pulls
from varmorph.torch.shapes import GridWeights, ImagePairs, Images, LevelPair, PerChannel, StructuringFunction
from varmorph.windows import Geometry, Padding, Window, outside_value, window

__all__ = ["IMPLICIT", "NEWTON", "joint_closing", "joint_opening", "regularised_dilation"]

NEWTON, IMPLICIT = Newton(), Implicit()


@solved_under_transforms
def regularised_dilation(
    x: Images,
    bias: StructuringFunction,
    logit_level: PerChannel,
    coupling: PerChannel,
    *,
    weight: StructuringFunction | None = None,
    edge_weights: GridWeights | None = None,
    penalty: str = "expectile",
    smoothing: PerChannel | None = None,
    edge_penalty: str = "quadratic",
    edge_smoothing: PerChannel | None = None,
    ridge: PerChannel = 0.0,
    rate: Size = 1,
    padding: Padding = "geodesic",
    start: Images | None = None,
    solver: Solver = NEWTON,
    adjoint: Adjoint = IMPLICIT,
) -> Solution:
    """Variational dilation whose neighbouring outputs are held together.

    y minimises the sum of the energies of `variational_dilation`, of coupling * edge_weight * h(y_i - y_j) over pairs of
    neighbours above and below, left and right, and of (ridge / 2) (y_i - x_i)^2. The limits of the separable dilation do
    not hold: as the level grows at a fixed coupling, y tends to the greatest value of each component that is held together.

    Parameters
    ----------
    x, bias, weight, logit_level, penalty, smoothing, rate, padding
        As in `variational_dilation`; padding "valid" is refused. With penalty "quantile" the solver must be `PrimalDual` or
        `ADMM`, and there is no implicit gradient.
    coupling : number, () or (C,)
        Strength of the edges between outputs, >= 0.
    edge_weights : (N, 1 or C, 2, H, W), optional
        Factor of each edge, >= 0: channel 0 to the pixel below, 1 to the pixel at the right; the last row and column are
        not used. Default: ones.
    edge_penalty : {"quadratic", "huber"}
        h(r) = r^2 / 2; or r^2 / (2 nu) where |r| <= nu and |r| - nu / 2 elsewhere, nu = `edge_smoothing`, a smoothed total
        variation.
    edge_smoothing : number, () or (C,), for "huber" alone
        nu > 0.
    ridge : number, () or (C,)
        Pull towards x, >= 0. A positive one makes the minimiser unique for every penalty.
    start : (N, C, H, W), optional
        Where the solver starts, such as `Solution.unknowns` of a similar problem. Default: the separable dilation.
    solver, adjoint
        How the minimiser is found, and how it is differentiated.

    Returns
    -------
    Solution
        `value` (N, C, H, W) and `certificate`, whose entries have shape (N,).

    Raises
    ------
    TypeError, ValueError
        As `variational_dilation`, and for a coupling, ridge or edge weight that is negative or has a wrong shape.
    ConvergenceError
        If a sample has not converged and the failure policy is "raise".

    Notes
    -----
    A sample with a pixel that is not finite is NaN in that channel, and is not converged.
    On the CPU kernels solve plane by plane with `Newton` and an adjoint that solves a linear system, for penalties "expectile"
    and "huber". Other methods, and the other coupled operators, sum over edges and solve their linear systems in kernels;
    what is recorded for `Unrolled` and `Truncated` runs in tensor code.
    The idea is that of Najman, Pesquet and Talbot (ISMM 2015, doi 10.1007/978-3-319-18720-4_40).

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[[[0.0, 0.0, 4.0, 0.0, 0.0]]]])
    >>> flat = torch.zeros(1, 3)
    >>> for coupling in (0.0, 1.0):
    ...     regularised_dilation(x, flat, 4.0, coupling).value.round(decimals=2)
    tensor([[[[0.0000, 3.8600, 3.8600, 3.8600, 0.0000]]]])
    tensor([[[[3.6300, 3.7600, 3.7900, 3.7600, 3.6300]]]])
    >>> regularised_dilation(x, flat, 4.0, 1.0).certificate.forward.converged
    tensor([True])
    """
    x = check_image(x)
    channels = x.shape[1]
    bias = check_bias(bias, channels)
    weight = check_weight(weight, bias)
    level = check_level(logit_level, channels, x)
    mu = check_smoothing(penalty, smoothing, channels, x)
    nu = check_edge_smoothing(edge_penalty, edge_smoothing, channels, x)
    strength = check_nonnegative("coupling", coupling, channels, x)
    kappa = check_ridge(ridge, channels, x)
    factors = None if edge_weights is None else check_edge_weights(edge_weights, x)
    geometry = geometry_within(x.shape, bias.shape, rate, padding)
    solver, adjoint = checked_methods(solver, adjoint)
    check_start(start, x.shape)

    dtype = compute_dtype(x)
    level = level.to(dtype)
    image, bias, weight, strength = (tensor.to(dtype) for tensor in (x, bias.flatten(1), weight.flatten(1), strength))
    optional = (None if tensor is None else tensor.to(dtype) for tensor in (mu, factors, nu, kappa))
    planes = Planes(image, bias, weight, *sides_of(level), strength, *optional)
    energy_of = partial(_regularised, geometry=geometry, penalty=penalty, edge_penalty=edge_penalty)
    if start is None and x.device.type != "meta":
        with torch.no_grad():
            start = minimise_separable(image, bias, weight, level, geometry, "expectile", None).nan_to_num(nan=0.0)
    if by_planes(penalty, solver, adjoint) and implementation("regularised_dilation", x.device) == "cpu":
        solution = minimise_planes(planes, geometry, energy_of, start, solver, adjoint)
    else:
        solution = minimise_parts(energy_of(planes), start, solver, adjoint, (x.shape[0],))
    return solution._replace(value=solution.value.to(x.dtype))


def _regularised(planes: Planes, geometry: Geometry, penalty: str, edge_penalty: str) -> Energy:
    """Build the energy of a regularised dilation in tensor code."""
    image, kappa = planes.x, planes.ridge
    values, weights = window_pulls(image, planes.bias, planes.weight, window(geometry), outside_value(geometry))
    data = Edges(DataEdges(), values, weights, named_penalty(penalty, (planes.tau, planes.cotau), planes.smoothing))
    sides = _sides(planes.coupling, planes.edge_weights, edge_penalty, planes.edge_smoothing)
    ridge = None if kappa is None else Ridge(kappa[:, None, None], image)
    return Energy([data, *sides], torch.zeros_like(image), ridge)


def _sides(strength: Tensor, factors: Tensor | None, penalty: str, nu: Tensor | None) -> list[Edges]:
    """Edges to the pixel below and to the pixel at the right."""
    families = []
    for channel, dim in enumerate((-2, -1)):
        weight = strength[:, None, None]
        if factors is not None:
            factor = factors[:, :, channel]
            weight = weight * factor.narrow(dim, 0, factor.shape[dim] - 1)
        families.append(Edges(GridEdges(dim), strength.new_zeros(()), weight, named_penalty(penalty, None, nu)))
    return families


@solved_under_transforms
def joint_opening(
    x: Images,
    bias: StructuringFunction,
    logit_levels: LevelPair,
    eta: PerChannel,
    *,
    weight: StructuringFunction | None = None,
    penalty: str = "expectile",
    smoothing: PerChannel | None = None,
    rate: Size = 1,
    padding: Padding = "geodesic",
    start: ImagePairs | None = None,
    solver: Solver = NEWTON,
    adjoint: Adjoint = IMPLICIT,
) -> Solution:
    """Joint opening: the erosion u of x and the dilation y of u minimise one energy together.

    The edges are those of `variational_opening`; the second family, from u to y, is weighted by eta, and pulls u towards y
    as well. With levels tau_1, tau_2 the result tends to `opening` as eta (1 - tau_2) / tau_1 -> 0, tau_1 -> 0.

    Parameters
    ----------
    x, bias, weight, penalty, smoothing, rate, padding
        As in `variational_dilation`; penalty "quantile" and padding "valid" are refused.
    logit_levels : two numbers, (2,) or (2, C)
        Edge levels of the erosion and of the dilation; (-s, s) for an opening.
    eta : number, () or (C,)
        Weight of the second family, > 0.
    start : (N, C, 2, H, W), optional
        Where the solver starts, such as `Solution.unknowns` of a similar problem. Default: the composed operator.
    solver, adjoint
        How the minimiser is found, and how it is differentiated.

    Returns
    -------
    Solution
        `value` is y (N, C, H, W); `unknowns` holds u and y, (N, C, 2, H, W); entries of `certificate` have shape (N,).

    Raises
    ------
    TypeError, ValueError, ConvergenceError
        As `regularised_dilation`; ValueError too if eta is not positive.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[[[0.0, 3.0, 0.0, 2.0, 2.0, 2.0]]]])
    >>> joint_opening(x, torch.zeros(1, 3), (-8.0, 8.0), 1e-3).value.round(decimals=2).abs()
    tensor([[[[0., 0., 0., 2., 2., 2.]]]])
    """
    options = {"penalty": penalty, "smoothing": smoothing, "rate": rate, "padding": padding}
    return _joint(x, bias, weight, logit_levels, eta, -1, options, start, solver, adjoint)


@solved_under_transforms
def joint_closing(
    x: Images,
    bias: StructuringFunction,
    logit_levels: LevelPair,
    eta: PerChannel,
    *,
    weight: StructuringFunction | None = None,
    penalty: str = "expectile",
    smoothing: PerChannel | None = None,
    rate: Size = 1,
    padding: Padding = "geodesic",
    start: ImagePairs | None = None,
    solver: Solver = NEWTON,
    adjoint: Adjoint = IMPLICIT,
) -> Solution:
    """Joint closing: the dilation u of x and the erosion y of u minimise one energy together.

    The edges are those of `variational_closing`, levels (s, -s) for a closing; it tends to `closing` as
    eta tau_2 / (1 - tau_1) -> 0, tau_1 -> 1. Arguments, result and errors are those of `joint_opening`.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[[[2.0, 0.0, 2.0, 0.0, 0.0, 0.0]]]])
    >>> joint_closing(x, torch.zeros(1, 3), (8.0, -8.0), 1e-3).value.round(decimals=2).abs()
    tensor([[[[2., 2., 2., 0., 0., 0.]]]])
    """
    options = {"penalty": penalty, "smoothing": smoothing, "rate": rate, "padding": padding}
    return _joint(x, bias, weight, logit_levels, eta, 1, options, start, solver, adjoint)


def _joint(
    x: Tensor,
    bias: StructuringFunction,
    weight: StructuringFunction | None,
    logit_levels: LevelPair,
    eta: PerChannel,
    first: int,
    options: dict,
    start: Tensor | None,
    solver: Solver,
    adjoint: Adjoint,
) -> Solution:
    """Join the edges of direction `first` (1: dilation, -1: erosion) from x to u with those of the other from u to y."""
    check_joint_penalty(options["penalty"])
    x = check_image(x)
    channels, dtype = x.shape[1], compute_dtype(x)
    bias = check_bias(bias, channels)
    weight = check_weight(weight, bias).to(dtype).flatten(1)
    levels = [check_level(level, channels, x, "logit_levels").to(dtype) for level in two_levels(logit_levels)]
    mu = check_smoothing(options["penalty"], options["smoothing"], channels, x)
    mu = None if mu is None else mu.to(dtype)
    strength = check_positive("eta", eta, channels, x).to(dtype)
    image, offsets = x.to(dtype), bias.to(dtype).flatten(1)

    geometries = [
        geometry_within(x.shape, bias.shape, options["rate"], options["padding"], side < 0) for side in (first, -first)
    ]
    windows = [(window(geometry), outside_value(geometry)) for geometry in geometries]
    signed = [offsets if side > 0 else negative_offsets(offsets) for side in (first, -first)]
    penalties = [named_penalty(options["penalty"], sides_of(level), mu) for level in levels]
    values, weights = window_pulls(image, signed[0], weight, *windows[0])
    pulls = Edges(DataEdges(part=0, parts=2), values, weights, penalties[0])
    offset, factor = _between(image, signed[1], weight * strength[:, None], *windows[1])
    endpoints = WindowEdges(windows[1][0], (x.shape[-2], x.shape[-1]), source=0, target=1, parts=2)
    energy = Energy(
        [pulls, Edges(endpoints, offset, factor, penalties[1])], image.new_zeros(*image.shape[:2], 2, *image.shape[2:])
    )
    if start is None and values.numel():
        with torch.no_grad():
            u = minimise_separable(image, signed[0], weight, levels[0], geometries[0], "expectile", None)
            y = minimise_separable(u, signed[1], weight, levels[1], geometries[1], "expectile", None)
            start = torch.stack((u, y), 2).nan_to_num(nan=0.0)
    solution = minimise_parts(energy, start, solver, adjoint, (x.shape[0],))
    return solution._replace(value=solution.value[:, :, 1].to(x.dtype))


def _between(image: Tensor, bias: Tensor, weight: Tensor, seen: Window, outside: float | None) -> tuple[Tensor, Tensor]:
    """Offsets and weights of edges between unknowns; what lies beyond the image is known and part of the offset."""
    offset = per_edge(bias, seen)
    absent = torch.isneginf(offset)
    offset, weights = offset.masked_fill(absent, 0.0), per_edge(weight, seen).masked_fill(absent, 0.0)
    if seen.leaves_image:
        inside = inside_image(seen, image.device)
        if outside is None:
            weights = weights * inside
        else:
            offset = torch.where(inside, offset, offset + outside)
    return offset, weights
