"""The neuron of SortNet: a geometric sum of sorted distances, and the maximum over entries kept at random that has it as its mean."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from varmorph.torch import maxplus_conv2d

from .kernels import distances, gradients, sorted_sums, sorted_sums_gradients

__all__ = ["kept_distance", "sorted_sum"]

ELEMENTS = 1 << 24  # differences that a device other than the CPU holds at once
SMALLEST = 2.0**-24  # the weights that are left out sum to less


def sorted_sum(columns: Tensor, centres: Tensor, rho: float) -> Tensor:
    """Return the sum of (1 - rho) rho^(i - 1) times the i-th greatest |x - a|, for positions and centres.

    The sum ends where rho^i falls below `SMALLEST`, so that the weights sum to a little less than 1, the same in float32 and in
    float64. Differentiable once; nothing of it is kept for the gradient.

    Parameters
    ----------
    columns : (K, M)
        What M positions see.
    centres : (O, K)
        One row for each output.
    rho : float
        In [0, 1); 0 gives the sup-norm distance.

    Returns
    -------
    (O, M).

    Examples
    --------
    >>> sorted_sum(torch.tensor([[3.0], [4.0]]), torch.zeros(1, 2), 0.5)
    tensor([[2.7500]])
    """
    count = min(columns.shape[0], math.ceil(math.log(SMALLEST) / math.log(rho)) if rho > 0 else 1)
    weights = (1 - rho) * rho ** torch.arange(count, dtype=columns.dtype, device=columns.device)
    if columns.device.type == "cpu":
        found: Tensor = _SortedSum.apply(columns, centres, weights, rho)
        return found
    return sorted_sum_in_parts(columns, centres, weights)


class _SortedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, columns: Tensor, centres: Tensor, weights: Tensor, rho: float) -> Tensor:
        columns, centres = columns.contiguous(), centres.contiguous()
        ctx.save_for_backward(columns, centres, weights)
        ctx.rho = rho
        return torch.from_numpy(sorted_sums(columns.detach().numpy(), centres.detach().numpy(), weights.numpy()))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, Tensor, None, None]:
        columns, centres, weights = (value.numpy() for value in ctx.saved_tensors)
        found = sorted_sums_gradients(columns, centres, weights, ctx.rho, grad_y.contiguous().numpy())
        return torch.from_numpy(found[0]), torch.from_numpy(found[1]), None, None


def sorted_sum_in_parts(columns: Tensor, centres: Tensor, weights: Tensor) -> Tensor:
    """Compute the sums some outputs at a time, for the gradient again, by PyTorch's operations."""
    parts = centres.split(max(1, ELEMENTS // columns.numel()))
    if not torch.is_grad_enabled():
        return torch.cat([_sorted_sum(columns, some, weights) for some in parts])
    return torch.cat([checkpoint(_sorted_sum, columns, some, weights, use_reentrant=False) for some in parts])


def _sorted_sum(columns: Tensor, centres: Tensor, weights: Tensor) -> Tensor:
    greatest: Tensor = (columns.T - centres[:, None]).abs().topk(len(weights)).values  # (O, M, count)
    return greatest @ weights


def kept_distance(columns: Tensor, kept: Tensor, centres: Tensor, p: float) -> Tensor:
    """Return the l_p norms of the entries of x - a that are kept; 0 where none is. Differentiable once.

    Parameters
    ----------
    columns : (K, M)
        What M positions see.
    kept : (K, M)
        Of bool. If each is true with probability 1 - rho, the mean for p infinite is `sorted_sum`.
    centres : (O, K)
        One row for each output.
    p : float
        An integer above 1, or infinity.

    Returns
    -------
    (O, M).
    """
    if math.isinf(p):
        seen = torch.cat([columns, -columns]).masked_fill(~torch.cat([kept, kept]), -torch.inf)
        offsets = torch.cat([-centres, centres], 1)[..., None, None]
        return maxplus_conv2d(seen[None, :, None], offsets)[0, :, 0].clamp(min=0)
    found: Tensor = _Distance.apply(columns, kept.to(columns.dtype), centres, int(p))
    return found


class _Distance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, columns: Tensor, kept: Tensor, centres: Tensor, p: int) -> Tensor:
        columns, kept, centres = columns.contiguous(), kept.contiguous(), centres.contiguous()
        compute = _distances_on_the_cpu if columns.device.type == "cpu" else distances_in_parts
        y = compute(columns, kept, centres, p)
        ctx.save_for_backward(columns, kept, centres, y)
        ctx.p = p
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, None, Tensor, None]:
        columns, kept, centres, y = ctx.saved_tensors
        given = (columns, kept, centres, ctx.p, y, grad_y.contiguous())
        compute = _gradients_on_the_cpu if columns.device.type == "cpu" else gradients_in_parts
        by_columns, by_centres = compute(*given)
        return by_columns, None, by_centres, None


def _distances_on_the_cpu(columns: Tensor, kept: Tensor, centres: Tensor, p: int) -> Tensor:
    return torch.from_numpy(distances(columns.detach().numpy(), kept.numpy(), centres.detach().numpy(), p))


def _gradients_on_the_cpu(
    columns: Tensor, kept: Tensor, centres: Tensor, p: int, y: Tensor, grad_y: Tensor
) -> tuple[Tensor, Tensor]:
    found = gradients(columns.numpy(), kept.numpy(), centres.numpy(), p, y.numpy(), grad_y.numpy())
    return torch.from_numpy(found[0]), torch.from_numpy(found[1])


def distances_in_parts(columns: Tensor, kept: Tensor, centres: Tensor, p: int) -> Tensor:
    """Compute the distances some outputs at a time, by PyTorch's operations."""
    found, smallest = [], torch.finfo(columns.dtype).tiny
    for some in centres.split(max(1, ELEMENTS // columns.numel())):
        difference = (columns - some[:, :, None]).abs_().mul_(kept)
        greatest = difference.amax(1)
        powers = difference.div_(greatest.clamp(min=smallest)[:, None]).pow_(p)
        found.append(greatest * powers.sum(1) ** (1 / p))
    return torch.cat(found)


def gradients_in_parts(
    columns: Tensor, kept: Tensor, centres: Tensor, p: int, y: Tensor, grad_y: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute the gradients some outputs at a time, by PyTorch's operations."""
    by_columns, by_centres, size = torch.zeros_like(columns), [], max(1, ELEMENTS // columns.numel())
    smallest = torch.finfo(columns.dtype).tiny
    for some, distance, given in zip(centres.split(size), y.split(size), grad_y.split(size), strict=True):
        difference = (columns - some[:, :, None]).mul_(kept)
        share = difference.abs().div_(distance.clamp(min=smallest)[:, None]).pow_(p - 1)
        by_edge = share.copysign_(difference).mul_(given[:, None])
        by_columns += by_edge.sum(0)
        by_centres.append(-by_edge.sum(2))
    return by_columns, torch.cat(by_centres)
