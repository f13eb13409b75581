"""The neuron of l_p-distance nets, y = ||x - a||_p, with no more memory than its windows and its output take.

Zhang, Cai, Lu, He, Wang (ICML 2021), arXiv 2102.05363; with entries left out, Zhang, Jiang, He, Wang (NeurIPS 2022), arXiv
2210.01787.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from varmorph.torch.backend.ops.distances import distance_of_power
from varmorph.torch.operators.channels import maxplus_conv2d

__all__ = ["distance"]


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
        return distance_of_power(columns, centres, int(p), None if kept is None else kept.to(columns.dtype))
    offsets = torch.cat([-centres, centres], 1)[..., None, None]
    if kept is None:
        return maxplus_conv2d(columns[None, :, None], offsets, signed=True)[0, :, 0]
    seen = torch.cat([columns, -columns]).masked_fill(~torch.cat([kept, kept]), -torch.inf)
    return maxplus_conv2d(seen[None, :, None], offsets)[0, :, 0].clamp(min=0)
