"""Launchers of the separable CPU kernels that work on lanes, for windows with the same shifts at every pixel.

`bias` and `weight` are (C, K); see `varmorph.torch.ops.window` for what each function computes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from varmorph.torch.kernels.cpu.arrays import array_of, by_element, by_slot
from varmorph.torch.kernels.cpu.threads import over_planes
from varmorph.torch.kernels.cpu.window import expectile as expectile_kernel
from varmorph.torch.kernels.cpu.window import expectile_gradient, maxplus
from varmorph.torch.kernels.cpu.window.flat import rows_of_slots
from varmorph.torch.windows import Geometry, ShiftedWindow, shifted_window

__all__ = ["expectile", "expectile_backward", "supremum", "supremum_backward"]


def supremum(
    x: Tensor, bias: Tensor, geometry: Geometry, outside: float, sign: int, with_slots: bool = True
) -> tuple[Tensor, Tensor]:
    """Compute sign * max(sign * x + bias) and the first slot that attains it, the number of slots where none does.

    Without `with_slots` the second result is empty.
    """
    window = shifted_window(*geometry)
    image, function = array_of(x), by_slot(bias, window.elements)
    samples, channels = x.shape[:2]
    y = np.empty((samples, channels, *window.shape), image.dtype)
    chosen = np.empty(y.shape if with_slots else (0, 0, 0, 0), np.uint8 if window.offsets.size < 256 else np.int32)
    grid = rows_of_slots(window.offsets, geometry[1], with_slots)
    kind = image.dtype.type

    def run(start: int, stop: int) -> None:
        maxplus.forward(
            image, kind(sign), function, window.rows, window.columns, window.offsets, grid, kind(outside), y, chosen,
            start, stop,
        )  # fmt: skip

    over_planes(run, samples * channels, image.size)
    return torch.from_numpy(y), torch.from_numpy(chosen if with_slots else chosen.ravel())


def supremum_backward(
    grad_y: Tensor, chosen: Tensor, bias: Tensor, geometry: Geometry, sign: int
) -> tuple[Tensor, Tensor]:
    """Give each gradient to the pixel and the element that were chosen."""
    window = shifted_window(*geometry)
    gradient, slots, function = array_of(grad_y), array_of(chosen), by_slot(bias, window.elements)
    samples, channels = grad_y.shape[:2]
    grad_x = np.empty((samples, channels, *geometry[0]), gradient.dtype)
    grad_bias = np.zeros((samples * channels, window.offsets.size))

    def run(start: int, stop: int) -> None:
        maxplus.backward(
            gradient, slots, function, window.rows, window.columns, window.offsets, grad_x, grad_bias, start, stop
        )

    over_planes(run, samples * channels, gradient.size)
    sums = by_element(grad_bias, window.elements, samples, bias)
    return torch.from_numpy(grad_x), sums if sign > 0 else -sums


def expectile(
    x: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor, geometry: Geometry, outside: float | None
) -> Tensor:
    """Compute the weighted expectile of each window; edges from beyond the image are absent if `outside` is None."""
    window = shifted_window(*geometry)
    image = array_of(x)
    samples, channels = x.shape[:2]
    y = np.empty((samples, channels, *window.shape), image.dtype)
    parameters = (by_slot(bias, window.elements), by_slot(weight, window.elements), array_of(tau), array_of(cotau))
    where = _where(window, outside, image)

    def run(start: int, stop: int) -> None:
        expectile_kernel.forward(image, *parameters, *where, y, start, stop)

    over_planes(run, samples * channels, image.size)
    return torch.from_numpy(y)


def _where(window: ShiftedWindow, outside: float | None, image: np.ndarray) -> tuple[object, ...]:
    cut = outside is None and window.leaves_image
    return window.rows, window.columns, window.offsets, image.dtype.type(outside or 0.0), cut


def expectile_backward(
    grad_y: Tensor,
    x: Tensor,
    y: Tensor,
    bias: Tensor,
    weight: Tensor,
    tau: Tensor,
    cotau: Tensor,
    geometry: Geometry,
    outside: float | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Differentiate implicitly: the gradients of x, bias, weight and tau."""
    window = shifted_window(*geometry)
    gradient, image, solution = array_of(grad_y), array_of(x), array_of(y)
    samples, channels = x.shape[:2]
    parameters = (by_slot(bias, window.elements), by_slot(weight, window.elements), array_of(tau), array_of(cotau))
    where = _where(window, outside, image)
    grad_x = np.empty(x.shape, image.dtype)
    grad_bias, grad_weight = np.zeros((2, samples * channels, window.offsets.size))
    grad_tau = np.zeros(samples * channels)

    def run(start: int, stop: int) -> None:
        expectile_gradient.backward(
            gradient, image, solution, *parameters, *where, grad_x, grad_bias, grad_weight, grad_tau, start, stop
        )

    over_planes(run, samples * channels, image.size)
    return (
        torch.from_numpy(grad_x),
        by_element(grad_bias, window.elements, samples, bias),
        by_element(grad_weight, window.elements, samples, weight),
        torch.from_numpy(grad_tau.reshape(samples, channels).sum(0)).to(x.dtype),
    )
