"""The l_p distance with p finite as an operation: the kernel on the CPU, PyTorch's operations in parts elsewhere."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from varmorph.kernels.distances import distances, gradients
from varmorph.torch.backend.ops.arrays import array_of

__all__ = ["ELEMENTS", "distance_of_power", "distances_in_parts", "gradients_in_parts"]

ELEMENTS = 1 << 24  # differences that a device other than the CPU holds at once


def distance_of_power(columns: Tensor, centres: Tensor, p: int, kept: Tensor | None) -> Tensor:
    """Return the distances (O, M) of positions (K, M) from centres (O, K); ``kept`` (K, M) is 1 or 0."""
    found: Tensor = _Distance.apply(columns, centres, p, kept)
    return found


class _Distance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, columns: Tensor, centres: Tensor, p: int, kept: Tensor | None) -> Tensor:
        columns, centres = columns.contiguous(), centres.contiguous()
        compute = _distances_on_the_cpu if columns.device.type == "cpu" else distances_in_parts
        y = compute(columns, centres, p, kept)
        ctx.save_for_backward(columns, centres, kept, y)
        ctx.p = p
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, Tensor, None, None]:
        if (
            torch.is_grad_enabled()
        ):  # not `once_differentiable`, whose error autograd.grad leaves out, for a derivative of 0
            raise NotImplementedError(
                f"the distance of p = {ctx.p} has first derivatives alone: create_graph must be False"
            )
        columns, centres, kept, y = ctx.saved_tensors
        given = (columns, centres, ctx.p, kept, y, grad_y.contiguous())
        compute = _gradients_on_the_cpu if columns.device.type == "cpu" else gradients_in_parts
        return *compute(*given), None, None


def _distances_on_the_cpu(columns: Tensor, centres: Tensor, p: int, kept: Tensor | None) -> Tensor:
    mask = None if kept is None else array_of(kept)
    return torch.from_numpy(distances(array_of(columns), array_of(centres), p, mask))


def _gradients_on_the_cpu(
    columns: Tensor, centres: Tensor, p: int, kept: Tensor | None, y: Tensor, grad_y: Tensor
) -> tuple[Tensor, Tensor]:
    mask = None if kept is None else array_of(kept)
    found = gradients(array_of(columns), array_of(centres), p, mask, array_of(y), array_of(grad_y))
    return torch.from_numpy(found[0]), torch.from_numpy(found[1])


def distances_in_parts(columns: Tensor, centres: Tensor, p: int, kept: Tensor | None = None) -> Tensor:
    """Compute the distances some outputs at a time, by PyTorch's operations."""
    found, smallest = [], torch.finfo(columns.dtype).tiny
    for some in centres.split(_outputs_at_once(columns)):
        difference = _differences(columns, some, kept).abs_()
        greatest = difference.amax(1)
        powers = difference.div_(greatest.clamp(min=smallest)[:, None]).pow_(p)
        found.append(greatest * powers.sum(1) ** (1 / p))
    return torch.cat(found)


def gradients_in_parts(
    columns: Tensor, centres: Tensor, p: int, kept: Tensor | None, y: Tensor, grad_y: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute the gradients some outputs at a time, by PyTorch's operations."""
    by_columns, by_centres, size = torch.zeros_like(columns), [], _outputs_at_once(columns)
    smallest = torch.finfo(columns.dtype).tiny
    for some, norm, given in zip(centres.split(size), y.split(size), grad_y.split(size), strict=True):
        difference = _differences(columns, some, kept)
        share = difference.abs().div_(norm.clamp(min=smallest)[:, None]).pow_(p - 1)
        by_edge = share.copysign_(difference).mul_(given[:, None])
        by_columns += by_edge.sum(0)
        by_centres.append(-by_edge.sum(2))
    return by_columns, torch.cat(by_centres)


def _differences(columns: Tensor, centres: Tensor, kept: Tensor | None) -> Tensor:
    difference = columns - centres[:, :, None]
    return difference if kept is None else difference.mul_(kept)


def _outputs_at_once(columns: Tensor) -> int:
    return max(1, ELEMENTS // columns.numel())
