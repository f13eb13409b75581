"""Pooling by extrema: the flat window moves by its own size, unless a stride is given."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from varmorph.arguments import pair

from .operators import Size, dilation, erosion, margins

__all__ = ["GradPooling2D", "MinPooling2D", "MixedMaxMinPooling2D", "MixedPooling2D"]


class _Pooling(nn.Module):
    """A flat window.

    Parameters
    ----------
    size : int or pair
        Of the window.
    stride : int or pair, optional
        Default: the size.
    padding : {"valid", "same"}
        As in `operators.margins`.
    """

    def __init__(self, size: Size, stride: Size | None = None, padding: str = "valid"):
        super().__init__()
        self.size = pair("size", size)
        self.stride = pair("stride", self.size if stride is None else stride)
        self.padding = padding

    def greatest(self, x: Tensor) -> Tensor:
        """Return the greatest value of each window."""
        return dilation(x, x.new_zeros(x.shape[1], *self.size), stride=self.stride, padding=self.padding)

    def least(self, x: Tensor) -> Tensor:
        """Return the least value of each window."""
        return erosion(x, x.new_zeros(x.shape[1], *self.size), stride=self.stride, padding=self.padding)

    def mean(self, x: Tensor) -> Tensor:
        """Return the mean over the pixels of each window that lie in the image."""
        (top, bottom), (left, right) = margins(x.shape[-2:], self.size, self.stride, 1, self.padding)
        sums, counts = (
            F.avg_pool2d(F.pad(v, (left, right, top, bottom)), self.size, self.stride) for v in (x, torch.ones_like(x))
        )
        return sums / counts


class MinPooling2D(_Pooling):
    """Least value of each window."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H', W')."""
        return self.least(x)


class GradPooling2D(_Pooling):
    """Greatest minus least value of each window."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H', W')."""
        return self.greatest(x) - self.least(x)


class _Mixed(_Pooling):
    """A learned mixture; ``alpha`` (1,) is 1/2 at first."""

    def __init__(self, size: Size, stride: Size | None = None, padding: str = "valid"):
        super().__init__(size, stride, padding)
        self.alpha = nn.Parameter(torch.full((1,), 0.5))


class MixedPooling2D(_Mixed):
    """alpha greatest + (1 - alpha) mean of each window."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H', W')."""
        return self.alpha * self.greatest(x) + (1 - self.alpha) * self.mean(x)


class MixedMaxMinPooling2D(_Mixed):
    """alpha greatest + (1 - alpha) least value of each window."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H', W')."""
        return self.alpha * self.greatest(x) + (1 - self.alpha) * self.least(x)
