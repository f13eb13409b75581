"""The penalty that draws structuring functions to the bottom of the lattice, where elements do nothing."""

from __future__ import annotations

from torch import Tensor

from .initialisers import BOTTOM

__all__ = ["l1_l2_lattice"]


def l1_l2_lattice(kernel: Tensor, l1: float = 0.0, l2: float = 0.0) -> Tensor:
    """Return l1 sum |kernel + 1| + l2 sum (kernel + 1)^2, to be added to a loss."""
    height = kernel - BOTTOM
    return l1 * height.abs().sum() + l2 * height.square().sum()
