"""Layers of sorting neurons: their exact sums in evaluation, distances of what is kept at random in training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from morphobench.training.torch.bounded import Patterns
from varmorph.torch.operators.distances import distance

from .neuron import sorted_sum

__all__ = ["Scores", "SortConv2d", "SortLinear", "Sorting"]


class Sorting(Patterns):
    """Sorted sums of the distances from the patterns; their weights are positive and sum to at most 1."""

    def __init__(self, outputs: int, edges: Sequence[int], rho: float, initial_spread: float):
        super().__init__(outputs, edges, initial_spread)
        self.rho = rho

    def respond(self, columns: Tensor) -> Tensor:
        """Map what positions see (K, M) to (O, M)."""
        centres = self.centres.flatten(1)
        if not self.training:
            return sorted_sum(columns, centres, self.rho)
        kept = torch.rand(columns.shape, device=columns.device) >= self.rho
        return distance(columns, centres, self.p, kept)


class SortLinear(Sorting):
    """The sorted sum of the distances of all features from each of several centres.

    Parameters
    ----------
    inputs, outputs : int
        Features.
    rho : float
        Share of entries that training drops, which sets the weights of the sum.
    initial_spread : float
        Deviation of the normal distribution that the centres are drawn from.
    """

    def __init__(self, inputs: int, outputs: int, rho: float, initial_spread: float):
        super().__init__(outputs, (inputs,), rho, initial_spread)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs) to (N, outputs)."""
        return self.of_features(x)


class SortConv2d(Sorting):
    """The sorted sum of the distances of the windows of all channels from each of several patterns.

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
    rho : float
        Share of entries that training drops, which sets the weights of the sum.
    initial_spread : float
        Deviation of the normal distribution that the patterns are drawn from.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: tuple[int, int],
        stride: int,
        inside: bool,
        rho: float,
        initial_spread: float,
    ):
        super().__init__(outputs, (inputs, *size), rho, initial_spread)
        self.size, self.stride, self.inside = size, stride, inside

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, rows, columns)."""
        return self.of_windows(x, self.size, self.stride, self.inside)


class Scores(SortLinear):
    """The last layer: the nearer the features are to the centre of a class, the higher is its score."""

    def __init__(self, inputs: int, outputs: int, rho: float, initial_spread: float):
        super().__init__(inputs, outputs, rho, initial_spread)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs) to (N, outputs)."""
        return self.bias - super().forward(x)
