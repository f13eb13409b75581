"""The neuron of l_p-distance nets, y = ||x - a||_p, with no more memory than its windows and its output take."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from varmorph.torch import maxplus_conv2d

from .kernels import distances, gradients

__all__ = ["distance"]

ELEMENTS = 1 << 24  # differences that a device other than the CPU holds at once


def distance(columns: Tensor, centres: Tensor, p: float) -> Tensor:
    """Return the l_p distances of positions from centres; differentiable once, in both.

    Parameters
    ----------
    columns : (K, M)
        What M positions see.
    centres : (O, K)
        One row for each output.
    p : float
        An integer above 1, or infinity. Differences are divided by the greatest one, so that their powers do not overflow and
        never vanish all.

    Returns
    -------
    (O, M). The gradient by x_k is sign(x_k - a_k) (|x_k - a_k| / y)^(p - 1); with p infinite that of the first greatest
    difference alone, see `varmorph.torch.maxplus_conv2d`.

    Examples
    --------
    >>> distance(torch.tensor([[3.0], [4.0]]), torch.zeros(1, 2), 2)
    tensor([[5.]])
    """
    if math.isinf(p):
        offsets = torch.cat([-centres, centres], 1)[..., None, None]
        return maxplus_conv2d(columns[None, :, None], offsets, signed=True)[0, :, 0]
    found: Tensor = _Distance.apply(columns, centres, int(p))
    return found


class _Distance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, columns: Tensor, centres: Tensor, p: int) -> Tensor:
        columns, centres = columns.contiguous(), centres.contiguous()
        compute = _distances_on_the_cpu if columns.device.type == "cpu" else distances_in_parts
        y = compute(columns, centres, p)
        ctx.save_for_backward(columns, centres, y)
        ctx.p = p
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, Tensor, None]:
        columns, centres, y = ctx.saved_tensors
        given = (columns, centres, ctx.p, y, grad_y.contiguous())
        compute = _gradients_on_the_cpu if columns.device.type == "cpu" else gradients_in_parts
        return *compute(*given), None


def _distances_on_the_cpu(columns: Tensor, centres: Tensor, p: int) -> Tensor:
    return torch.from_numpy(distances(columns.detach().numpy(), centres.detach().numpy(), p))


def _gradients_on_the_cpu(columns: Tensor, centres: Tensor, p: int, y: Tensor, grad_y: Tensor) -> tuple[Tensor, Tensor]:
    found = gradients(columns.numpy(), centres.numpy(), p, y.numpy(), grad_y.numpy())
    return torch.from_numpy(found[0]), torch.from_numpy(found[1])


def distances_in_parts(columns: Tensor, centres: Tensor, p: int) -> Tensor:
    """Compute the distances some outputs at a time, by PyTorch's operations."""
    found, smallest = [], torch.finfo(columns.dtype).tiny
    for some in centres.split(_outputs_at_once(columns)):
        difference = (columns - some[:, :, None]).abs_()
        greatest = difference.amax(1)
        powers = difference.div_(greatest.clamp(min=smallest)[:, None]).pow_(p)
        found.append(greatest * powers.sum(1) ** (1 / p))
    return torch.cat(found)


def gradients_in_parts(columns: Tensor, centres: Tensor, p: int, y: Tensor, grad_y: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the gradients some outputs at a time, by PyTorch's operations."""
    by_columns, by_centres, size = torch.zeros_like(columns), [], _outputs_at_once(columns)
    smallest = torch.finfo(columns.dtype).tiny
    for some, distance, given in zip(centres.split(size), y.split(size), grad_y.split(size), strict=True):
        difference = columns - some[:, :, None]
        share = difference.abs().div_(distance.clamp(min=smallest)[:, None]).pow_(p - 1)
        by_edge = share.copysign_(difference).mul_(given[:, None])
        by_columns += by_edge.sum(0)
        by_centres.append(-by_edge.sum(2))
    return by_columns, torch.cat(by_centres)


def _outputs_at_once(columns: Tensor) -> int:
    return max(1, ELEMENTS // columns.numel())
