"""The values that the edges of a window carry, in plain tensor code."""

from __future__ import annotations

import torch
from torch import Tensor

from varmorph.torch.windows import OUTSIDE, AxisSlots, Window

__all__ = ["edge_values", "inside_image", "per_edge"]


def _take(x: Tensor, slots: AxisSlots, dim: int) -> Tensor:
    """Gather along one axis, pixels outside read as pixel 0; the slots become a leading axis."""
    index = torch.as_tensor(slots.source.clip(min=0), device=x.device)
    taken = x.index_select(dim, index.reshape(-1)).unflatten(dim, tuple(index.shape))
    return taken.movedim(dim - 1, 0)


def inside_image(window: Window, device: torch.device) -> Tensor:
    """Tell which edges start inside the image: (T, 1, 1, height, width)."""
    rows = torch.as_tensor(window.rows.source != OUTSIDE, device=device)
    columns = torch.as_tensor(window.columns.source != OUTSIDE, device=device)
    both = rows[:, None, :, None] & columns[None, :, None, :]
    return both.flatten(0, 1)[:, None, None]


def edge_values(x: Tensor, window: Window, outside: float) -> Tensor:
    """Gather the pixel at the start of each edge: (N, C, H, W) to (T, N, C, height, width), `outside` beyond."""
    rows = _take(x, window.rows, -2)
    values = _take(rows, window.columns, -1).transpose(0, 1).flatten(0, 1)
    if not window.leaves_image:
        return values
    return torch.where(inside_image(window, x.device), values, outside)


def per_edge(parameter: Tensor, window: Window) -> Tensor:
    """Spread a structuring function (C, K) over the edges: (T, 1, C, 1, 1)."""
    elements = torch.as_tensor(window.elements, device=parameter.device)
    return parameter.index_select(1, elements).t()[:, None, :, None, None]
