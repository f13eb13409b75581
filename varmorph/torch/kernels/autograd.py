"""The kernels as differentiable functions of tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from varmorph.torch.kernels import expectile as expectile_kernel
from varmorph.torch.kernels import expectile_gradient, maxplus
from varmorph.torch.kernels.threads import over_planes
from varmorph.torch.windows import ShiftedWindow

__all__ = ["expectile", "supremum"]


def supremum(x: Tensor, bias: Tensor, window: ShiftedWindow, outside: float, sign: int) -> Tensor:
    """Compute sign * max(sign * x + bias) over each window; bias is (C, K)."""
    return _Supremum.apply(x, bias, window, outside, sign)


def expectile(
    x: Tensor, bias: Tensor, weight: Tensor, level: Tensor, window: ShiftedWindow, outside: float | None
) -> Tensor:
    """Minimise the separable expectile energy; bias and weight are (C, K), level (C,); see `separable.expectile`."""
    return _Expectile.apply(x, bias, weight, torch.sigmoid(level), torch.sigmoid(-level), window, outside)


class _WithoutDerivative(torch.autograd.Function):
    """Gradients that depend on tensors in a way that is not followed any further: saying so beats a silent zero."""

    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.view_as(tensor) for tensor in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        raise RuntimeError(
            "the kernels have first derivatives only; for second derivatives compute the operator"
            " under `with varmorph.torch.backend('tensor')`"
        )


def _first_derivatives(gradients: tuple[Tensor, ...], *sources: Tensor) -> tuple[Tensor, ...]:
    if torch.is_grad_enabled():  # only where the caller asked for a graph of the derivatives
        return _WithoutDerivative.apply(len(gradients), *gradients, *sources)
    return gradients


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _in_slot_order(function: Tensor, window: ShiftedWindow) -> np.ndarray:
    return np.ascontiguousarray(_array(function)[:, window.elements])


def _by_element(per_plane: np.ndarray, window: ShiftedWindow, samples: int, like: Tensor) -> Tensor:
    """Sum over samples, in a fixed order, and return to the order of the structuring function."""
    channels = like.shape[0]
    summed = per_plane.reshape(samples, channels, per_plane.shape[1]).sum(0)
    result = np.empty_like(summed)
    result[:, window.elements] = summed
    return torch.from_numpy(result).to(like.dtype)


class _Supremum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor, window: ShiftedWindow, outside: float, sign: int) -> Tensor:
        image, function = _array(x), _in_slot_order(bias, window)
        samples, channels = x.shape[:2]
        y = np.empty((samples, channels, *window.shape), image.dtype)
        chosen = np.empty(y.shape, np.uint8 if window.offsets.size < 256 else np.int16)
        kind = image.dtype.type

        def run(start: int, stop: int) -> None:
            maxplus.forward(
                image, kind(sign), function, window.rows, window.columns, window.offsets, kind(outside), y, chosen,
                start, stop,
            )  # fmt: skip

        over_planes(run, samples * channels, image.size)
        ctx.save_for_backward(bias)
        ctx.geometry = (window, sign, x.shape, function, chosen)
        return torch.from_numpy(y)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        window, sign, shape, function, chosen = ctx.geometry
        gradient = _array(grad_y)
        samples, channels = shape[:2]
        grad_x = np.empty(shape, gradient.dtype)
        grad_bias = np.zeros((samples * channels, window.offsets.size))

        def run(start: int, stop: int) -> None:
            maxplus.backward(
                gradient, chosen, function, window.rows, window.columns, window.offsets, grad_x, grad_bias, start, stop
            )

        over_planes(run, samples * channels, gradient.size)
        (bias,) = ctx.saved_tensors
        gradients = torch.from_numpy(grad_x), sign * _by_element(grad_bias, window, samples, bias)
        return *_first_derivatives(gradients, grad_y, bias), None, None, None


class _Expectile(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        bias: Tensor,
        weight: Tensor,
        tau: Tensor,
        cotau: Tensor,
        window: ShiftedWindow,
        outside: float | None,
    ) -> Tensor:
        image = _array(x)
        parameters = (_in_slot_order(bias, window), _in_slot_order(weight, window), _array(tau), _array(cotau))
        cut = outside is None and window.leaves_image
        where = (window.rows, window.columns, window.offsets, image.dtype.type(outside or 0.0), cut)
        samples, channels = x.shape[:2]
        y = np.empty((samples, channels, *window.shape), image.dtype)

        def run(start: int, stop: int) -> None:
            expectile_kernel.forward(image, *parameters, *where, y, start, stop)

        over_planes(run, samples * channels, image.size)
        solution = torch.from_numpy(y)
        ctx.save_for_backward(x, bias, weight, solution)
        ctx.geometry = (window, parameters, where)
        return solution

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, bias, weight, solution = ctx.saved_tensors
        window, parameters, where = ctx.geometry
        gradient, image, y = _array(grad_y), _array(x), _array(solution)
        samples, channels = x.shape[:2]
        grad_x = np.empty(x.shape, image.dtype)
        grad_bias, grad_weight = np.zeros((2, samples * channels, window.offsets.size))
        grad_tau = np.zeros(samples * channels)

        def run(start: int, stop: int) -> None:
            expectile_gradient.backward(
                gradient, image, y, *parameters, *where, grad_x, grad_bias, grad_weight, grad_tau, start, stop
            )

        over_planes(run, samples * channels, image.size)
        gradients = (
            torch.from_numpy(grad_x),
            _by_element(grad_bias, window, samples, bias),
            _by_element(grad_weight, window, samples, weight),
            torch.from_numpy(grad_tau.reshape(samples, channels).sum(0)).to(x.dtype),
        )
        return *_first_derivatives(gradients, grad_y, x, bias, weight), None, None, None
