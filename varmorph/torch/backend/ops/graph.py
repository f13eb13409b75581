"""Max-plus dilation and erosion on graphs: features x (B, nodes, F), edges as two lists, bias (edges, F) or (edges, 1)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from varmorph.torch.backend.ops.arrays import on_arrays
from varmorph.torch.backend.ops.calls import call, differentiable, kernel_op

__all__ = ["supremum", "supremum_backward"]


@kernel_op("varmorph::graph_supremum")
def supremum(x: Tensor, bias: Tensor, source: Tensor, target: Tensor, sign: int) -> tuple[Tensor, Tensor]:
    """Compute sign * max(sign * x_s + b) over the edges s -> t into each node, and the first edge that attains it."""
    from varmorph.kernels import graph_maxplus as launcher  # numba is loaded by the first kernel that runs

    return on_arrays(launcher.supremum, x, bias, source, target, sign)


@supremum.register_fake
def _(x: Tensor, bias: Tensor, source: Tensor, target: Tensor, sign: int) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape, dtype=torch.int32)


@kernel_op("varmorph::graph_supremum_backward")
def supremum_backward(
    grad_y: Tensor, chosen: Tensor, bias: Tensor, source: Tensor, target: Tensor, sign: int
) -> tuple[Tensor, Tensor]:
    """Give the gradient of y to the source and the bias of the chosen edge."""
    from varmorph.kernels import graph_maxplus as launcher

    return on_arrays(launcher.supremum_backward, grad_y, chosen, bias, source, target, sign)


@supremum_backward.register_fake
def _(grad_y: Tensor, chosen: Tensor, bias: Tensor, source: Tensor, target: Tensor, sign: int) -> tuple[Tensor, Tensor]:
    return grad_y.new_empty(grad_y.shape), bias.new_empty(bias.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, bias, source, target, ctx.sign = inputs
    ctx.save_for_backward(output[1], bias, source, target)


def _gradient(ctx: Any, grad_y: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    return (*call(supremum_backward, grad_y, *ctx.saved_tensors, ctx.sign), None, None, None)


differentiable(supremum, _keep, _gradient)
