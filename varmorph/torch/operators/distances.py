"""The neuron of l_p-distance nets, y = ||x - a||_p, with no more memory than its windows and its output take.

Zhang, Cai, Lu, He, Wang (ICML 2021), arXiv 2102.05363; with entries left out, Zhang, Jiang, He, Wang (NeurIPS 2022), arXiv
2210.01787.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from varmorph.kernels.distances import distances, gradients
from varmorph.torch.operators.channels import maxplus_conv2d

__all__ = ["ELEMENTS", "distance"]

ELEMENTS = 1 << 24  # differences that a device other than the CPU holds at once


def distance(columns: Tensor, centres: Tensor, p: float, kept: Tensor | None = None) -> Tensor:
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
    kept : (K, M) of bool, optional
        The entries that count; a distance of none is 0. Default all.

    Returns
    -------
    (O, M). The gradient by x_k is sign(x_k - a_k) (|x_k - a_k| / y)^(p - 1); with p infinite that of the first greatest
    difference alone, see `varmorph.torch.maxplus_conv2d`.

    Raises
    ------
    NotImplementedError
        If a second derivative is asked for, with p finite.

    Examples
    --------
    >>> distance(torch.tensor([[3.0], [4.0]]), torch.zeros(1, 2), 2)
    tensor([[5.]])
    """
    if not math.isinf(p):
        found: Tensor = _Distance.apply(columns, centres, int(p), None if kept is None else kept.to(columns.dtype))
        return found
    offsets = torch.cat([-centres, centres], 1)[..., None, None]
    if kept is None:
        return maxplus_conv2d(columns[None, :, None], offsets, signed=True)[0, :, 0]
    seen = torch.cat([columns, -columns]).masked_fill(~torch.cat([kept, kept]), -torch.inf)
    return maxplus_conv2d(seen[None, :, None], offsets)[0, :, 0].clamp(min=0)


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
    mask = None if kept is None else kept.numpy()
    return torch.from_numpy(distances(columns.detach().numpy(), centres.detach().numpy(), p, mask))


def _gradients_on_the_cpu(
    columns: Tensor, centres: Tensor, p: int, kept: Tensor | None, y: Tensor, grad_y: Tensor
) -> tuple[Tensor, Tensor]:
    mask = None if kept is None else kept.numpy()
    arrays = (value.detach().numpy() for value in (y, grad_y))
    found = gradients(columns.detach().numpy(), centres.detach().numpy(), p, mask, *arrays)
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
