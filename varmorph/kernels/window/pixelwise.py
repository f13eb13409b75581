"""The kernels for windows of any geometry, from arrays to arrays: max-plus and the three penalties, without autograd.

Throughout, x is (N, C, H, W), bias and weight are (C, K) with the K elements of the window in row-major order, and tau,
cotau and smoothing are (C,). `outside` is the value beyond the image, None where edges from there are absent. Gradients
with respect to tau hold for cotau = 1 - tau.
"""

from __future__ import annotations

import numpy as np

from varmorph.kernels.arrays import by_element, by_slot, over_samples, signed_outside
from varmorph.kernels.threads import over_planes
from varmorph.kernels.window import block_expectile, block_expectile_gradient, huber_gradient, selection
from varmorph.kernels.window import huber as huber_kernel
from varmorph.kernels.window import quantile as quantile_kernel
from varmorph.kernels.window.blocks import Edges
from varmorph.kernels.window.layout import layout, sources
from varmorph.ties import tie_tolerance
from varmorph.windows import Geometry, window

__all__ = [
    "expectile",
    "expectile_backward",
    "huber",
    "huber_backward",
    "quantile",
    "quantile_backward",
    "supremum",
    "supremum_backward",
]


def _planes(image: np.ndarray) -> np.ndarray:
    """Flatten (..., N, C, H, W) to (..., N * C, H * W)."""
    *_, samples, channels, height, width = image.shape
    return image.reshape(*image.shape[:-4], samples * channels, height * width)


def _image(planes: np.ndarray, x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return planes.reshape(*planes.shape[:-2], *x.shape[:2], *size)


def _results(x: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Make room for an image with a pixel for each window, (N * C, pixels)."""
    height, width = window(geometry).shape
    return np.empty((x.shape[0] * x.shape[1], height * width), x.dtype)


def _edges(bias: np.ndarray, weight: np.ndarray, geometry: Geometry, outside: float | None) -> Edges:
    lanes, elements = layout(geometry), window(geometry).elements
    offsets = by_slot(bias, elements)
    mask = (lanes.cells >= 0) | (outside is not None)
    beyond = offsets.dtype.type(0.0 if outside is None else outside)
    return Edges(lanes, mask.astype(offsets.dtype), offsets, by_slot(weight, elements), beyond)


def _slack(tau: np.ndarray, cotau: np.ndarray) -> np.ndarray:
    """How far from 0 the derivative of an energy may lie and count as 0, in parts of the total weight."""
    return tie_tolerance(tau.dtype == np.float64) * np.minimum(tau, cotau)


class _Sums:
    """Gradients that kernels add to: of x for each pixel, of the parameters in float64 for each plane."""

    def __init__(self, samples: int, bias: np.ndarray, geometry: Geometry) -> None:
        (height, width), self.like, self.geometry = geometry.image, bias, geometry
        self.shape = (samples, bias.shape[0], height, width)
        planes, slots = samples * bias.shape[0], window(geometry).elements.size
        self.x = np.zeros((planes, height * width), bias.dtype)
        self.bias, self.weight = np.zeros((2, planes, slots))
        self.tau, self.smoothing = np.zeros((2, planes))

    def add_chosen(self, grad_y: np.ndarray, chosen: np.ndarray) -> None:
        """Add what goes to the slots that were chosen, (choices, N, C, H, W)."""
        gradient, slots = _planes(grad_y), _planes(chosen.astype(np.int32, copy=False))
        rows, columns = sources(self.geometry)

        def run(start: int, stop: int) -> None:
            selection.backward(gradient, slots, rows, columns, self.x, self.bias, start, stop)

        over_planes(run, gradient.shape[0], gradient.size)

    def by_pixel(self) -> np.ndarray:
        return self.x.reshape(self.shape)

    def by_element(self, sums: np.ndarray) -> np.ndarray:
        """Add up over samples, and over the slots of each element."""
        return by_element(sums, window(self.geometry).elements, self.shape[0], self.like)

    def by_channel(self, sums: np.ndarray) -> np.ndarray:
        """Add up over samples, in a fixed order."""
        return over_samples(sums, self.shape[0], self.like)


def supremum(
    x: np.ndarray, bias: np.ndarray, geometry: Geometry, outside: float | None, raised: int, with_slots: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the greatest x + bias, of channels from `raised` on the least x - bias, and the first slot that attains it.

    Where none does, the number of slots is given. Edges from beyond the image are absent if `outside` is None. Without
    `with_slots` the second result is empty.
    """
    image, y = _planes(x), _results(x, geometry)
    edges, lower_edges = (
        _edges(bias, np.ones_like(bias), geometry, beyond) for beyond in signed_outside(outside, x.dtype)
    )
    chosen = np.empty(y.shape if with_slots else (0, 0), np.int32)

    def run(start: int, stop: int) -> None:
        selection.supremum(image, edges, lower_edges, raised, y, chosen, start, stop)

    over_planes(run, y.shape[0], y.size)
    size = window(geometry).shape
    return _image(y, x, size), _image(chosen, x, size) if with_slots else chosen.ravel()


def supremum_backward(
    grad_y: np.ndarray, chosen: np.ndarray, bias: np.ndarray, geometry: Geometry, raised: int
) -> tuple[np.ndarray, np.ndarray]:
    """Give the gradients of x and bias."""
    sums = _Sums(grad_y.shape[0], bias, geometry)
    sums.add_chosen(grad_y, chosen[None])
    by_element = sums.by_element(sums.bias)
    np.negative(by_element[raised:], out=by_element[raised:])
    return sums.by_pixel(), by_element


def expectile(
    x: np.ndarray,
    bias: np.ndarray,
    weight: np.ndarray,
    tau: np.ndarray,
    cotau: np.ndarray,
    geometry: Geometry,
    outside: float | None,
) -> np.ndarray:
    """Compute the weighted expectile of each window, NaN where nothing has weight."""
    image, y, edges = _planes(x), _results(x, geometry), _edges(bias, weight, geometry, outside)
    sides = tau, cotau

    def run(start: int, stop: int) -> None:
        block_expectile.forward(image, edges, *sides, y, start, stop)

    over_planes(run, y.shape[0], y.size)
    return _image(y, x, window(geometry).shape)


def expectile_backward(
    grad_y: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    bias: np.ndarray,
    weight: np.ndarray,
    tau: np.ndarray,
    cotau: np.ndarray,
    geometry: Geometry,
    outside: float | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Give the gradients of x, bias, weight and tau."""
    images = _planes(grad_y), _planes(x), _planes(y)
    edges = _edges(bias, np.ones_like(weight), geometry, outside)
    parameters = by_slot(weight, window(geometry).elements), tau, cotau
    sums = _Sums(x.shape[0], bias, geometry)

    def run(start: int, stop: int) -> None:
        block_expectile_gradient.backward(
            *images, edges, *parameters, sums.x, sums.bias, sums.weight, sums.tau, start, stop
        )

    over_planes(run, sums.x.shape[0], y.size)
    return sums.by_pixel(), sums.by_element(sums.bias), sums.by_element(sums.weight), sums.by_channel(sums.tau)


def quantile(
    x: np.ndarray,
    bias: np.ndarray,
    weight: np.ndarray,
    tau: np.ndarray,
    cotau: np.ndarray,
    geometry: Geometry,
    outside: float | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the weighted quantile, and the slots (2, ...) of the values it lies between, -1 where it is NaN."""
    image, y, edges = _planes(x), _results(x, geometry), _edges(bias, weight, geometry, outside)
    endpoints = np.empty((2, *y.shape), np.int32)
    level = tau, cotau, _slack(tau, cotau)

    def run(start: int, stop: int) -> None:
        quantile_kernel.forward(image, edges, *level, y, endpoints, start, stop)

    over_planes(run, y.shape[0], y.size)
    size = window(geometry).shape
    return _image(y, x, size), _image(endpoints, x, size)


def quantile_backward(
    grad_y: np.ndarray, endpoints: np.ndarray, bias: np.ndarray, geometry: Geometry
) -> tuple[np.ndarray, np.ndarray]:
    """Give the gradients of x and bias; weight and level have none."""
    sums = _Sums(grad_y.shape[0], bias, geometry)
    sums.add_chosen(grad_y, endpoints)
    return sums.by_pixel(), sums.by_element(sums.bias)


def huber(
    x: np.ndarray,
    bias: np.ndarray,
    weight: np.ndarray,
    tau: np.ndarray,
    cotau: np.ndarray,
    smoothing: np.ndarray,
    geometry: Geometry,
    outside: float | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the minimiser for Huber's penalty, and the slots (2, ...) at the ends of its flat piece, -1 elsewhere."""
    image, y, edges = _planes(x), _results(x, geometry), _edges(bias, weight, geometry, outside)
    endpoints = np.empty((2, *y.shape), np.int32)
    level = tau, cotau, smoothing, _slack(tau, cotau)

    def run(start: int, stop: int) -> None:
        huber_kernel.forward(image, edges, *level, y, endpoints, start, stop)

    over_planes(run, y.shape[0], y.size)
    size = window(geometry).shape
    return _image(y, x, size), _image(endpoints, x, size)


def huber_backward(
    grad_y: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    endpoints: np.ndarray,
    bias: np.ndarray,
    weight: np.ndarray,
    tau: np.ndarray,
    cotau: np.ndarray,
    smoothing: np.ndarray,
    geometry: Geometry,
    outside: float | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Give the gradients of x, bias, weight, tau and smoothing."""
    images = _planes(grad_y), _planes(x), _planes(y), _planes(endpoints)
    edges = _edges(bias, np.ones_like(weight), geometry, outside)
    parameters = by_slot(weight, window(geometry).elements), tau, cotau, smoothing
    sums = _Sums(x.shape[0], bias, geometry)
    sums.add_chosen(grad_y, endpoints)

    def run(start: int, stop: int) -> None:
        huber_gradient.backward(
            *images, edges, *parameters,
            sums.x, sums.bias, sums.weight, sums.tau, sums.smoothing, start, stop,
        )  # fmt: skip

    over_planes(run, sums.x.shape[0], y.size)
    return (
        sums.by_pixel(),
        sums.by_element(sums.bias),
        sums.by_element(sums.weight),
        sums.by_channel(sums.tau),
        sums.by_channel(sums.smoothing),
    )
