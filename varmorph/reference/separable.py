"""The executable specification: every operator in NumPy, float64, edge by edge, and nothing clever.

Functions have the names and arguments of `varmorph.torch`; arrays come in and go out. Edges are listed one by one, an
erosion swaps their ends, and an expectile is found by trying all splits of the sorted values instead of iterating, so
that this module shares neither geometry nor solver with the code that is tested against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

__all__ = [
    "Gradients",
    "black_top_hat",
    "closing",
    "dilation",
    "erosion",
    "external_gradient",
    "gradient",
    "internal_gradient",
    "opening",
    "reconstruction",
    "variational_closing",
    "variational_dilation",
    "variational_dilation_gradient",
    "variational_erosion",
    "variational_erosion_gradient",
    "variational_opening",
    "white_top_hat",
]

Array = np.ndarray
Padding = Literal["geodesic", "replicate", "reflect", "circular", "valid"] | float
OUTSIDE = -1  # the start of an edge from beyond the image, where the padding is a number


class AxisEdges(NamedTuple):
    """Edges of one axis: `source` -> `target`, carrying `element` of the structuring function; `length` targets."""

    target: Array
    source: Array
    element: Array
    length: int


class Edges(NamedTuple):
    """The edges into each output pixel, one row a pixel: flat `source` and `element`, and which places are in use."""

    source: Array
    element: Array
    present: Array
    shape: tuple[int, int]


class Gradients(NamedTuple):
    """Derivatives of a loss with respect to the arguments of a variational operator, each of its argument's shape."""

    x: Array
    bias: Array
    weight: Array
    logit_level: Array
    smoothing: Array | None = None


# --- geometry -------------------------------------------------------------------------------------------------------


def _at(position: int, length: int, padding: Padding) -> int:
    """Say which pixel stands at a position of an axis that the padding has continued."""
    if padding == "replicate":
        return min(max(position, 0), length - 1)
    if padding == "circular":
        return position % length
    if padding == "reflect":
        while not 0 <= position < length:
            position = -position if position < 0 else 2 * (length - 1) - position
            position = 0 if length == 1 else position
        return position
    return position if 0 <= position < length else OUTSIDE


def _axis_edges(length: int, size: int, rate: int, padding: Padding, reverse: bool) -> AxisEdges:
    """List the edges x_{i+k} -> y_i of one axis, with `reverse` x_i -> y_{i+k}, at stride 1."""
    bent = padding in ("replicate", "reflect", "circular", "geodesic")
    direction = -1 if reverse and not bent else 1
    edges = []
    for i in range(length):
        for k in range(size):
            start = _at(i + direction * rate * (k - size // 2), length, padding)
            if start != OUTSIDE or isinstance(padding, (int, float)):
                edges.append((i, start, k))
    if reverse and bent:
        edges = [(start, i, k) for i, start, k in edges]
    if padding == "valid":
        whole = [i for i in range(length) if sum(edge[0] == i for edge in edges) == size]
        edges = [(whole.index(i), start, k) for i, start, k in edges if i in whole]
        length = len(whole)
    target, source, element = np.array(edges, dtype=int).reshape(-1, 3).T
    return AxisEdges(target, source, element, length)


def _sampled(edges: AxisEdges, stride: int) -> AxisEdges:
    kept = edges.target % stride == 0
    return AxisEdges(edges.target[kept] // stride, edges.source[kept], edges.element[kept], -(-edges.length // stride))


def _both(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _edges(
    image: tuple[int, int], size: tuple[int, int], stride: Any, rate: Any, padding: Padding, reverse: bool
) -> Edges:
    """List the edges into each output pixel: every edge of the rows with every edge of the columns."""
    strides, rates = _both(stride), _both(rate)
    rows, columns = (_sampled(_axis_edges(image[a], size[a], rates[a], padding, reverse), strides[a]) for a in (0, 1))
    target = np.add.outer(rows.target * columns.length, columns.target).ravel()
    element = np.add.outer(rows.element * size[1], columns.element).ravel()
    source = np.add.outer(rows.source * image[1], columns.source).ravel()
    source[np.logical_or.outer(rows.source == OUTSIDE, columns.source == OUTSIDE).ravel()] = OUTSIDE
    order = np.argsort(target, kind="stable")
    target, source, element = target[order], source[order], element[order]
    pixels = rows.length * columns.length
    place = np.arange(target.size) - np.searchsorted(target, target)
    table = np.zeros((3, pixels, place.max(initial=-1) + 1), dtype=int)
    for row, column in zip(table, (source, element, np.ones_like(source)), strict=True):
        row[target, place] = column
    return Edges(table[0], table[1], table[2].astype(bool), (rows.length, columns.length))


def _read(x: Array, edges: Edges, padding: Padding) -> Array:
    """Read the value at the start of each edge: (N, C, pixels, edges of a pixel)."""
    outside = float(padding) if isinstance(padding, (int, float)) else np.nan
    return np.where(edges.source == OUTSIDE, outside, x.reshape(*x.shape[:2], -1)[..., edges.source])


def _image(x: ArrayLike) -> Array:
    return np.asarray(x, dtype=np.float64)


def _function(value: ArrayLike, channels: int) -> Array:
    """Give a structuring function of shape (C, kh, kw)."""
    array = np.asarray(value, dtype=np.float64)
    return np.broadcast_to(array, (channels, *array.shape[-2:]))


# --- exact operators ------------------------------------------------------------------------------------------------


def _supremum(x: Array, bias: Array, edges: Edges, padding: Padding) -> Array:
    offset = bias.reshape(bias.shape[0], -1)[:, edges.element]
    present = edges.present & (offset > -np.inf)
    values = np.where(present, _read(x, edges, padding) + np.where(present, offset, 0.0), -np.inf)
    return values.max(-1).reshape(*x.shape[:2], *edges.shape)


def dilation(x: ArrayLike, bias: ArrayLike, *, stride: Any = 1, rate: Any = 1, padding: Padding = "geodesic") -> Array:
    """y_i = max_k (x_{i+k} + b_k).

    >>> dilation([[[[0.0, 2.0, 0.0, 1.0]]]], [[0.0, 0.0, -0.5]])
    array([[[[1.5, 2. , 2. , 1. ]]]])
    """
    x = _image(x)
    bias = _function(bias, x.shape[1])
    return _supremum(x, bias, _edges(x.shape[2:], bias.shape[1:], stride, rate, padding, False), padding)


def erosion(x: ArrayLike, bias: ArrayLike, *, stride: Any = 1, rate: Any = 1, padding: Padding = "geodesic") -> Array:
    """y_j = min (x_i - b_k) over the edges j -> i of the dilation."""
    x = _image(x)
    bias = _function(bias, x.shape[1])
    edges = _edges(x.shape[2:], bias.shape[1:], stride, rate, padding, True)
    return 0.0 - _supremum(-x, bias, edges, -padding if isinstance(padding, (int, float)) else padding)


def opening(x: ArrayLike, bias: ArrayLike, *, stride: Any = 1, rate: Any = 1, padding: Padding = "geodesic") -> Array:
    """Dilation of the erosion."""
    return dilation(erosion(x, bias, rate=rate, padding=padding), bias, stride=stride, rate=rate, padding=padding)


def closing(x: ArrayLike, bias: ArrayLike, *, stride: Any = 1, rate: Any = 1, padding: Padding = "geodesic") -> Array:
    """Erosion of the dilation."""
    return erosion(dilation(x, bias, rate=rate, padding=padding), bias, stride=stride, rate=rate, padding=padding)


def gradient(x: ArrayLike, bias: ArrayLike, *, rate: Any = 1, padding: Padding = "geodesic") -> Array:
    """Dilation minus erosion, where both have the size of the image."""
    return dilation(x, bias, rate=rate, padding=padding) - erosion(x, bias, rate=rate, padding=padding)


def internal_gradient(x: ArrayLike, bias: ArrayLike, *, rate: Any = 1, padding: Padding = "geodesic") -> Array:
    """Image minus erosion."""
    return _image(x) - erosion(x, bias, rate=rate, padding=padding)


def external_gradient(x: ArrayLike, bias: ArrayLike, *, rate: Any = 1, padding: Padding = "geodesic") -> Array:
    """Dilation minus image."""
    return dilation(x, bias, rate=rate, padding=padding) - _image(x)


def white_top_hat(x: ArrayLike, bias: ArrayLike, *, rate: Any = 1, padding: Padding = "geodesic") -> Array:
    """Image minus opening."""
    return _image(x) - opening(x, bias, rate=rate, padding=padding)


def black_top_hat(x: ArrayLike, bias: ArrayLike, *, rate: Any = 1, padding: Padding = "geodesic") -> Array:
    """Closing minus image."""
    return closing(x, bias, rate=rate, padding=padding) - _image(x)


def reconstruction(
    marker: ArrayLike, mask: ArrayLike, bias: ArrayLike | None = None, *, by: str = "dilation", connectivity: int = 8
) -> Array:
    """Repeat u <- min(mask, dilation(u, bias)) from u = min(marker, mask) until nothing changes.

    >>> reconstruction([[[[0.0, 2.0, 0.0, 1.0, 0.0]]]], [[[[1.0, 3.0, 1.0, 2.0, 1.0]]]])
    array([[[[1., 2., 1., 1., 1.]]]])
    """
    if by == "erosion":
        return -reconstruction(-_image(marker), -_image(mask), bias, connectivity=connectivity)
    if bias is None:
        bias = np.where(np.abs(np.indices((3, 3)) - 1).sum(0) * 4 > connectivity, -np.inf, 0.0)
    u, before = np.minimum(_image(marker), _image(mask)), None
    while before is None or (u != before).any():
        before, u = u, np.minimum(_image(mask), np.maximum(u, dilation(u, bias)))
    return u


# --- separable variational operators --------------------------------------------------------------------------------


class _Problem(NamedTuple):
    """One scalar problem a pixel: minimise sum_k w_k rho_tau(v_k - z) over the last axis."""

    values: Array  # (N, C, pixels, edges of a pixel)
    weight: Array  # (C, pixels, edges of a pixel), 0 where there is no edge
    tau: Array  # (C, 1, 1)
    cotau: Array  # (C, 1, 1), one minus tau


def _problem(
    x: Array, bias: Array, weight: Array, level: Array, edges: Edges, padding: Padding, direction: int
) -> _Problem:
    """Set the problems up; direction is 1 for the dilation's edges, -1 for the reversed ones."""
    offset = bias.reshape(bias.shape[0], -1)[:, edges.element]
    present = edges.present & (offset > -np.inf)
    values = np.where(present, _read(x, edges, padding) + direction * np.where(present, offset, 0.0), 0.0)
    weights = np.where(present, weight.reshape(weight.shape[0], -1)[:, edges.element], 0.0)
    level = direction * level[:, None, None]
    return _Problem(values, weights, expit(level), expit(-level))


def _expectile(problem: _Problem) -> Array:
    """Give the greatest (tau >= 1/2) or least value among the weighted means over all splits of the sorted values."""
    values, weight, tau, cotau = problem
    weight = np.broadcast_to(weight, values.shape)
    order = np.argsort(values, -1)
    values, weight = np.take_along_axis(values, order, -1), np.take_along_axis(weight, order, -1)

    def below(terms: Array) -> Array:
        return np.concatenate([np.zeros_like(terms[..., :1]), terms.cumsum(-1)], -1)

    def above(terms: Array) -> Array:
        return below(terms[..., ::-1])[..., ::-1]

    moment, mass = weight * values, weight
    with np.errstate(invalid="ignore"):
        means = (cotau * below(moment) + tau * above(moment)) / (cotau * below(mass) + tau * above(mass))
    return np.where((tau >= cotau)[..., 0], means.max(-1), means.min(-1))


TIE = 1e-12  # part of min(tau, 1 - tau) times the total weight that still counts as zero


def _middle(low: Array, high: Array) -> Array:
    """Middle of the minimisers; NaN where there is no edge."""
    return np.where(np.isfinite(low) & np.isfinite(high), low + (high - low) / 2, np.nan)


def _slack(problem: _Problem) -> Array:
    weight = np.broadcast_to(problem.weight, problem.values.shape)
    return TIE * np.minimum(problem.tau, problem.cotau)[..., 0] * weight.sum(-1)


def _quantile(problem: _Problem) -> Array:
    """Give the middle of the values at which the one-sided derivatives of the energy do not agree in sign."""
    values, weight, tau, cotau = problem
    weight = np.broadcast_to(weight, values.shape)
    tau, cotau, slack = tau[..., 0], cotau[..., 0], _slack(problem)
    low, high = np.full(values.shape[:-1], np.inf), np.full(values.shape[:-1], -np.inf)
    for k in range(values.shape[-1]):
        value, candidate = values[..., k], weight[..., k] > 0
        above, below = ((weight * side).sum(-1) for side in (values > value[..., None], values < value[..., None]))
        equal = (weight * (values == value[..., None])).sum(-1)
        rises = cotau * (below + equal) - tau * above >= -slack
        falls = cotau * below - tau * (above + equal) <= slack
        low = np.where(candidate & rises, np.minimum(low, value), low)
        high = np.where(candidate & falls, np.maximum(high, value), high)
    return _middle(low, high)


def _huber_slope(problem: _Problem, z: Array, mu: Array) -> Array:
    residual = problem.values - z[..., None]
    factor = problem.weight * np.where(residual >= 0, problem.tau, problem.cotau)
    return -(factor * np.clip(residual / mu, -1, 1)).sum(-1)


def _huber(problem: _Problem, mu: Array) -> Array:
    """Give the middle of the zeros of the derivative: it is linear between the points v_k - mu, v_k and v_k + mu."""
    weight = np.broadcast_to(problem.weight, problem.values.shape)
    slack = _slack(problem)
    corners = np.concatenate([problem.values - mu, problem.values, problem.values + mu], -1)
    real = np.concatenate([weight > 0] * 3, -1)
    slopes = np.stack([_huber_slope(problem, corners[..., k], mu) for k in range(corners.shape[-1])], -1)

    def zero(before: Array, behind: Array) -> Array:
        """Interpolate between the last corner before and the first one behind."""
        left = np.where(real & before, corners, -np.inf).max(-1)
        right = np.where(real & behind, corners, np.inf).min(-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            at_left, at_right = (_huber_slope(problem, side, mu) for side in (left, right))
            between = left - at_left * (right - left) / (at_right - at_left)
        exact = np.where(np.abs(at_left) <= slack, left, np.where(np.abs(at_right) <= slack, right, between))
        return np.where(np.isfinite(left) & np.isfinite(right), exact, np.nan)

    low = zero(slopes < -slack[..., None], slopes >= -slack[..., None])
    high = zero(slopes <= slack[..., None], slopes > slack[..., None])
    return _middle(low, high)


def _minimise(problem: _Problem, penalty: str, smoothing: ArrayLike | None) -> Array:
    if penalty == "expectile":
        return _expectile(problem)
    if penalty == "quantile":
        return _quantile(problem)
    if penalty == "huber" and smoothing is not None:
        return _huber(problem, _smoothing(problem, smoothing))
    raise ValueError(f"penalty must be 'expectile', 'quantile' or 'huber' with a smoothing, found {penalty!r}")


def _smoothing(problem: _Problem, smoothing: ArrayLike) -> Array:
    return np.broadcast_to(np.asarray(smoothing, dtype=np.float64), problem.tau.shape[0])[:, None, None]


def _arguments(
    x: ArrayLike, bias: ArrayLike, weight: ArrayLike | None, level: ArrayLike
) -> tuple[Array, Array, Array, Array]:
    x = _image(x)
    bias = _function(bias, x.shape[1])
    weight = np.ones_like(bias) if weight is None else _function(weight, x.shape[1])
    return x, bias, weight, np.broadcast_to(np.asarray(level, dtype=np.float64), x.shape[1])


def _separable(
    x: ArrayLike, bias: ArrayLike, weight: ArrayLike | None, level: ArrayLike, direction: int, options: dict[str, Any]
) -> tuple[_Problem, Edges, Array]:
    image, function, weights, levels = _arguments(x, bias, weight, level)
    padding = options["padding"]
    edges = _edges(
        image.shape[2:], function.shape[1:], options["stride"], options["rate"], padding, reverse=direction < 0
    )
    problem = _problem(image, function, weights, levels, edges, padding, direction)
    return problem, edges, _minimise(problem, options["penalty"], options["smoothing"])


def variational_dilation(
    x: ArrayLike,
    bias: ArrayLike,
    weight: ArrayLike | None,
    logit_level: ArrayLike,
    *,
    penalty: str = "expectile",
    smoothing: ArrayLike | None = None,
    stride: Any = 1,
    rate: Any = 1,
    padding: Padding = "geodesic",
) -> Array:
    """y_i minimises sum_k w_k rho_tau(x_{i+k} + b_k - y_i).

    >>> variational_dilation([[[[0.0, 1.0, 0.0]]]], [[0.0, 0.0, 0.0]], None, 0.0).round(4)
    array([[[[0.5   , 0.3333, 0.5   ]]]])
    """
    options = {"penalty": penalty, "smoothing": smoothing, "stride": stride, "rate": rate, "padding": padding}
    _, edges, y = _separable(x, bias, weight, logit_level, 1, options)
    return y.reshape(*y.shape[:2], *edges.shape)


def variational_erosion(
    x: ArrayLike,
    bias: ArrayLike,
    weight: ArrayLike | None,
    logit_level: ArrayLike,
    *,
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
    x: ArrayLike, bias: ArrayLike, weight: ArrayLike | None, logit_levels: ArrayLike, **options: Any
) -> Array:
    """Erosion edges at edge level logit_levels[0], then dilation edges at logit_levels[1]."""
    first, second = np.asarray(logit_levels, dtype=np.float64)
    eroded = variational_erosion(x, bias, weight, -first, **{**options, "stride": 1})
    return variational_dilation(eroded, bias, weight, second, **options)


def variational_closing(
    x: ArrayLike, bias: ArrayLike, weight: ArrayLike | None, logit_levels: ArrayLike, **options: Any
) -> Array:
    """Dilation edges at edge level logit_levels[0], then erosion edges at logit_levels[1]."""
    first, second = np.asarray(logit_levels, dtype=np.float64)
    dilated = variational_dilation(x, bias, weight, first, **{**options, "stride": 1})
    return variational_erosion(dilated, bias, weight, -second, **options)


def _to_shape(gradient: Array, argument: ArrayLike | None) -> Array:
    """Sum over the channels that shared an argument."""
    shape = gradient.shape if argument is None else np.shape(argument)
    return gradient if gradient.shape == shape else gradient.sum(0)


def _flat_piece(problem: _Problem, residual: Array, mu: Array) -> tuple[Array, Array]:
    """Say where no edge is curved, and which share each neighbour has in the middle: 1/2 at each end."""
    weight = np.broadcast_to(problem.weight, residual.shape) > 0
    near = 1e-12 * (np.abs(problem.values) + np.where(np.isinf(mu), 0.0, mu))
    flat = ~(weight & (np.abs(residual) < mu - near)).any(-1, keepdims=True)
    ends = np.zeros_like(residual)
    for side in (1, -1):
        distance = np.where(weight & (side * residual >= mu - near), side * residual, np.inf)
        nearest = distance <= distance.min(-1, keepdims=True) + near
        first = nearest & (nearest.cumsum(-1) == 1)
        ends += first / 2
    return flat, ends


def _implicit_gradient(
    x: ArrayLike,
    bias: ArrayLike,
    weight: ArrayLike | None,
    level: ArrayLike,
    cotangent: ArrayLike,
    direction: int,
    options: dict[str, Any],
) -> Gradients:
    """Differentiate by the formulas of the implicit function theorem for one unknown a pixel.

    With c_k = |r_k| <= mu and S = sum_k w_k a_k c_k: dy/dv_k = w_k a_k c_k / S, dy/dw_k = a_k clip(r_k, -mu, mu) / S,
    dy/dtau = sum_k w_k |clip(r_k)| / S, dy/dmu = sum_k w_k a_k (1 - c_k) sign(r_k) / S. The expectile has mu = inf; where
    S = 0, and for quantiles, y is the middle of two of the values.
    """
    problem, edges, y = _separable(x, bias, weight, level, direction, options)
    values, weights, tau, cotau = problem
    image, function, _, _ = _arguments(x, bias, weight, level)
    pull = np.asarray(cotangent, dtype=np.float64).reshape(y.shape)[..., None]
    residual = values - y[..., None]
    limit = {"expectile": np.inf, "quantile": 0.0, "huber": options["smoothing"]}[options["penalty"]]
    mu = _smoothing(problem, limit)
    near = 1e-12 * (np.abs(values) + mu) if options["penalty"] == "huber" else 0.0  # ties of rounded values
    a = np.where(residual >= -near, tau, cotau)
    present = edges.present & (function.reshape(len(function), -1)[:, edges.element] > -np.inf)
    flat, ends = _flat_piece(problem, residual, mu)
    curved = (np.abs(residual) <= mu + near) & ~flat
    total = np.where(flat, 1.0, (weights * a * curved).sum(-1, keepdims=True))
    limited = np.where(flat, 0.0, np.clip(residual, -mu, mu))
    by_value = pull * np.where(flat, ends, weights * a * curved / total)
    by_weight = pull * present * a * limited / total
    by_tau = (pull * weights * np.abs(limited) / total).sum((0, 2, 3))
    by_mu = (pull * weights * a * ~curved * ~flat * np.sign(residual) / total).sum((0, 2, 3))

    grad_x = np.zeros((*image.shape[:2], image[0, 0].size))
    grad_bias, grad_weight = np.zeros((2, len(function), function[0].size))
    for n, c in np.ndindex(image.shape[:2]):
        inside = present[c] & (edges.source != OUTSIDE)
        np.add.at(grad_x[n, c], edges.source[inside], by_value[n, c][inside])
        np.add.at(grad_bias[c], edges.element[present[c]], direction * by_value[n, c][present[c]])
        np.add.at(grad_weight[c], edges.element[present[c]], by_weight[n, c][present[c]])
    grad_level = direction * by_tau * (tau * cotau)[:, 0, 0]
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
    weight: ArrayLike | None,
    logit_level: ArrayLike,
    cotangent: ArrayLike,
    *,
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
    weight: ArrayLike | None,
    logit_level: ArrayLike,
    cotangent: ArrayLike,
    *,
    penalty: str = "expectile",
    smoothing: ArrayLike | None = None,
    stride: Any = 1,
    rate: Any = 1,
    padding: Padding = "geodesic",
) -> Gradients:
    """Differentiate sum(cotangent * variational_erosion(...)) with respect to its four arguments."""
    options = {"penalty": penalty, "smoothing": smoothing, "stride": stride, "rate": rate, "padding": padding}
    return _implicit_gradient(x, bias, weight, logit_level, cotangent, -1, options)
