"""Launchers of the separable CPU kernels that work on lanes, for windows with the same shifts at every pixel.

`bias` and `weight` are (C, K); see `varmorph.torch.backend.ops.window` for what each function computes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from varmorph.kernels.arrays import by_element, by_slot, over_samples, room, signed_outside, writes_into
from varmorph.kernels.threads import over_planes
from varmorph.kernels.window import expectile as expectile_kernel
from varmorph.kernels.window import expectile_gradient, interleaved_expectile, interleaved_maxplus, maxplus
from varmorph.kernels.window.flat import rows_of_slots
from varmorph.kernels.window.interleaved import Bundles, bundles_of
from varmorph.windows import Geometry, ShiftedWindow, shifted_window

__all__ = ["expectile", "expectile_backward", "supremum", "supremum_backward"]

Out = Sequence[np.ndarray] | None


@writes_into
def supremum(
    x: np.ndarray,
    bias: np.ndarray,
    geometry: Geometry,
    outside: float | None,
    raised: int,
    with_slots: bool = True,
    out: Out = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the greatest x + bias, of channels from `raised` on the least x - bias, and the first slot that attains it.

    Where none does, the number of slots is given. Edges from beyond the image are absent if `outside` is None. Without `with_slots` the second result is empty.
    """
    window = shifted_window(geometry)
    function = by_slot(bias, window.elements)
    samples, channels = x.shape[:2]
    y = room(out, 0, (samples, channels, *window.shape), x.dtype)
    numbers = np.uint8 if window.offsets.size < 256 else np.int32
    chosen = room(out, 1, y.shape, numbers) if with_slots else np.empty((0, 0, 0, 0), numbers)
    grid = rows_of_slots(window.offsets, geometry.size, with_slots)
    beyond = signed_outside(outside, x.dtype)
    bundles = _bundles(x.shape, function, window) if grid == 0 else None
    if bundles is not None:
        images, found, slots = _flat(x), _flat(y), _flat(chosen) if with_slots else np.empty((0, 0), numbers)

        def run_bundles(start: int, stop: int) -> None:
            interleaved_maxplus.forward(
                images, x.shape[3], raised, function, window.rows, window.columns, window.offsets, beyond, found,
                slots, y.shape[3], bundles.planes, bundles.columns, start, stop,
            )  # fmt: skip

        over_planes(run_bundles, bundles.number, x.size)
        return y, chosen if with_slots else chosen.ravel()

    def run(start: int, stop: int) -> None:
        maxplus.forward(
            x, raised, function, window.rows, window.columns, window.offsets, grid, beyond, y, chosen,
            start, stop,
        )  # fmt: skip

    over_planes(run, samples * channels, x.size)
    return y, chosen if with_slots else chosen.ravel()


@writes_into
def supremum_backward(
    grad_y: np.ndarray, chosen: np.ndarray, bias: np.ndarray, geometry: Geometry, raised: int, out: Out = None
) -> tuple[np.ndarray, np.ndarray]:
    """Give each gradient to the pixel and the element that were chosen."""
    window = shifted_window(geometry)
    function = by_slot(bias, window.elements)
    samples, channels = grad_y.shape[:2]
    grad_x = room(out, 0, (samples, channels, *geometry.image), grad_y.dtype)
    grad_bias = np.zeros((samples * channels, window.offsets.size))
    bundles = _bundles(grad_x.shape, function, window)
    if bundles is None:

        def run(start: int, stop: int) -> None:
            maxplus.backward(
                grad_y, chosen, function, window.rows, window.columns, window.offsets, grad_x, grad_bias, start, stop
            )

        over_planes(run, samples * channels, grad_y.size)
    else:
        given, slots, found = map(_flat, (grad_y, chosen, grad_x))
        layout = grad_y.shape[3], bundles.planes, bundles.columns

        def run_bundles(start: int, stop: int) -> None:
            interleaved_maxplus.backward(
                given, slots, geometry.image[1], window.rows, window.columns, window.offsets, *layout, found, grad_bias,
                start, stop,
            )  # fmt: skip

        over_planes(run_bundles, bundles.number, grad_y.size)
    sums = by_element(grad_bias, window.elements, samples, bias)
    np.negative(sums[raised:], out=sums[raised:])
    return grad_x, sums


@writes_into
def expectile(
    x: np.ndarray,
    bias: np.ndarray,
    weight: np.ndarray,
    tau: np.ndarray,
    cotau: np.ndarray,
    geometry: Geometry,
    outside: float | None,
    out: Out = None,
) -> np.ndarray:
    """Compute the weighted expectile of each window; edges from beyond the image are absent if `outside` is None."""
    window = shifted_window(geometry)
    samples, channels = x.shape[:2]
    y = room(out, 0, (samples, channels, *window.shape), x.dtype)
    parameters = (by_slot(bias, window.elements), by_slot(weight, window.elements), tau, cotau)
    where = _where(window, outside, x)
    bundles = _bundles(x.shape, bias, window)
    if bundles is None:

        def run(start: int, stop: int) -> None:
            expectile_kernel.forward(x, *parameters, *where, y, start, stop)

        over_planes(run, samples * channels, x.size)
        return y
    images, found, layout = _flat(x), _flat(y), (y.shape[3], bundles.planes, bundles.columns)

    def run_bundles(start: int, stop: int) -> None:
        interleaved_expectile.forward(images, x.shape[3], *parameters, *where, found, *layout, start, stop)

    over_planes(run_bundles, bundles.number, x.size)
    return y


def _bundles(shape: Sequence[int], bias: np.ndarray, window: ShiftedWindow) -> Bundles | None:
    """Choose bundles where planes are small, and every channel keeps all its elements."""
    chosen = bundles_of(shape[0], shape[1], window.rows.size * window.columns.size)
    return None if chosen is None or np.isneginf(bias).any() else chosen


def _flat(images: np.ndarray) -> np.ndarray:
    """Lay out images plane by plane, pixel by pixel."""
    return images.reshape(images.shape[0] * images.shape[1], -1)


def _where(window: ShiftedWindow, outside: float | None, x: np.ndarray) -> tuple[object, ...]:
    cut = outside is None and window.leaves_image
    return window.rows, window.columns, window.offsets, x.dtype.type(outside or 0.0), cut


@writes_into
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
    out: Out = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Differentiate implicitly: the gradients of x, bias, weight and tau."""
    window = shifted_window(geometry)
    samples, channels = x.shape[:2]
    parameters = (by_slot(bias, window.elements), by_slot(weight, window.elements), tau, cotau)
    where = _where(window, outside, x)
    grad_x = room(out, 0, x.shape, x.dtype)
    grad_bias, grad_weight = np.zeros((2, samples * channels, window.offsets.size))
    grad_tau = np.zeros(samples * channels)
    sums = grad_bias, grad_weight, grad_tau
    bundles = _bundles(x.shape, bias, window)
    if bundles is None:

        def run(start: int, stop: int) -> None:
            expectile_gradient.backward(grad_y, x, y, *parameters, *where, grad_x, *sums, start, stop)

        over_planes(run, samples * channels, x.size)
    else:
        images, found = tuple(map(_flat, (grad_y, x, y))), _flat(grad_x)
        layout = y.shape[3], bundles.planes, bundles.columns

        def run_bundles(start: int, stop: int) -> None:
            interleaved_expectile.backward(*images, x.shape[3], *parameters, *where, *layout, found, *sums, start, stop)

        over_planes(run_bundles, bundles.number, x.size)
    return (
        grad_x,
        by_element(grad_bias, window.elements, samples, bias),
        by_element(grad_weight, window.elements, samples, weight),
        over_samples(grad_tau, samples, tau),
    )
