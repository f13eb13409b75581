"""The window operators on the CPU where nothing but autograd watches: one step from tensors to the kernel and back.

They do what the ops of `varmorph.torch.backend.ops.window` do, without the way through plain numbers, and with the shapes and the
level that the operators have: on small images that way costs more than the kernel. Second derivatives are those of the ops.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from varmorph.torch.backend.ops import window as ops
from varmorph.torch.backend.ops.calls import call
from varmorph.windows import Geometry

__all__ = ["expectile", "supremum"]


def supremum(x: Tensor, bias: Tensor, geometry: Geometry, outside: float | None, raised: int, learning: bool) -> Tensor:
    """Compute max(x + bias) over each window, min(x - bias) for channels from `raised` on; bias is (C, kh, kw)."""
    if not learning:
        return ops.run("supremum", "cpu", geometry, x, bias.flatten(1), geometry, outside, raised, False)[0]
    y: Tensor = _Supremum.apply(x, bias, geometry, outside, raised)
    return y


class _Supremum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor, geometry: Geometry, outside: float | None, raised: int) -> Tensor:
        y, chosen = ops.run("supremum", "cpu", geometry, x, bias.flatten(1), geometry, outside, raised, True)
        ctx.save_for_backward(chosen, bias)
        ctx.plain = x.shape, geometry, raised
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        chosen, bias = ctx.saved_tensors
        shape, geometry, raised = ctx.plain
        if torch.is_grad_enabled():
            plain = raised, "cpu", shape, *ops.as_plain_numbers(geometry)
            by_x, by_bias = call(ops.supremum_backward, grad_y, chosen, bias.flatten(1), *plain)
        else:
            arrays = grad_y, chosen, bias.flatten(1)
            by_x, by_bias = ops.run("supremum_backward", "cpu", geometry, *arrays, geometry, raised)
        return by_x, by_bias.view_as(bias), None, None, None


def expectile(
    x: Tensor, bias: Tensor, weight: Tensor, level: Tensor, geometry: Geometry, outside: float | None
) -> Tensor:
    """Compute the weighted expectile of each window; bias and weight are (C, kh, kw), level (C,) the logit of tau."""
    y: Tensor = _Expectile.apply(x, bias, weight, level, geometry, outside)
    return y


class _Expectile(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, bias: Tensor, weight: Tensor, level: Tensor, geometry: Geometry, outside: float | None
    ) -> Tensor:
        arrays = x, *_parameters(bias, weight, level)
        y: Tensor = ops.run("expectile", "cpu", geometry, *arrays, geometry, outside)
        ctx.save_for_backward(x, y, bias, weight, level)
        ctx.plain = geometry, outside
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, y, *given = ctx.saved_tensors
        geometry, outside = ctx.plain
        arrays = grad_y, x, y, *_parameters(*given)
        if torch.is_grad_enabled():
            plain = outside, "cpu", *ops.as_plain_numbers(geometry)
            by_x, by_bias, by_weight, by_tau = call(ops.expectile_backward, *arrays, *plain)
        else:
            found = ops.run("expectile_backward", "cpu", geometry, *arrays, geometry, outside)
            by_x, by_bias, by_weight, by_tau = found
        bias, weight, _ = given
        by_level = by_tau * (arrays[5] * arrays[6])
        return by_x, by_bias.view_as(bias), by_weight.view_as(weight), by_level, None, None


def _parameters(bias: Tensor, weight: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return bias.flatten(1), weight.flatten(1), torch.sigmoid(level), torch.sigmoid(-level)
