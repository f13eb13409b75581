"""Layers of l_p-distance neurons; in evaluation p is infinite, and only then are they 1-Lipschitz."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from morphobench.training.torch.bounded import FIRST_P

from .distance import distance

__all__ = ["DistanceConv2d", "DistanceLinear", "Scores"]


class Distance(nn.Module):
    """What both layers share: centres, and the p of training."""

    lipschitz = 1.0  # in evaluation mode, in the sup norm over all channels

    def __init__(self, outputs: int, edges: Sequence[int], initial_spread: float):
        super().__init__()
        self.p: float = FIRST_P
        self.centres = nn.Parameter(initial_spread * torch.randn(outputs, *edges))

    @property
    def present_p(self) -> float:
        """The p of the next pass."""
        return self.p if self.training else math.inf


class DistanceLinear(Distance):
    """The distance of all features from each of several centres.

    Parameters
    ----------
    inputs, outputs : int
        Features.
    initial_spread : float
        Deviation of the normal distribution that the centres are drawn from.
    """

    def __init__(self, inputs: int, outputs: int, initial_spread: float):
        super().__init__(outputs, (inputs,), initial_spread)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs) to (N, outputs)."""
        return distance(x.T, self.centres, self.present_p).T


class DistanceConv2d(Distance):
    """The distance of the windows of all channels from each of several patterns.

    Parameters
    ----------
    inputs, outputs : int
        Channels.
    size : (int, int)
        Of the window.
    stride : int
        Between windows.
    inside : bool
        Whether windows stay inside the image; otherwise their centres do, the pixel nearest to a window being repeated.
    initial_spread : float
        Deviation of the normal distribution that the patterns are drawn from.
    """

    def __init__(
        self, inputs: int, outputs: int, size: tuple[int, int], stride: int, inside: bool, initial_spread: float
    ):
        super().__init__(outputs, (inputs, *size), initial_spread)
        self.size, self.stride, self.inside = size, stride, inside

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, rows, columns)."""
        if not self.inside:
            (top, left), (height, width) = (side // 2 for side in self.size), self.size
            x = F.pad(x, (left, width - 1 - left, top, height - 1 - top), mode="replicate")
        rows, columns = ((x.shape[axis] - self.size[axis - 2]) // self.stride + 1 for axis in (2, 3))
        seen = F.unfold(x, self.size, stride=self.stride).movedim(1, 0).flatten(1)
        found = distance(seen, self.centres.flatten(1), self.present_p)
        return found.view(-1, len(x), rows, columns).movedim(0, 1)


class Scores(DistanceLinear):
    """The last layer: the nearer the features are to the centre of a class, the higher is its score."""

    def __init__(self, inputs: int, outputs: int, initial_spread: float):
        super().__init__(inputs, outputs, initial_spread)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs) to (N, outputs)."""
        return self.bias - super().forward(x)
