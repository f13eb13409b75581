"""The small network of Gowal et al., whose layers have interval bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from morphobench.contract import Task

from .bounds import around, greatest_gains, through

SIDE = 4  # of both windows


class IntervalNetwork(nn.Module):
    """Two convolutions and a hidden layer, in the pixels in [0, 1] that centred images came from.

    Parameters
    ----------
    hidden : Sequential
        From pixels to features.
    last : Linear
        From features to scores.
    """

    def __init__(self, hidden: nn.Sequential, last: nn.Linear):
        super().__init__()
        self.hidden, self.last = hidden, last

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores (N, classes)."""
        scores: Tensor = self.last(self.hidden((x + 1) / 2))
        return scores

    def greatest_gains(self, pixels: Tensor, truth: Tensor, epsilon: float, unit: float = 0.0) -> Tensor:
        """Bound score_j - score_truth (N, classes) from above over all images within ``epsilon`` of given ones in [0, 1]."""
        box = around(pixels, epsilon, unit)
        for layer in self.hidden:
            box = through(layer, box, unit)
        return greatest_gains(self.last, box, truth, unit)


def network(task: Task, params: Mapping[str, Any]) -> IntervalNetwork:
    """Return the network of a task; the windows of small images reach beyond them by a pixel."""
    (channels, *size), (first, second, features) = task.input_shape, params["widths"]
    padding = 0 if min(_after(size, 0)) > 0 else 1
    rows, columns = _after(size, padding)
    hidden = nn.Sequential(
        nn.Conv2d(channels, first, SIDE, stride=2, padding=padding),
        nn.ReLU(),
        nn.Conv2d(first, second, SIDE, padding=padding),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(second * rows * columns, features),
        nn.ReLU(),
    )
    return IntervalNetwork(hidden, nn.Linear(features, task.outputs))


def _after(size: list[int], padding: int) -> list[int]:
    """Give the size of what both convolutions leave of an image."""
    more = 2 * padding - SIDE
    return [(length + more) // 2 + 1 + more + 1 for length in size]
