"""Variational operators on images whose outputs depend on each other: regularised dilation, joint opening and closing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from varmorph.reference.edges import Array, Padding, as_image, window_edges
from varmorph.reference.families import Family, Instance, Spread, instance, solve, solve_gradient, solve_unknowns
from varmorph.reference.gradients import Gradients


def smoothing_name(penalty: str, smoothing: ArrayLike | None) -> str | float:
    """Say what the smoothing of the data edges is: an argument, or a fixed number."""
    if penalty == "huber" and smoothing is not None:
        return "smoothing"
    if penalty not in ("expectile", "quantile"):
        raise ValueError(f"penalty must be 'expectile', 'quantile' or 'huber' with a smoothing, found {penalty!r}")
    return np.inf if penalty == "expectile" else 0.0


def edge_smoothing_name(edge_penalty: str, edge_smoothing: ArrayLike | None) -> str | float:
    """Say what the smoothing of the lateral edges is: an argument, or a fixed number."""
    if edge_penalty == "huber" and edge_smoothing is not None:
        return "edge_smoothing"
    if edge_penalty != "quadratic":
        raise ValueError(f"edge_penalty must be 'quadratic' or 'huber' with an edge_smoothing, found {edge_penalty!r}")
    return np.inf


def window_family(shape: tuple[int, ...], bias: ArrayLike, rate: Any, padding: Padding, direction: int) -> Family:
    """List the edges of a dilation on one plane, with direction -1 the reversed edges with offset -b."""
    if padding == "valid":
        raise ValueError("padding must keep the size of the image, found 'valid'")
    height, width = np.shape(bias)[-2:]
    edges = window_edges((shape[-2], shape[-1]), (height, width), 1, rate, padding, direction < 0)
    target, place = np.nonzero(edges.present)
    outside = float(padding) if isinstance(padding, (int, float)) else np.nan
    source, element = edges.source[target, place], edges.element[target, place]
    return Family(source, target, element, outside=outside, direction=direction, bias="bias")


def grid_pairs(height: int, width: int) -> tuple[Array, Array, Array]:
    """List the pairs of neighbours as source, target and place among the edge weights (2, H, W) of a plane."""
    pixel = np.arange(height * width).reshape(height, width)
    source = np.concatenate([pixel[:-1].ravel(), pixel[:, :-1].ravel()])
    target = np.concatenate([pixel[1:].ravel(), pixel[:, 1:].ravel()])
    return source, target, np.concatenate([pixel[:-1].ravel(), height * width + pixel[:, :-1].ravel()])


def _spreads(shape: tuple[int, ...]) -> dict[str, Spread]:
    """Say which numbers of each argument belong to plane (n, c) of an image of this shape."""
    n, c, h, w = shape

    def function(value: Array) -> Array:
        return np.broadcast_to(value, (c, *value.shape[-2:])).reshape(1, c, -1)

    def channel(value: Array) -> Array:
        return np.broadcast_to(value, (1, c))[..., None]

    return {
        "x": lambda value: value.reshape(n, c, h * w),
        "bias": function,
        "weight": function,
        "logit_levels": lambda value: np.broadcast_to(value.reshape(2, -1).T, (1, c, 2)),
        "edge_weights": lambda value: np.broadcast_to(value, (n, c, 2, h, w)).reshape(n, c, -1),
        **dict.fromkeys(("logit_level", "coupling", "smoothing", "edge_smoothing", "ridge", "eta"), channel),
    }


def _regularised(
    x: ArrayLike,
    bias: ArrayLike,
    weight: ArrayLike | None,
    logit_level: ArrayLike,
    coupling: ArrayLike,
    *,
    edge_weights: ArrayLike | None = None,
    penalty: str = "expectile",
    smoothing: ArrayLike | None = None,
    edge_penalty: str = "quadratic",
    edge_smoothing: ArrayLike | None = None,
    ridge: ArrayLike = 0.0,
    rate: Any = 1,
    padding: Padding = "geodesic",
) -> Instance:
    shape = as_image(x).shape
    source, target, place = grid_pairs(*shape[2:])
    pixel = np.arange(shape[2] * shape[3])
    data = window_family(shape, bias, rate, padding, 1)._replace(
        weight=None if weight is None else "weight",
        level=("logit_level", 0, 1),
        smoothing=smoothing_name(penalty, smoothing),
    )
    lateral = Family(
        source,
        target,
        place,
        from_image=False,
        weight=None if edge_weights is None else "edge_weights",
        factor="coupling",
        smoothing=edge_smoothing_name(edge_penalty, edge_smoothing),
    )
    to_image = Family(pixel, pixel, pixel, factor="ridge")
    arguments = {
        "x": x,
        "bias": bias,
        "weight": weight,
        "logit_level": logit_level,
        "coupling": coupling,
        "edge_weights": edge_weights,
        "smoothing": smoothing,
        "edge_smoothing": edge_smoothing,
        "ridge": ridge,
    }
    return instance([data, lateral, to_image], 1, arguments, _spreads(shape))


def regularised_dilation(
    x: ArrayLike,
    bias: ArrayLike,
    logit_level: ArrayLike,
    coupling: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    edge_weights: ArrayLike | None = None,
    penalty: str = "expectile",
    smoothing: ArrayLike | None = None,
    edge_penalty: str = "quadratic",
    edge_smoothing: ArrayLike | None = None,
    ridge: ArrayLike = 0.0,
    rate: Any = 1,
    padding: Padding = "geodesic",
) -> Array:
    """Give the y that minimises the energy of a variational dilation plus a cost of differences between neighbours.

    The energy is sum w_k rho_tau(x_{i+k} + b_k - y_i) + coupling sum a_ij h(y_i - y_j) + ridge / 2 sum (y_i - x_i)^2, with
    a_ij from `edge_weights` (N, 1 or C, 2, H, W): channel 0 to the pixel below, 1 to the pixel at the right. h is r^2 / 2
    (`edge_penalty` "quadratic"), or that of huber with `edge_smoothing`. Coupled "quantile" is accurate to 1e-8 of the
    range of the image.

    >>> regularised_dilation([[[[0.0, 1.0]]]], [[0.0]], 0.0, 0.5).round(4)
    array([[[[0.3333, 0.6667]]]])
    """
    problem = _regularised(
        x,
        bias,
        weight,
        logit_level,
        coupling,
        edge_weights=edge_weights,
        penalty=penalty,
        smoothing=smoothing,
        edge_penalty=edge_penalty,
        edge_smoothing=edge_smoothing,
        ridge=ridge,
        rate=rate,
        padding=padding,
    )
    return solve(problem).reshape(np.shape(x))


def regularised_dilation_gradient(
    x: ArrayLike,
    bias: ArrayLike,
    logit_level: ArrayLike,
    coupling: ArrayLike,
    cotangent: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    **options: Any,
) -> Gradients:
    """Differentiate sum(cotangent * regularised_dilation(..., **options)) with respect to every argument."""
    return solve_gradient(_regularised(x, bias, weight, logit_level, coupling, **options), cotangent)


def joint_families(first: Family, second: Family, pixels: int, weighted: bool, smoothing: str | float) -> list[Family]:
    """Chain two families, x -> u and u -> y, into one energy; the second is multiplied by eta."""
    weight = "weight" if weighted else None
    first = first._replace(level=("logit_levels", 0, 1), weight=weight, smoothing=smoothing)
    second = second._replace(level=("logit_levels", 1, 1), weight=weight, smoothing=smoothing, factor="eta")
    return [first, second._replace(target=second.target + pixels, from_image=False)]


def _joint(
    directions: tuple[int, int],
    x: ArrayLike,
    bias: ArrayLike,
    weight: ArrayLike | None,
    logit_levels: ArrayLike,
    eta: ArrayLike,
    *,
    penalty: str = "expectile",
    smoothing: ArrayLike | None = None,
    rate: Any = 1,
    padding: Padding = "geodesic",
) -> Instance:
    shape = as_image(x).shape
    first, second = (window_family(shape, bias, rate, padding, direction) for direction in directions)
    families = joint_families(
        first, second, shape[2] * shape[3], weight is not None, smoothing_name(penalty, smoothing)
    )
    arguments = {
        "x": x,
        "bias": bias,
        "weight": weight,
        "logit_levels": logit_levels,
        "eta": eta,
        "smoothing": smoothing,
    }
    return instance(families, 2, arguments, _spreads(shape))


OPENING, CLOSING = (-1, 1), (1, -1)  # which families are the reversed edges


def joint_opening(
    x: ArrayLike,
    bias: ArrayLike,
    logit_levels: ArrayLike,
    eta: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    **options: Any,
) -> Array:
    """Minimise over u and y together: erosion edges x -> u at edge level logit_levels[0], eta times dilation edges u -> y.

    The second family has edge level logit_levels[1]. Options: penalty, smoothing, rate, padding. Where the padding is a
    number, edges from beyond the image start at that number in both families. It tends to `opening` as
    eta (1 - tau_2) / tau_1, tau_1 and 1 - tau_2 go to 0.

    >>> x = [[[[0.0, 2.0, 0.0, 3.0, 3.0, 3.0]]]]
    >>> joint_opening(x, [[0.0, 0.0, 0.0]], [-12.0, 12.0], 1e-4).round(2) + 0.0
    array([[[[0., 0., 0., 3., 3., 3.]]]])
    """
    return solve(_joint(OPENING, x, bias, weight, logit_levels, eta, **options)).reshape(np.shape(x))


def joint_closing(
    x: ArrayLike,
    bias: ArrayLike,
    logit_levels: ArrayLike,
    eta: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    **options: Any,
) -> Array:
    """Minimise over u and y together: dilation edges x -> u at edge level logit_levels[0], eta times erosion edges u -> y.

    The second family has edge level logit_levels[1]. Options as in `joint_opening`.
    """
    return solve(_joint(CLOSING, x, bias, weight, logit_levels, eta, **options)).reshape(np.shape(x))


def joint_opening_gradient(
    x: ArrayLike,
    bias: ArrayLike,
    logit_levels: ArrayLike,
    eta: ArrayLike,
    cotangent: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    **options: Any,
) -> Gradients:
    """Differentiate sum(cotangent * joint_opening(...)) with respect to every argument."""
    return solve_gradient(_joint(OPENING, x, bias, weight, logit_levels, eta, **options), cotangent)


def joint_closing_gradient(
    x: ArrayLike,
    bias: ArrayLike,
    logit_levels: ArrayLike,
    eta: ArrayLike,
    cotangent: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    **options: Any,
) -> Gradients:
    """Differentiate sum(cotangent * joint_closing(...)) with respect to every argument."""
    return solve_gradient(_joint(CLOSING, x, bias, weight, logit_levels, eta, **options), cotangent)


def joint_opening_unknowns(
    x: ArrayLike,
    bias: ArrayLike,
    logit_levels: ArrayLike,
    eta: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    **options: Any,
) -> Array:
    """Give u and y of `joint_opening`, (N, C, 2, H, W)."""
    found = solve_unknowns(_joint(OPENING, x, bias, weight, logit_levels, eta, **options))
    return found.reshape(*np.shape(x)[:2], 2, *np.shape(x)[2:])


def joint_closing_unknowns(
    x: ArrayLike,
    bias: ArrayLike,
    logit_levels: ArrayLike,
    eta: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    **options: Any,
) -> Array:
    """Give u and y of `joint_closing`, (N, C, 2, H, W)."""
    found = solve_unknowns(_joint(CLOSING, x, bias, weight, logit_levels, eta, **options))
    return found.reshape(*np.shape(x)[:2], 2, *np.shape(x)[2:])
