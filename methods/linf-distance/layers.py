"""Layers of l_p-distance neurons; in evaluation p is infinite, and only then are they 1-Lipschitz."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from morphobench.training.torch.bounded import Patterns
from varmorph.torch.operators.distances import distance

__all__ = ["DistanceConv2d", "DistanceLinear", "Scores"]


class Distance(Patterns):
    """Distances from the patterns."""

    def respond(self, columns: Tensor) -> Tensor:
        """Map what positions see (K, M) to (O, M)."""
        return distance(columns, self.centres.flatten(1), self.p if self.training else math.inf)


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
        return self.of_features(x)


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
        return self.of_windows(x, self.size, self.stride, self.inside)


class Scores(DistanceLinear):
    """The last layer: the nearer the features are to the centre of a class, the higher is its score."""

    def __init__(self, inputs: int, outputs: int, initial_spread: float):
        super().__init__(inputs, outputs, initial_spread)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs) to (N, outputs)."""
        return self.bias - super().forward(x)
