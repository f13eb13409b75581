"""Launchers of the kernels that mix channels.

x is (N, C, H, W); bias and weight are (O, M, K), M = C / groups from x, and as many from -x if M is twice that; tau and cotau (O,).
See `varmorph.torch.backend.ops.mixing` for what each function computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from varmorph.kernels.arrays import room, writes_into
from varmorph.kernels.mixing import expectile as expectile_kernel
from varmorph.kernels.mixing import expectile_gradient, maxplus
from varmorph.kernels.mixing import huber as huber_kernel
from varmorph.kernels.mixing import quantile as quantile_kernel
from varmorph.kernels.padded_plane import lines_of
from varmorph.kernels.threads import over_planes
from varmorph.ties import tie_tolerance
from varmorph.windows import Geometry, ShiftedWindow, shifted_window

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

Out = Sequence[np.ndarray] | None
# Samples whose outputs fill a smaller share of the lanes are put side by side, up to about so many lanes.
FILLED, LONG = 0.9, 512
BATCHES = 32  # at most so many sums of the parameters' gradients, whatever the number of threads is


def _by_slot(function: np.ndarray, window: ShiftedWindow) -> np.ndarray:
    """Bring functions (O, M, K) into the order of the slots."""
    return np.ascontiguousarray(function[..., window.elements])


def _by_element(per_batch: np.ndarray, window: ShiftedWindow, like: np.ndarray) -> np.ndarray:
    """Add up (batches, O, M * K) in a fixed order, and bring it into the order of the elements."""
    total = np.empty(like.shape)
    total[..., window.elements] = per_batch.sum(0).reshape(like.shape)
    return total.astype(like.dtype)


def _batches(samples: int) -> tuple[int, int]:
    """Give how many samples are summed together, and how many such batches there are."""
    together = -(-samples // BATCHES) or 1
    return together, -(-samples // together)


class _Layout(NamedTuple):
    """How a kernel sees a batch: a window, and so many samples side by side, pixel beside pixel, that short rows fill its loops.

    Samples (N, A, H, W) become (G, A, H, W * together); zeros fill up the last of the G.
    """

    window: ShiftedWindow
    together: int
    samples: int

    @classmethod
    def of(cls, geometry: Geometry, samples: int) -> _Layout:
        """Choose how many samples stand side by side; the choice depends on no number of threads."""
        window = shifted_window(geometry)
        height, width = window.shape
        lines, length = lines_of(height, width, window.columns.size)
        filled = height * width >= FILLED * lines * length
        most = 1 if filled or not samples else max(1, min(LONG // width, samples))
        parts = -(-samples // most) if samples else 0
        together = -(-samples // parts) if parts else 1
        return cls(window if together == 1 else _widened(window, together), together, samples)

    def result(self, bias: np.ndarray) -> tuple[int, int, int, int]:
        """Give the shape of what an operator with these biases (O, M, K) returns."""
        height, width = self.window.shape
        return self.samples, bias.shape[0], height, width // self.together

    def wide(self, array: np.ndarray) -> np.ndarray:
        """Bring an array (N, A, H, W) into this layout."""
        if self.together == 1:
            return array
        samples, channels, height, width = array.shape
        parts = -(-samples // self.together)
        if parts * self.together != samples:
            missing = np.zeros((parts * self.together - samples, *array.shape[1:]), array.dtype)
            array = np.concatenate((array, missing))
        beside = array.reshape(parts, self.together, channels, height, width).transpose(0, 2, 3, 4, 1)
        return np.ascontiguousarray(beside).reshape(parts, channels, height, width * self.together)

    def room(self, out: Out, number: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Give the array of one result in this layout, from its own shape: `out` itself where that is as it is."""
        if self.together == 1:
            return room(out, number, shape, dtype)
        samples, channels, height, width = shape
        return np.zeros((-(-samples // self.together), channels, height, width * self.together), dtype)

    def narrow(self, found: np.ndarray, out: Out, number: int) -> np.ndarray:
        """Bring a result back, into `out` where that is given."""
        if self.together == 1:
            return found
        parts, shape = len(found), self._narrow_shape(found)
        apart = found.reshape(parts, *shape, self.together).transpose(0, 4, 1, 2, 3)
        result = room(out, number, (self.samples, *shape), found.dtype)
        result[...] = apart.reshape(parts * self.together, *shape)[: self.samples]
        return result

    def wide_pair(self, pair: np.ndarray) -> np.ndarray:
        """Bring two arrays (2, N, A, H, W) into this layout."""
        return pair if self.together == 1 else np.stack([self.wide(array) for array in pair])

    def pair(self, out: Out, number: int, shape: tuple[int, ...]) -> np.ndarray:
        """Give the array of two results in this layout, in int32."""
        if self.together == 1:
            return room(out, number, (2, *shape), np.int32)
        one = self.room(None, 0, shape, np.int32)
        return np.stack((one, one))

    def narrow_pair(self, found: np.ndarray, out: Out, number: int) -> np.ndarray:
        """Bring two results back."""
        if self.together == 1:
            return found
        result = room(out, number, (2, self.samples, *self._narrow_shape(found[0])), found.dtype)
        for place, part in zip(result, found, strict=True):
            self.narrow(part, [place], 0)
        return result

    def _narrow_shape(self, wide: np.ndarray) -> tuple[int, int, int]:
        _, channels, height, width = wide.shape
        return channels, height, width // self.together


@lru_cache(256)
def _widened(window: ShiftedWindow, together: int) -> ShiftedWindow:
    """Give the window over so many samples side by side."""
    columns = np.where(window.columns < 0, -1, window.columns * together)[:, None] + np.arange(together)
    columns = np.where(np.repeat(window.columns, together) < 0, -1, columns.ravel()).astype(window.columns.dtype)
    shape = window.shape[0], window.shape[1] * together
    return replace(window, columns=columns, offsets=window.offsets * together, shape=shape)


def _work(x: np.ndarray, bias: np.ndarray) -> int:
    """Count the edges from each pixel, by which the number of threads is chosen."""
    return x.size * bias.shape[0] * bias.shape[2]


def _where(window: ShiftedWindow, outside: float | None, x: np.ndarray) -> tuple[object, ...]:
    cut = outside is None and window.leaves_image
    return window.rows, window.columns, window.offsets, x.dtype.type(outside or 0.0), cut


@writes_into
def supremum(
    x: np.ndarray,
    bias: np.ndarray,
    groups: int,
    geometry: Geometry,
    outside: float | None,
    sign: int,
    with_slots: bool = True,
    out: Out = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the greatest x + bias, the least for sign -1, and the first slot that attains it, M K where none does.

    Without `with_slots` the second result is empty.
    """
    layout = _Layout.of(geometry, x.shape[0])
    window, x, shape = layout.window, layout.wide(x), layout.result(bias)
    functions = _by_slot(bias, window)
    y = layout.room(out, 0, shape, x.dtype)
    chosen = layout.room(out, 1, shape, np.int32) if with_slots else np.empty((0, 0, 0, 0), np.int32)
    kind, cut = x.dtype.type, outside is None
    beyond = kind(-np.inf if outside is None else outside)

    def run(start: int, stop: int) -> None:
        maxplus.forward(
            x,
            kind(sign),
            functions,
            groups,
            window.rows,
            window.columns,
            window.offsets,
            beyond,
            cut,
            y,
            chosen,
            start,
            stop,
        )

    over_planes(run, x.shape[0] * groups, _work(x, bias))
    return layout.narrow(y, out, 0), layout.narrow(chosen, out, 1) if with_slots else chosen.ravel()


@writes_into
def supremum_backward(
    grad_y: np.ndarray,
    chosen: np.ndarray,
    bias: np.ndarray,
    groups: int,
    signed: bool,
    geometry: Geometry,
    out: Out = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Give each gradient to the pixel and the element that were chosen."""
    layout = _Layout.of(geometry, grad_y.shape[0])
    channels = bias.shape[1] * groups // (2 if signed else 1)
    grad_x = layout.room(out, 0, (grad_y.shape[0], channels, *geometry.image), grad_y.dtype)
    window, grad_y, chosen = layout.window, layout.wide(grad_y), layout.wide(chosen)
    together, batches = _batches(grad_y.shape[0])
    grad_bias = np.zeros((batches, bias.shape[0], bias.shape[1] * bias.shape[2]))

    def run(start: int, stop: int) -> None:
        maxplus.backward(
            grad_y,
            chosen,
            groups,
            window.rows,
            window.columns,
            window.offsets,
            together,
            grad_x,
            grad_bias,
            start,
            stop,
        )

    over_planes(run, batches, grad_y.size)
    return layout.narrow(grad_x, out, 0), _by_element(grad_bias, window, bias)


@writes_into
def expectile(
    x: np.ndarray,
    bias: np.ndarray,
    weight: np.ndarray,
    tau: np.ndarray,
    cotau: np.ndarray,
    groups: int,
    geometry: Geometry,
    outside: float | None,
    out: Out = None,
) -> np.ndarray:
    """Compute the weighted expectiles; edges from beyond the image are absent if `outside` is None."""
    layout = _Layout.of(geometry, x.shape[0])
    window, x = layout.window, layout.wide(x)
    parameters = _by_slot(bias, window), _by_slot(weight, window), tau, cotau
    y = layout.room(out, 0, layout.result(bias), x.dtype)
    where = _where(window, outside, x)

    def run(start: int, stop: int) -> None:
        expectile_kernel.forward(x, *parameters, groups, *where, y, start, stop)

    over_planes(run, x.shape[0] * groups, _work(x, bias))
    return layout.narrow(y, out, 0)


@writes_into
def expectile_backward(
    grad_y: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    bias: np.ndarray,
    weight: np.ndarray,
    tau: np.ndarray,
    cotau: np.ndarray,
    groups: int,
    geometry: Geometry,
    outside: float | None,
    out: Out = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Differentiate implicitly: the gradients of x, bias, weight and tau."""
    layout = _Layout.of(geometry, x.shape[0])
    grad_x = layout.room(out, 0, x.shape, x.dtype)
    window, grad_y, x, y = layout.window, layout.wide(grad_y), layout.wide(x), layout.wide(y)
    parameters = _by_slot(bias, window), _by_slot(weight, window), tau, cotau
    together, batches = _batches(x.shape[0])
    grad_bias, grad_weight = np.zeros((2, batches, bias.shape[0], bias.shape[1] * bias.shape[2]))
    grad_tau = np.zeros((batches, bias.shape[0]))
    where = _where(window, outside, x)

    def run(start: int, stop: int) -> None:
        expectile_gradient.backward(
            grad_y, x, y, *parameters, groups, *where, together, grad_x, grad_bias, grad_weight, grad_tau, start, stop
        )

    over_planes(run, batches, _work(x, bias))
    return (
        layout.narrow(grad_x, out, 0),
        _by_element(grad_bias, window, bias),
        _by_element(grad_weight, window, weight),
        grad_tau.sum(0).astype(tau.dtype),
    )


def _slack(tau: np.ndarray, cotau: np.ndarray) -> np.ndarray:
    """How far from 0 the derivative of an energy may lie and count as 0, in parts of the total weight."""
    return tie_tolerance(tau.dtype == np.float64) * np.minimum(tau, cotau)


@writes_into
def quantile(
    x: np.ndarray,
    bias: np.ndarray,
    weight: np.ndarray,
    tau: np.ndarray,
    cotau: np.ndarray,
    groups: int,
    geometry: Geometry,
    outside: float | None,
    out: Out = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the weighted quantiles, and the slots (2, ...) of the values they lie between, -1 where they are NaN."""
    layout = _Layout.of(geometry, x.shape[0])
    window, x = layout.window, layout.wide(x)
    parameters = _by_slot(bias, window), _by_slot(weight, window), tau, cotau, _slack(tau, cotau)
    y = layout.room(out, 0, layout.result(bias), x.dtype)
    endpoints = layout.pair(out, 1, layout.result(bias))
    where = _where(window, outside, x)

    def run(start: int, stop: int) -> None:
        quantile_kernel.forward(x, *parameters, groups, *where, y, endpoints, start, stop)

    over_planes(run, x.shape[0] * groups, _work(x, bias))
    return layout.narrow(y, out, 0), layout.narrow_pair(endpoints, out, 1)


def quantile_backward(
    grad_y: np.ndarray, endpoints: np.ndarray, bias: np.ndarray, groups: int, signed: bool, geometry: Geometry
) -> tuple[np.ndarray, np.ndarray]:
    """Give each gradient by halves to the two values; weight and level have none."""
    half = grad_y / 2
    first, second = (supremum_backward(half, ends, bias, groups, signed, geometry) for ends in endpoints)
    return first[0] + second[0], first[1] + second[1]


@writes_into
def huber(
    x: np.ndarray,
    bias: np.ndarray,
    weight: np.ndarray,
    tau: np.ndarray,
    cotau: np.ndarray,
    smoothing: np.ndarray,
    groups: int,
    geometry: Geometry,
    outside: float | None,
    out: Out = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the minimisers for Huber's penalty, and the slots (2, ...) at the ends of their flat pieces, -1 elsewhere."""
    layout = _Layout.of(geometry, x.shape[0])
    window, x = layout.window, layout.wide(x)
    parameters = _by_slot(bias, window), _by_slot(weight, window), tau, cotau, smoothing, _slack(tau, cotau)
    y = layout.room(out, 0, layout.result(bias), x.dtype)
    endpoints = layout.pair(out, 1, layout.result(bias))
    where = _where(window, outside, x)

    def run(start: int, stop: int) -> None:
        huber_kernel.forward(x, *parameters, groups, *where, y, endpoints, start, stop)

    over_planes(run, x.shape[0] * groups, _work(x, bias))
    return layout.narrow(y, out, 0), layout.narrow_pair(endpoints, out, 1)


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
    groups: int,
    geometry: Geometry,
    outside: float | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Give the gradients of x, bias, weight, tau and smoothing."""
    on_flat_pieces = quantile_backward(grad_y, endpoints, bias, groups, bias.shape[1] * groups != x.shape[1], geometry)
    layout = _Layout.of(geometry, x.shape[0])
    grad_x = layout.room(None, 0, x.shape, x.dtype)
    window, grad_y, x, y, endpoints = layout.window, *map(layout.wide, (grad_y, x, y)), layout.wide_pair(endpoints)
    parameters = _by_slot(bias, window), _by_slot(weight, window), tau, cotau, smoothing
    together, batches = _batches(x.shape[0])
    grad_bias, grad_weight = np.zeros((2, batches, bias.shape[0], bias.shape[1] * bias.shape[2]))
    grad_tau, grad_smoothing = np.zeros((2, batches, bias.shape[0]))
    where = _where(window, outside, x)

    def run(start: int, stop: int) -> None:
        huber_kernel.backward(
            grad_y, x, y, endpoints, *parameters, groups, *where, together,
            grad_x, grad_bias, grad_weight, grad_tau, grad_smoothing, start, stop,
        )  # fmt: skip

    over_planes(run, batches, _work(x, bias))
    return (
        layout.narrow(grad_x, None, 0) + on_flat_pieces[0],
        _by_element(grad_bias, window, bias) + on_flat_pieces[1],
        _by_element(grad_weight, window, weight),
        grad_tau.sum(0).astype(tau.dtype),
        grad_smoothing.sum(0).astype(smoothing.dtype),
    )
