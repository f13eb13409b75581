"""Sets of structuring functions: each function returns the nearest member, for a tensor (..., kh, kw).

`layers.StructuringFunctions` projects its parameter before each use, which is after each step of the optimiser. A projection is
idempotent, so that using a trained layer does not change it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from .initialisers import BOTTOM, centre, squared_distance

__all__ = [
    "diamond",
    "disk",
    "lattice",
    "non_positive",
    "non_positive_extensive",
    "structuring_element",
    "zero_to_one",
]


def non_positive(kernel: Tensor) -> Tensor:
    """Values in [-1, 0]."""
    return kernel.clamp(BOTTOM, 0.0)


def non_positive_extensive(kernel: Tensor) -> Tensor:
    """Values in [-1, 0], and 0 at the centre: the dilation lies above the image, the erosion below."""
    kernel = non_positive(kernel).clone()
    kernel[(..., *centre(kernel.shape))] = 0.0
    return kernel


def lattice(kernel: Tensor) -> Tensor:
    """Values in [-1, 1]."""
    return kernel.clamp(BOTTOM, -BOTTOM)


def zero_to_one(kernel: Tensor) -> Tensor:
    """Values in [0, 1]."""
    return kernel.clamp(0.0, 1.0)


def structuring_element(element: np.ndarray | Tensor) -> Callable[[Tensor], Tensor]:
    """Return the projection to values in [-1, 1] that are -1 beside a structuring element.

    Parameters
    ----------
    element : ndarray or Tensor
        (kh, kw), bool or 0 and 1; all ones is the square.
    """
    inside = torch.as_tensor(element).bool()

    def project(kernel: Tensor) -> Tensor:
        return lattice(kernel).masked_fill(~inside.to(kernel.device), BOTTOM)

    return project


def disk(kernel: Tensor) -> Tensor:
    """Values in [-1, 1], -1 farther than kh // 2 from the centre."""
    return structuring_element(squared_distance(kernel.shape) <= centre(kernel.shape)[0] ** 2)(kernel)


def diamond(kernel: Tensor) -> Tensor:
    """Values in [-1, 1], -1 where more than kh // 2 steps along rows and columns lead to the centre."""
    row, column = centre(kernel.shape)
    steps = (torch.arange(kernel.shape[-2])[:, None] - row).abs() + (torch.arange(kernel.shape[-1]) - column).abs()
    return structuring_element(steps <= row)(kernel)
