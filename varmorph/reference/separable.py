"""Separable variational operators on images, and their implicit gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from varmorph.reference.edges import OUTSIDE, Array, Edges, Padding, as_function, as_image, read, window_edges
from varmorph.reference.gradients import Gradients
from varmorph.reference.scalar import Problem, derivatives, minimise


def _problem(
    x: Array, bias: Array, weight: Array, level: Array, edges: Edges, padding: Padding, direction: int
) -> Problem:
    """Set the problems up; direction is 1 for the dilation's edges, -1 for the reversed ones."""
    offset = bias.reshape(bias.shape[0], -1)[:, edges.element]
    present = edges.present & (offset > -np.inf)
    values = np.where(present, read(x, edges, padding) + direction * np.where(present, offset, 0.0), 0.0)
    weights = np.where(present, weight.reshape(weight.shape[0], -1)[:, edges.element], 0.0)
    level = direction * level[:, None, None]
    return Problem(values, weights, expit(level), expit(-level))


def _arguments(
    x: ArrayLike, bias: ArrayLike, weight: ArrayLike | None, level: ArrayLike
) -> tuple[Array, Array, Array, Array]:
    x = as_image(x)
    bias = as_function(bias, x.shape[1])
    weight = np.ones_like(bias) if weight is None else as_function(weight, x.shape[1])
    return x, bias, weight, np.broadcast_to(np.asarray(level, dtype=np.float64), x.shape[1])


def _separable(
    x: ArrayLike, bias: ArrayLike, weight: ArrayLike | None, level: ArrayLike, direction: int, options: dict[str, Any]
) -> tuple[Problem, Edges, Array]:
    image, function, weights, levels = _arguments(x, bias, weight, level)
    padding = options["padding"]
    edges = window_edges(
        image.shape[2:], function.shape[1:], options["stride"], options["rate"], padding, reverse=direction < 0
    )
    problem = _problem(image, function, weights, levels, edges, padding, direction)
    return problem, edges, minimise(problem, options["penalty"], options["smoothing"])


def variational_dilation(
    x: ArrayLike,
    bias: ArrayLike,
    logit_level: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    penalty: str = "expectile",
    smoothing: ArrayLike | None = None,
    stride: Any = 1,
    rate: Any = 1,
    padding: Padding = "geodesic",
) -> Array:
    """y_i minimises sum_k w_k rho_tau(x_{i+k} + b_k - y_i).

    >>> variational_dilation([[[[0.0, 1.0, 0.0]]]], [[0.0, 0.0, 0.0]], 0.0).round(4)
    array([[[[0.5   , 0.3333, 0.5   ]]]])
    """
    options = {"penalty": penalty, "smoothing": smoothing, "stride": stride, "rate": rate, "padding": padding}
    _, edges, y = _separable(x, bias, weight, logit_level, 1, options)
    return y.reshape(*y.shape[:2], *edges.shape)


def variational_erosion(
    x: ArrayLike,
    bias: ArrayLike,
    logit_level: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    penalty: str = "expectile",
    smoothing: ArrayLike | None = None,
    stride: Any = 1,
    rate: Any = 1,
    padding: Padding = "geodesic",
) -> Array:
    """The reversed edges, with offsets -b and edge level -logit_level."""
    options = {"penalty": penalty, "smoothing": smoothing, "stride": stride, "rate": rate, "padding": padding}
    _, edges, y = _separable(x, bias, weight, logit_level, -1, options)
    return y.reshape(*y.shape[:2], *edges.shape)


def variational_opening(
    x: ArrayLike, bias: ArrayLike, logit_levels: ArrayLike, *, weight: ArrayLike | None = None, **options: Any
) -> Array:
    """Erosion edges at edge level logit_levels[0], then dilation edges at logit_levels[1]."""
    first, second = np.asarray(logit_levels, dtype=np.float64)
    eroded = variational_erosion(x, bias, -first, weight=weight, **{**options, "stride": 1})
    return variational_dilation(eroded, bias, second, weight=weight, **options)


def variational_closing(
    x: ArrayLike, bias: ArrayLike, logit_levels: ArrayLike, *, weight: ArrayLike | None = None, **options: Any
) -> Array:
    """Dilation edges at edge level logit_levels[0], then erosion edges at logit_levels[1]."""
    first, second = np.asarray(logit_levels, dtype=np.float64)
    dilated = variational_dilation(x, bias, first, weight=weight, **{**options, "stride": 1})
    return variational_erosion(dilated, bias, -second, weight=weight, **options)


def _to_shape(gradient: Array, argument: ArrayLike | None) -> Array:
    """Sum over the channels that shared an argument."""
    shape = gradient.shape if argument is None else np.shape(argument)
    return gradient if gradient.shape == shape else gradient.sum(0)


def _implicit_gradient(
    x: ArrayLike,
    bias: ArrayLike,
    weight: ArrayLike | None,
    level: ArrayLike,
    cotangent: ArrayLike,
    direction: int,
    options: dict[str, Any],
) -> Gradients:
    """Differentiate by the formulas of `derivatives`, and add up where pixels and elements are read."""
    problem, edges, y = _separable(x, bias, weight, level, direction, options)
    image, function, _, _ = _arguments(x, bias, weight, level)
    pull = np.asarray(cotangent, dtype=np.float64).reshape(y.shape)[..., None]
    present = edges.present & (function.reshape(len(function), -1)[:, edges.element] > -np.inf)
    found = derivatives(problem, present, y, options["penalty"], options["smoothing"])
    by_value, by_weight = pull * found.value, pull * found.weight
    by_tau, by_mu = ((pull[..., 0] * part).sum((0, 2)) for part in (found.tau, found.smoothing))

    grad_x = np.zeros((*image.shape[:2], image[0, 0].size))
    grad_bias, grad_weight = np.zeros((2, len(function), function[0].size))
    for n, c in np.ndindex(image.shape[:2]):
        inside = present[c] & (edges.source != OUTSIDE)
        np.add.at(grad_x[n, c], edges.source[inside], by_value[n, c][inside])
        np.add.at(grad_bias[c], edges.element[present[c]], direction * by_value[n, c][present[c]])
        np.add.at(grad_weight[c], edges.element[present[c]], by_weight[n, c][present[c]])
    grad_level = direction * by_tau * (problem.tau * problem.cotau)[:, 0, 0]
    return Gradients(
        grad_x.reshape(image.shape),
        _to_shape(grad_bias.reshape(function.shape), bias),
        _to_shape(grad_weight.reshape(function.shape), weight),
        _to_shape(grad_level, level),
        None if options["smoothing"] is None else _to_shape(by_mu, options["smoothing"]),
    )


def variational_dilation_gradient(
    x: ArrayLike,
    bias: ArrayLike,
    logit_level: ArrayLike,
    cotangent: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    penalty: str = "expectile",
    smoothing: ArrayLike | None = None,
    stride: Any = 1,
    rate: Any = 1,
    padding: Padding = "geodesic",
) -> Gradients:
    """Differentiate sum(cotangent * variational_dilation(...)) with respect to its four arguments."""
    options = {"penalty": penalty, "smoothing": smoothing, "stride": stride, "rate": rate, "padding": padding}
    return _implicit_gradient(x, bias, weight, logit_level, cotangent, 1, options)


def variational_erosion_gradient(
    x: ArrayLike,
    bias: ArrayLike,
    logit_level: ArrayLike,
    cotangent: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    penalty: str = "expectile",
    smoothing: ArrayLike | None = None,
    stride: Any = 1,
    rate: Any = 1,
    padding: Padding = "geodesic",
) -> Gradients:
    """Differentiate sum(cotangent * variational_erosion(...)) with respect to its four arguments."""
    options = {"penalty": penalty, "smoothing": smoothing, "stride": stride, "rate": rate, "padding": padding}
    return _implicit_gradient(x, bias, weight, logit_level, cotangent, -1, options)
