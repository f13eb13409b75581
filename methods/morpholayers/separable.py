"""Separable layers: a window on each channel and a sum of its own for each channel, in the max-plus algebra.

Merging channels shares the gradient equally among equal channels, see `layers`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .layers import DepthwiseDilation2D, DepthwiseErosion2D
from .operators import Size

__all__ = ["BlueprintDilation2D", "BlueprintErosion2D", "SeparableDilation2D", "SeparableErosion2D"]


class _Separable(nn.Module):
    """Windows first, then the merging of the channels.

    Parameters
    ----------
    channels, filters : int
        C and F.
    kernel_size : int or pair
        Size of the window.
    multiplier : int
        M, the number of mergings for each filter.
    **options
        Of `layers.DepthwiseDilation2D`: stride, rate, padding, shared, functions.
    """

    def __init__(self, channels: int, filters: int, kernel_size: Size, *, multiplier: int = 1, **options: Any):
        super().__init__()
        window = DepthwiseDilation2D if type(self) is SeparableDilation2D else DepthwiseErosion2D
        self.windows = window(channels, filters, kernel_size, **options)
        self.offsets = nn.Parameter(torch.zeros(multiplier, channels))

    def values(self, x: Tensor) -> Tensor:
        """Return the results of the windows, (N, F, 1, C, H', W')."""
        offsets = self.offsets
        return self.windows(x).unflatten(1, (-1, 1, offsets.shape[1]))


class SeparableDilation2D(_Separable):
    """Channel f * M + m is max_c (dilation(x_c; k[f, c]) + offset[m, c]): (N, F * M, H', W')."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, F * M, H', W')."""
        return (self.values(x) + self.offsets[..., None, None]).amax(3).flatten(1, 2)


class SeparableErosion2D(_Separable):
    """Channel f * M + m is min_c (erosion(x_c; k[f, c]) - offset[m, c]): (N, F * M, H', W')."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, F * M, H', W')."""
        return (self.values(x) - self.offsets[..., None, None]).amin(3).flatten(1, 2)


class _Blueprint(nn.Module):
    """Merging of the channels first, then a window on each result; arguments as in `layers.DepthwiseDilation2D`."""

    def __init__(self, channels: int, filters: int, kernel_size: Size, **options: Any):
        super().__init__()
        window = DepthwiseDilation2D if type(self) is BlueprintDilation2D else DepthwiseErosion2D
        self.offsets = nn.Parameter(torch.zeros(filters, channels))
        self.windows = window(filters, 1, kernel_size, **options)


class BlueprintDilation2D(_Blueprint):
    """Channel f is the dilation of max_c (x_c + offset[f, c]): (N, F, H', W')."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, F, H', W')."""
        return self.windows((x[:, None] + self.offsets[..., None, None]).amax(2))


class BlueprintErosion2D(_Blueprint):
    """Channel f is the erosion of min_c (x_c - offset[f, c]): (N, F, H', W')."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, F, H', W')."""
        return self.windows((x[:, None] - self.offsets[..., None, None]).amin(2))
