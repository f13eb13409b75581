"""Two ways to keep the rows of W within a ball of the l1 norm: ||W||_inf <= radius."""

from __future__ import annotations

import torch
from torch import Tensor


def project_rows(weight: Tensor, radius: float) -> Tensor:
    """Return the nearest matrix whose rows have an l1 norm of at most `radius`.

    Parameters
    ----------
    weight : (hidden, hidden)
        Any matrix.
    radius : float
        Radius of the ball, > 0.

    Notes
    -----
    J. Duchi, S. Shalev-Shwartz, Y. Singer, T. Chandra (2008), Efficient projections onto the l1-ball for learning in high
    dimensions, ICML, figure 1.

    Examples
    --------
    >>> project_rows(torch.tensor([[0.8, -0.4], [0.1, 0.2]]), 0.6)
    tensor([[ 0.5000, -0.1000],
            [ 0.1000,  0.2000]])
    """
    size = weight.abs()
    ordered = size.sort(dim=1, descending=True).values
    rank = torch.arange(1, weight.shape[1] + 1, dtype=weight.dtype, device=weight.device)
    excess = (ordered.cumsum(1) - radius) / rank  # the threshold if `rank` entries stay
    staying = (ordered > excess).sum(1, keepdim=True).clamp(min=1)
    threshold = excess.gather(1, staying - 1).clamp(min=0)
    return weight.sign() * (size - threshold).clamp(min=0)


def scale_rows(weight: Tensor, radius: float) -> Tensor:
    """Return the matrix with rows longer than `radius` in the l1 norm scaled to it; differentiable.

    Examples
    --------
    >>> scale_rows(torch.tensor([[0.8, -0.4], [0.1, 0.2]]), 0.6)
    tensor([[ 0.4000, -0.2000],
            [ 0.1000,  0.2000]])
    """
    return weight * (radius / weight.abs().sum(1, keepdim=True).clamp(min=radius))
