"""Operators that mix channels: an output channel minimises over the windows of all input channels of its group.

With `signed` each edge comes twice, from x and from -x. bias and weight are (O, S C / groups, kh, kw), S = 2 if signed: the first
half of the second axis meets x, the other -x. The dense operators take features (..., F), bias and weight (O, S F).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from varmorph.reference.edges import OUTSIDE, Array, Edges, Padding, as_image, read, window_edges
from varmorph.reference.gradients import Gradients
from varmorph.reference.scalar import Problem, derivatives, minimise


class _Mixing(NamedTuple):
    """Edges of each pixel and, for each output channel, the edges of its window in every copy of the image that it meets."""

    edges: Edges
    source: Array  # (O, S C / groups): the input channel
    sign: Array  # (O, S C / groups): 1 from x, -1 from -x
    values: Array  # (N, O, pixels, S C / groups * edges of a window), x or -x plus offset
    present: Array  # (O, pixels, the same)

    def spread(self, function: Array) -> Array:
        """Give the number of each edge, of a function (O, S C / groups, kh, kw): (O, pixels, edges)."""
        flat = function.reshape(*function.shape[:2], -1)[..., self.edges.element]
        return flat.swapaxes(1, 2).reshape(len(function), len(self.edges.element), -1)


def _mixing(x: Array, bias: Array, groups: int, signed: bool, options: dict[str, Any]) -> _Mixing:
    padding = options["padding"]
    outputs, met, channels = *bias.shape[:2], x.shape[1]
    edges = window_edges(x.shape[2:], bias.shape[2:], options["stride"], options["rate"], padding, reverse=False)
    within = channels // groups
    copies = 2 if signed else 1
    if met != copies * within or channels % groups or outputs % groups:
        raise ValueError(
            f"bias must be (O, {copies} * {channels} / {groups}, kh, kw), O a multiple of {groups}, found {bias.shape}"
        )
    first = np.arange(outputs) // (outputs // groups) * within
    source = first[:, None] + np.tile(np.arange(within), copies)
    sign = np.broadcast_to(np.repeat([1.0, -1.0][:copies], within), source.shape)
    pixels = len(edges.element)
    seen = read(x, edges, padding)[:, source] * sign[None, :, :, None, None]  # (N, O, copies, pixels, window)
    mixing = _Mixing(edges, source, sign, seen.swapaxes(2, 3).reshape(len(x), outputs, pixels, -1), np.empty(0))
    offset = mixing.spread(bias)
    window = np.broadcast_to(edges.present[:, None], (pixels, met, edges.present.shape[1]))
    present = window.reshape(pixels, -1) & (offset > -np.inf)
    values = np.where(present, mixing.values + np.where(present, offset, 0.0), 0.0)
    return mixing._replace(values=values, present=present)


def _as_images(y: Array, edges: Edges) -> Array:
    return y.reshape(*y.shape[:2], *edges.shape)


def maxplus_conv2d(
    x: ArrayLike,
    bias: ArrayLike,
    *,
    groups: int = 1,
    signed: bool = False,
    stride: Any = 1,
    rate: Any = 1,
    padding: Padding = "geodesic",
) -> Array:
    """y_{o,i} = max over c, k of (x_{c,i+k} + b_{o,c,k}), and of (-x_{c,i+k} + b'_{o,c,k}) if signed.

    >>> maxplus_conv2d([[[[1.0]], [[-3.0]]]], [[[[0.0]], [[0.0]], [[0.0]], [[0.5]]]], signed=True).ravel()
    array([3.5])
    """
    options = {"stride": stride, "rate": rate, "padding": padding}
    mixing = _mixing(as_image(x), np.asarray(bias, dtype=np.float64), groups, signed, options)
    return _as_images(np.where(mixing.present, mixing.values, -np.inf).max(-1), mixing.edges)


def minplus_conv2d(
    x: ArrayLike,
    bias: ArrayLike,
    *,
    groups: int = 1,
    signed: bool = False,
    stride: Any = 1,
    rate: Any = 1,
    padding: Padding = "geodesic",
) -> Array:
    """The least of the same edges; an offset -inf leaves an edge out here too."""
    options = {"stride": stride, "rate": rate, "padding": padding}
    mixing = _mixing(as_image(x), np.asarray(bias, dtype=np.float64), groups, signed, options)
    return _as_images(np.where(mixing.present, mixing.values, np.inf).min(-1), mixing.edges)


def _variational(
    x: ArrayLike, bias: ArrayLike, logit_level: ArrayLike, weight: ArrayLike | None, options: dict[str, Any]
) -> tuple[_Mixing, Problem, Array]:
    function = np.asarray(bias, dtype=np.float64)
    mixing = _mixing(as_image(x), function, options["groups"], options["signed"], options)
    weights = np.ones_like(function) if weight is None else np.asarray(weight, dtype=np.float64)
    level = np.broadcast_to(np.asarray(logit_level, dtype=np.float64), len(function))[:, None, None]
    present = np.where(mixing.present, mixing.spread(weights), 0.0)
    problem = Problem(mixing.values, present, expit(level), expit(-level))
    return mixing, problem, minimise(problem, options["penalty"], options["smoothing"])


def variational_conv2d(
    x: ArrayLike,
    bias: ArrayLike,
    logit_level: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    groups: int = 1,
    signed: bool = False,
    penalty: str = "expectile",
    smoothing: ArrayLike | None = None,
    stride: Any = 1,
    rate: Any = 1,
    padding: Padding = "geodesic",
) -> Array:
    """y_{o,i} minimises sum w_{o,c,k} rho_tau(x_{c,i+k} + b_{o,c,k} - y_{o,i}) over c, k, and the same of -x if signed.

    >>> variational_conv2d([[[[1.0]], [[4.0]]]], np.zeros((1, 2, 1, 1)), 0.0).ravel()
    array([2.5])
    """
    options = {"groups": groups, "signed": signed, "penalty": penalty, "smoothing": smoothing, "stride": stride}
    mixing, _, y = _variational(x, bias, logit_level, weight, {**options, "rate": rate, "padding": padding})
    return _as_images(y, mixing.edges)


def variational_conv2d_gradient(
    x: ArrayLike,
    bias: ArrayLike,
    logit_level: ArrayLike,
    cotangent: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    groups: int = 1,
    signed: bool = False,
    penalty: str = "expectile",
    smoothing: ArrayLike | None = None,
    stride: Any = 1,
    rate: Any = 1,
    padding: Padding = "geodesic",
) -> Gradients:
    """Differentiate sum(cotangent * variational_conv2d(...)) with respect to every argument."""
    options = {"groups": groups, "signed": signed, "penalty": penalty, "smoothing": smoothing, "stride": stride}
    options |= {"rate": rate, "padding": padding}
    image, function = as_image(x), np.asarray(bias, dtype=np.float64)
    mixing, problem, y = _variational(x, bias, logit_level, weight, options)
    found = derivatives(problem, mixing.present, y, penalty, smoothing)
    pull = np.asarray(cotangent, dtype=np.float64).reshape(y.shape)[..., None]
    edges, window = mixing.edges, mixing.edges.element.shape[1]

    def by_window(e: Array) -> Array:
        """Spread edges over the channels that are met and the window: (..., O, pixels, met, window)."""
        return e.reshape(*e.shape[:-1], function.shape[1], window)

    grad_x = np.zeros((*image.shape[:2], image[0, 0].size))
    grad_bias, grad_weight = np.zeros((2, *function.shape[:2], function[0, 0].size))
    by_value, by_weight = by_window(pull * found.value), by_window(pull * found.weight)
    present = by_window(mixing.present)
    for n, o, m in np.ndindex(len(image), *function.shape[:2]):
        here = present[o, :, m]
        inside = here & (edges.source != OUTSIDE)
        moved = mixing.sign[o, m] * by_value[n, o, :, m]
        np.add.at(grad_x[n, mixing.source[o, m]], edges.source[inside], moved[inside])
        np.add.at(grad_bias[o, m], edges.element[here], by_value[n, o, :, m][here])
        np.add.at(grad_weight[o, m], edges.element[here], by_weight[n, o, :, m][here])
    tau, cotau = problem.tau[:, 0, 0], problem.cotau[:, 0, 0]
    by_level = (pull[..., 0] * found.tau).sum((0, 2)) * tau * cotau
    by_smoothing = None if smoothing is None else (pull[..., 0] * found.smoothing).sum((0, 2))

    def to_shape(gradient: Array, argument: ArrayLike) -> Array:
        return gradient if gradient.shape == np.shape(argument) else gradient.sum(0)

    return Gradients(
        grad_x.reshape(image.shape),
        grad_bias.reshape(function.shape),
        grad_weight.reshape(function.shape),
        to_shape(by_level, logit_level),
        None if by_smoothing is None or smoothing is None else to_shape(by_smoothing, smoothing),
    )


def _dense(function: Any, x: ArrayLike, bias: ArrayLike, *numbers: ArrayLike, **options: Any) -> Array:
    """Apply a convolution to features as to the channels of images of one pixel."""
    features, offsets = as_image(x), np.asarray(bias, dtype=np.float64)
    if options.get("weight") is not None:
        options["weight"] = np.asarray(options["weight"], dtype=np.float64)[..., None, None]
    images = features.reshape(-1, features.shape[-1], 1, 1)
    return function(images, offsets[..., None, None], *numbers, **options).reshape(*features.shape[:-1], len(offsets))


def maxplus_linear(x: ArrayLike, bias: ArrayLike, *, signed: bool = False) -> Array:
    """y_o = max over f of (x_f + b_{o,f}), and of (-x_f + b'_{o,f}) if signed.

    >>> maxplus_linear([1.0, 2.0], [[0.0, 0.0], [5.0, -np.inf]])
    array([2., 6.])
    """
    return _dense(maxplus_conv2d, x, bias, signed=signed)


def minplus_linear(x: ArrayLike, bias: ArrayLike, *, signed: bool = False) -> Array:
    """The least of the same edges."""
    return _dense(minplus_conv2d, x, bias, signed=signed)


def variational_linear(
    x: ArrayLike,
    bias: ArrayLike,
    logit_level: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    signed: bool = False,
    penalty: str = "expectile",
    smoothing: ArrayLike | None = None,
) -> Array:
    """y_o minimises sum_f w_{o,f} rho_tau(x_f + b_{o,f} - y_o), and the same of -x if signed.

    >>> variational_linear([1.0, 2.0], [[0.0, 0.0]], 0.0)
    array([1.5])
    """
    options = {"weight": weight, "signed": signed, "penalty": penalty, "smoothing": smoothing}
    return _dense(variational_conv2d, x, bias, logit_level, **options)
