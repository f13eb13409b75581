"""Geodesic reconstruction by compiled CPU code; see `varmorph.torch.operators.geodesic` for what it is.

Images are (N, C, H, W) and of one dtype with `bias` (C, kh, kw). `sign` is 1 by dilation, -1 by erosion.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from varmorph.torch.backend.ops.arrays import on_arrays
from varmorph.torch.backend.ops.calls import call, differentiable, kernel_op

__all__ = ["reconstruction", "reconstruction_backward"]


@kernel_op("varmorph::reconstruction", device_types="cpu")
def reconstruction(marker: Tensor, mask: Tensor, bias: Tensor, sign: int) -> Tensor:
    """Reconstruct a mask from a marker."""
    from varmorph.kernels import reconstruction as launcher  # numba is loaded by the first kernel that runs

    return on_arrays(launcher.reconstruction, marker, mask, bias, sign)


@reconstruction.register_fake
def _(marker: Tensor, mask: Tensor, bias: Tensor, sign: int) -> Tensor:
    return mask.new_empty(mask.shape)


@kernel_op("varmorph::reconstruction_backward", device_types="cpu")
def reconstruction_backward(
    grad_y: Tensor, marker: Tensor, mask: Tensor, y: Tensor, bias: Tensor, sign: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Give the gradient of each pixel to the pixel of marker or mask it is a copy of, and to bias along the way."""
    from varmorph.kernels import reconstruction_gradient as launcher

    return on_arrays(launcher.reconstruction_backward, grad_y, marker, mask, y, bias, sign)


@reconstruction_backward.register_fake
def _(
    grad_y: Tensor, marker: Tensor, mask: Tensor, y: Tensor, bias: Tensor, sign: int
) -> tuple[Tensor, Tensor, Tensor]:
    return mask.new_empty(mask.shape), mask.new_empty(mask.shape), bias.new_empty(bias.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    marker, mask, bias, ctx.sign = inputs
    ctx.save_for_backward(marker, mask, output, bias)


def _gradient(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
    return (*call(reconstruction_backward, grad_y, *ctx.saved_tensors, ctx.sign), None)


differentiable(reconstruction, _keep, _gradient)
