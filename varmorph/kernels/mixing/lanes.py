"""Launchers of the kernels that mix channels.

x is (N, C, H, W); bias and weight are (O, M, K), M = C / groups from x, and as many from -x if M is twice that; tau and cotau (O,).
See `varmorph.torch.backend.ops.mixing` for what each function computes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from varmorph.kernels.arrays import room, writes_into
from varmorph.kernels.mixing import expectile as expectile_kernel
from varmorph.kernels.mixing import expectile_gradient, maxplus
from varmorph.kernels.mixing import huber as huber_kernel
from varmorph.kernels.mixing import quantile as quantile_kernel
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
    window = shifted_window(geometry)
    functions = _by_slot(bias, window)
    y = room(out, 0, (x.shape[0], bias.shape[0], *window.shape), x.dtype)
    chosen = room(out, 1, y.shape, np.int32) if with_slots else np.empty((0, 0, 0, 0), np.int32)
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
    return y, chosen if with_slots else chosen.ravel()


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
    window = shifted_window(geometry)
    channels = bias.shape[1] * groups // (2 if signed else 1)
    grad_x = room(out, 0, (grad_y.shape[0], channels, *geometry.image), grad_y.dtype)
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
    return grad_x, _by_element(grad_bias, window, bias)


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
    window = shifted_window(geometry)
    parameters = _by_slot(bias, window), _by_slot(weight, window), tau, cotau
    y = room(out, 0, (x.shape[0], bias.shape[0], *window.shape), x.dtype)
    where = _where(window, outside, x)

    def run(start: int, stop: int) -> None:
        expectile_kernel.forward(x, *parameters, groups, *where, y, start, stop)

    over_planes(run, x.shape[0] * groups, _work(x, bias))
    return y


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
    window = shifted_window(geometry)
    parameters = _by_slot(bias, window), _by_slot(weight, window), tau, cotau
    grad_x = room(out, 0, x.shape, x.dtype)
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
        grad_x,
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
    window = shifted_window(geometry)
    parameters = _by_slot(bias, window), _by_slot(weight, window), tau, cotau, _slack(tau, cotau)
    y = room(out, 0, (x.shape[0], bias.shape[0], *window.shape), x.dtype)
    endpoints = room(out, 1, (2, *y.shape), np.int32)
    where = _where(window, outside, x)

    def run(start: int, stop: int) -> None:
        quantile_kernel.forward(x, *parameters, groups, *where, y, endpoints, start, stop)

    over_planes(run, x.shape[0] * groups, _work(x, bias))
    return y, endpoints


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
    window = shifted_window(geometry)
    parameters = _by_slot(bias, window), _by_slot(weight, window), tau, cotau, smoothing, _slack(tau, cotau)
    y = room(out, 0, (x.shape[0], bias.shape[0], *window.shape), x.dtype)
    endpoints = room(out, 1, (2, *y.shape), np.int32)
    where = _where(window, outside, x)

    def run(start: int, stop: int) -> None:
        huber_kernel.forward(x, *parameters, groups, *where, y, endpoints, start, stop)

    over_planes(run, x.shape[0] * groups, _work(x, bias))
    return y, endpoints


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
    window = shifted_window(geometry)
    parameters = _by_slot(bias, window), _by_slot(weight, window), tau, cotau, smoothing
    together, batches = _batches(x.shape[0])
    grad_x = np.empty(x.shape, x.dtype)
    grad_bias, grad_weight = np.zeros((2, batches, bias.shape[0], bias.shape[1] * bias.shape[2]))
    grad_tau, grad_smoothing = np.zeros((2, batches, bias.shape[0]))
    where = _where(window, outside, x)

    def run(start: int, stop: int) -> None:
        huber_kernel.backward(
            grad_y, x, y, endpoints, *parameters, groups, *where, together,
            grad_x, grad_bias, grad_weight, grad_tau, grad_smoothing, start, stop,
        )  # fmt: skip

    over_planes(run, batches, _work(x, bias))
    signed = bias.shape[1] * groups != x.shape[1]
    on_flat_pieces = quantile_backward(grad_y, endpoints, bias, groups, signed, geometry)
    return (
        grad_x + on_flat_pieces[0],
        _by_element(grad_bias, window, bias) + on_flat_pieces[1],
        _by_element(grad_weight, window, weight),
        grad_tau.sum(0).astype(tau.dtype),
        grad_smoothing.sum(0).astype(smoothing.dtype),
    )
