"""How the launchers run programs: the tiles of an image, numbers in memory, sums over programs."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import triton
from torch import Tensor

from varmorph.torch.backend.cuda.index_maps import IndexMaps

__all__ = ["Sums", "kept", "launch"]

Shape = tuple[int, ...]


def _tiles(shape: Shape, lanes: int) -> tuple[int, int, int]:
    """Programs a channel for images of a shape, and rows and columns of their tiles: few lanes beyond the last column."""
    samples, _, height, width = shape
    columns = triton.next_power_of_2(max(width, 1))
    if columns > 32:
        columns = min((128, 64, 32), key=lambda size: triton.cdiv(width, size) * size)
    rows = min(lanes // columns, triton.next_power_of_2(max(samples * height, 1)))
    return triton.cdiv(samples * height, rows) * triton.cdiv(width, columns), rows, columns


def launch(program: Any, shape: Shape, lanes: int, *arguments: Any, **more: Any) -> None:
    """Run a program on the tiles of images of a shape, each of at most so many lanes."""
    programs, rows, columns = _tiles(shape, lanes)
    samples, channels, height, width = shape
    if programs * channels == 0:
        return
    sizes = {"samples": samples, "channels": channels, "height": height, "width": width}
    with torch.cuda.device_of(arguments[0]):
        # One dimension of the grid only: the others end at 65535.
        program[(programs * channels,)](*arguments, **sizes, **more, ROWS=rows, COLUMNS=columns, num_warps=4)


@lru_cache(maxsize=256)
def kept(number: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Keep a number in memory of the device: as an argument of a program it would be rounded to float32."""
    return torch.full((1,), number, dtype=dtype, device=device)


class Sums:
    """Room for sums that each program takes over its lanes, added up in float64 and in a fixed order.

    `partial` is (C, programs a channel, ...).
    """

    def __init__(self, shape: Shape, lanes: int, device: torch.device, *slots: int) -> None:
        self.partial = torch.empty((shape[1], _tiles(shape, lanes)[0], *slots), dtype=torch.float64, device=device)

    def of_channels(self, like: Tensor) -> Tensor:
        """Give the sum of each channel."""
        return self.partial.sum(1).to(like.dtype)

    def of_elements(self, maps: IndexMaps, like: Tensor) -> Tensor:
        """Give the sum of each element of a structuring function (C, K)."""
        return maps.by_element(self.partial.sum(1)).to(like.dtype)
