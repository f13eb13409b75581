"""The neuron of SortNet: a geometric sum of sorted distances, the mean of the greatest distance over entries kept at random."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from varmorph.torch.backend.ops.distances import ELEMENTS

from .kernels import sorted_sums, sorted_sums_gradients

__all__ = ["sorted_sum"]

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
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, Tensor, None, None]:
        if torch.is_grad_enabled():  # not `once_differentiable`, whose error autograd.grad leaves out
            raise NotImplementedError("sorted sums have first derivatives alone: create_graph must be False")
        columns, centres, weights = (value.detach().numpy() for value in ctx.saved_tensors)
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
