"""First structuring functions, written into a tensor (..., kh, kw) as those of `torch.nn.init` are.

The lattice is that of images in [0, 1]: an element of -1, its bottom, changes nothing in a dilation of such an image. Random ones draw
from PyTorch's generator.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.init import zeros_

__all__ = [
    "BOTTOM",
    "centre",
    "minus_ones_zero_centre_",
    "quadratic_",
    "random_lattice_",
    "sparse_zeros_",
    "squared_distance",
    "structuring_element_",
    "zeros_",
]

BOTTOM = -1.0


def centre(window: Sequence[int]) -> tuple[int, int]:
    """Return row and column of the middle of a window; of an even size the later of the two."""
    return window[-2] // 2, window[-1] // 2


def squared_distance(window: Sequence[int]) -> Tensor:
    """Return the squared distance of every element to the `centre` of its window, (kh, kw)."""
    row, column = centre(window)
    return (torch.arange(window[-2])[:, None] - row) ** 2.0 + (torch.arange(window[-1]) - column) ** 2.0


@torch.no_grad()
def sparse_zeros_(kernel: Tensor, threshold: float = 0.85) -> Tensor:
    """Write 0 where a number drawn from U(0, 1) exceeds the threshold, -1 elsewhere."""
    return kernel.copy_(torch.where(torch.rand_like(kernel) > threshold, 0.0, BOTTOM))


@torch.no_grad()
def quadratic_(kernel: Tensor, c: float = 0.2, t: float = 2.0) -> Tensor:
    """Write -c (distance to the centre / t)^2."""
    return kernel.copy_(-c * squared_distance(kernel.shape) / t**2)


@torch.no_grad()
def minus_ones_zero_centre_(kernel: Tensor) -> Tensor:
    """Write 0 at the centre and -1 elsewhere: dilation and erosion change no image in [0, 1]."""
    kernel.fill_(BOTTOM)
    kernel[(..., *centre(kernel.shape))] = 0.0
    return kernel


@torch.no_grad()
def random_lattice_(kernel: Tensor) -> Tensor:
    """Draw from U(-1, 0)."""
    return kernel.uniform_(BOTTOM, 0.0)


@torch.no_grad()
def structuring_element_(kernel: Tensor, element: np.ndarray) -> Tensor:
    """Write 0 on the structuring element (kh, kw), of bool or 0 and 1, and -1 beside it."""
    return kernel.copy_(torch.where(torch.as_tensor(element).bool(), 0.0, BOTTOM))
