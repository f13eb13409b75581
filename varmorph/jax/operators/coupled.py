"""Variational operators whose outputs depend on each other: regularised dilation, joint opening and closing."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from varmorph.adjoints import Adjoint, Implicit
from varmorph.arguments import Size, check_joint_penalty, geometry_within
from varmorph.convergence import check_start
from varmorph.jax.arguments import (
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
from varmorph.jax.backend.choice import compute_dtype
from varmorph.jax.energy.energy import Edges, Energy
from varmorph.jax.energy.incidence import DataEdges, WindowEdges
from varmorph.jax.energy.minimisation import Solution, checked_methods, minimise_parts
from varmorph.jax.energy.penalties import named_penalty
from varmorph.jax.energy.solvers import Newton, Solver
from varmorph.jax.operators.planes import Plain, Planes, minimise_planes
from varmorph.jax.separable import minimisation as separable
from varmorph.jax.separable.expectile import sides_of
from varmorph.jax.separable.neighbours import inside_image, negative_offsets, per_edge
from varmorph.jax.shapes import GridWeights, ImagePairs, Images, LevelPair, PerChannel, StructuringFunction
from varmorph.windows import Geometry, Padding, outside_value, window

__all__ = ["IMPLICIT", "NEWTON", "joint_closing", "joint_opening", "regularised_dilation"]

NEWTON, IMPLICIT = Newton(), Implicit()


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
        If a sample has not converged and the failure policy is "raise"; inside `jit` the error is that of
        `equinox.error_if`.

    Notes
    -----
    A sample with a pixel that is not finite is NaN in that channel, and is not converged.
    On CPUs compiled kernels solve plane by plane with `Newton` and an adjoint that solves a linear system, for penalties
    "expectile" and "huber"; they have reverse mode alone. Forward mode and second derivatives are had under
    `backend("xla")`, where the rule of the implicit derivative is one for both modes and all orders.
    The idea is that of Najman, Pesquet and Talbot (ISMM 2015, doi 10.1007/978-3-319-18720-4_40).

    Examples
    --------
    >>> import jax.numpy as jnp, numpy as np
    >>> x = jnp.array([[[[0.0, 0.0, 4.0, 0.0, 0.0]]]])
    >>> flat = jnp.zeros((1, 3))
    >>> for coupling in (0.0, 1.0):
    ...     print(np.asarray(regularised_dilation(x, flat, 4.0, coupling).value).round(2))
    [[[[0.   3.86 3.86 3.86 0.  ]]]]
    [[[[3.63 3.76 3.79 3.76 3.63]]]]
    >>> regularised_dilation(x, flat, 4.0, 1.0).certificate.forward.converged
    Array([ True], dtype=bool)
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

    bias, weight = bias.reshape(channels, -1), weight.reshape(channels, -1)
    dtype = compute_dtype(x)
    tau, cotau = sides_of(level.astype(dtype))
    planes = Planes(x, bias, weight, tau, cotau, strength, mu, factors, nu, kappa)
    planes = jax.tree.map(lambda part: part.astype(dtype), planes)
    plain = Plain(geometry, outside_value(geometry), penalty, edge_penalty, solver, adjoint)
    solution = minimise_planes(planes, start, plain)
    return solution._replace(value=solution.value.astype(x.dtype))


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
    >>> import jax.numpy as jnp
    >>> x = jnp.array([[[[0.0, 3.0, 0.0, 2.0, 2.0, 2.0]]]])
    >>> abs(joint_opening(x, jnp.zeros((1, 3)), (-8.0, 8.0), 1e-3).value.round(2))
    Array([[[[0., 0., 0., 2., 2., 2.]]]], dtype=float32)
    """
    options = {"penalty": penalty, "smoothing": smoothing, "rate": rate, "padding": padding}
    return _joint(x, bias, weight, logit_levels, eta, -1, options, start, solver, adjoint)


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
    >>> import jax.numpy as jnp
    >>> x = jnp.array([[[[2.0, 0.0, 2.0, 0.0, 0.0, 0.0]]]])
    >>> abs(joint_closing(x, jnp.zeros((1, 3)), (8.0, -8.0), 1e-3).value.round(2))
    Array([[[[2., 2., 2., 0., 0., 0.]]]], dtype=float32)
    """
    options = {"penalty": penalty, "smoothing": smoothing, "rate": rate, "padding": padding}
    return _joint(x, bias, weight, logit_levels, eta, 1, options, start, solver, adjoint)


def _joint(
    x: jax.Array,
    bias: StructuringFunction,
    weight: StructuringFunction | None,
    logit_levels: LevelPair,
    eta: PerChannel,
    first: int,
    options: dict,
    start: jax.Array | None,
    solver: Solver,
    adjoint: Adjoint,
) -> Solution:
    """Join the edges of direction `first` (1: dilation, -1: erosion) from x to u with those of the other from u to y."""
    check_joint_penalty(options["penalty"])
    x = check_image(x)
    channels, dtype = x.shape[1], compute_dtype(x)
    bias = check_bias(bias, channels)
    weight = check_weight(weight, bias).astype(dtype).reshape(channels, -1)
    levels = [check_level(level, channels, x, "logit_levels").astype(dtype) for level in two_levels(logit_levels)]
    mu = check_smoothing(options["penalty"], options["smoothing"], channels, x)
    mu = None if mu is None else mu.astype(dtype)
    strength = check_positive("eta", eta, channels, x).astype(dtype)
    image, offsets = x.astype(dtype), bias.astype(dtype).reshape(channels, -1)

    directions = (first, -first)
    geometries = [
        geometry_within(x.shape, bias.shape, options["rate"], options["padding"], side < 0) for side in directions
    ]
    outside = outside_value(geometries[0])
    signed = [offsets if side > 0 else negative_offsets(offsets) for side in directions]
    sides = [sides_of(level) for level in levels]
    penalties = [named_penalty(options["penalty"], side, mu) for side in sides]
    problem = (image, signed[0], weight, *sides[0])
    values, weights, *_ = separable.window_pulls(problem, (geometries[0], outside, "expectile"))
    pulls = Edges(DataEdges(part=0, parts=2), values, weights, penalties[0])
    offset, factor = _between(signed[1], weight * strength[:, None], geometries[1], outside)
    endpoints = WindowEdges(window(geometries[1]), geometries[1].image, source=0, target=1, parts=2)
    zeros = jnp.zeros((*image.shape[:2], 2, *image.shape[2:]), dtype)
    energy = Energy((pulls, Edges(endpoints, offset, factor, penalties[1])), zeros)
    if start is None:
        u = separable.solve(jax.tree.map(stop_gradient, problem), (geometries[0], outside, "expectile"))
        second = jax.tree.map(stop_gradient, (u, signed[1], weight, *sides[1]))
        y = separable.solve(second, (geometries[1], outside, "expectile"))
        start = jnp.nan_to_num(jnp.stack((u, y), 2), nan=0.0)
    solution = minimise_parts(energy, start, solver, adjoint, (x.shape[0],))
    return solution._replace(value=solution.value[:, :, 1].astype(x.dtype))


def _between(
    bias: jax.Array, weight: jax.Array, geometry: Geometry, outside: float | None
) -> tuple[jax.Array, jax.Array]:
    """Offsets and weights of edges between unknowns; what lies beyond the image is known and part of the offset."""
    seen = window(geometry)
    offset = per_edge(bias, seen)
    absent = jnp.isneginf(offset)
    offset, weights = jnp.where(absent, 0.0, offset), jnp.where(absent, 0.0, per_edge(weight, seen))
    if seen.leaves_image:
        inside = inside_image(seen)
        if outside is None:
            weights = weights * inside
        else:
            offset = jnp.where(inside, offset, offset + outside)
    return offset, weights
