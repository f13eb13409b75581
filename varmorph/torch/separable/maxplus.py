"""Max-plus dilation and erosion over the edges of a window, in plain tensor code."""

from __future__ import annotations

import torch
from torch import Tensor

from varmorph.torch.separable.neighbours import edge_values, per_edge
from varmorph.windows import Window

__all__ = ["supremum"]


def supremum(x: Tensor, bias: Tensor, window: Window, outside: float) -> Tensor:
    """Take the greatest x + bias over each window; the first such edge in row-major order takes the gradient.

    x : (N, C, H, W).  bias : (C, K), -inf leaves the element out.  outside : value beyond the image.
    """
    offset = per_edge(bias, window)
    absent = torch.isneginf(offset)
    values = edge_values(x, window, outside) + offset.masked_fill(absent, 0.0)
    values = values.masked_fill(absent, -torch.inf)
    first = values.detach().max(dim=0, keepdim=True).indices
    greatest = values.gather(0, first).squeeze(0)
    # An empty window, or one of -inf alone, has no edge that could take a gradient.
    return greatest.masked_fill(torch.isneginf(greatest), -torch.inf)
