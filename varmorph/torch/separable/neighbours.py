"""Structuring functions, and the values that the edges of a window carry, in plain tensor code."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from varmorph.torch.backend.compilation import constant_when_compiled
from varmorph.windows import OUTSIDE, AxisSlots, Geometry, Window, window

__all__ = [
    "add_at_sources",
    "edge_values",
    "edges_of",
    "flat_neighbourhood",
    "flat_shifts",
    "inside_image",
    "negative_offsets",
    "per_edge",
    "signs_of",
    "window_pulls",
]


@constant_when_compiled
def _edges_of(*fields: Any) -> Window:
    return window(Geometry(*fields))


def edges_of(geometry: Geometry) -> Window:
    """List the edges of a window operator; they are constants of code that is traced."""
    return _edges_of(*geometry)  # a function whose result is a constant would get an empty named tuple


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


def window_pulls(
    x: Tensor, bias: Tensor, weight: Tensor, window: Window, outside: float | None
) -> tuple[Tensor, Tensor]:
    """List what pulls each pixel: values x + b (T, N, C, H, W), and weights broadcastable to them, 0 for absent edges.

    x : (N, C, H, W).  bias, weight : (C, K).
    outside : value beyond the image, or None where edges from beyond the image are absent.
    """
    offset = per_edge(bias, window)
    absent = torch.isneginf(offset)
    values = edge_values(x, window, 0.0 if outside is None else outside)
    values = (values + offset.masked_fill(absent, 0.0)).masked_fill(absent, 0.0)
    weights = per_edge(weight, window).masked_fill(absent, 0.0)
    if outside is None and window.leaves_image:
        weights = weights * inside_image(window, x.device)
    return values, weights


def _give_back(e: Tensor, slots: AxisSlots, dim: int, length: int) -> Tensor:
    """Add up along one axis what `_take` has read; the leading axis of slots is summed over."""
    index = torch.as_tensor(slots.source.clip(min=0), device=e.device).reshape(-1)
    lines = e.movedim(0, dim - 1).flatten(dim - 1, dim)
    shape = list(lines.shape)
    shape[dim] = length
    return lines.new_zeros(shape).index_add(dim, index, lines)


def add_at_sources(e: Tensor, window: Window, image: tuple[int, int]) -> Tensor:
    """Add up, for each pixel, the numbers on the edges that start there: the adjoint of `edge_values`.

    (T, N, C, height, width) to (N, C, H, W); what comes from beyond the image is left out.
    """
    if window.leaves_image:
        e = torch.where(inside_image(window, e.device), e, 0.0)
    slots = e.unflatten(0, (window.rows.source.shape[0], window.columns.source.shape[0]))
    lines = _give_back(slots.transpose(0, 1), window.columns, -1, image[1])
    return _give_back(lines, window.rows, -2, image[0])


def flat_neighbourhood(connectivity: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Build the flat structuring function (3, 3) of a pixel and its 4 or 8 neighbours: 0, and -inf at those left out."""
    flat = torch.zeros(3, 3, dtype=dtype, device=device)
    if connectivity == 4:
        flat[::2, ::2] = -torch.inf
    return flat


def flat_shifts(size: tuple[int, int], width: int, device: torch.device) -> Tensor:
    """Say how far from its pixel each element of a window lies (kh * kw,), in an image of this width laid out flat."""
    rows, columns = (torch.arange(length, device=device) - length // 2 for length in size)
    return (rows[:, None] * width + columns).flatten()


def signs_of(channels: int, raised: int, like: Tensor) -> Tensor:
    """Give 1 for the first `raised` channels, -1 for the others: (C, 1, 1)."""
    signs = torch.ones(channels, 1, 1, dtype=like.dtype, device=like.device)
    signs[raised:] = -1
    return signs


def negative_offsets(bias: Tensor) -> Tensor:
    """Change the sign of a structuring function; an element that is left out stays out."""
    absent = torch.isneginf(bias)
    return (-bias.masked_fill(absent, 0.0)).masked_fill(absent, -torch.inf)
