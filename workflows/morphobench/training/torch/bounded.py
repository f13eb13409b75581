"""Networks whose Lipschitz constant is known by construction: what those of several methods share.

They have one geometry, so that what is compared is the neuron: `convolutional` halves the image twice and then sees all that is left at
once, `dense` maps all pixels; between layers the running mean of each channel is subtracted, the only normalisation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from morphobench.contract import Run, Task
from morphobench.training.torch.lipschitz import margins
from morphobench.training.torch.scheduled import ScheduledLearner

__all__ = [
    "FIRST_P",
    "BoundedNetwork",
    "Patterns",
    "Pixels",
    "RisingNormLearner",
    "RunningMean",
    "bounded_network",
    "p_at",
]

FIRST_SCALE = 10.0
MOMENTUM = 0.1
WINDOWS = (5, 3)  # sides of the windows at stride 2
FIRST_P, LAST_P = 8, 1000

# Inputs, outputs, window, stride, and whether windows stay inside the image; and inputs, outputs.
Convolution = Callable[[int, int, tuple[int, int], int, bool], nn.Module]
Linear = Callable[[int, int], nn.Module]


class Pixels(nn.Module):
    """Give back the pixels in [0, 1] of images that were centred to [-1, 1], so that the network has constant 1 in them."""

    lipschitz = 0.5

    def forward(self, x: Tensor) -> Tensor:
        """Shift and halve."""
        return (x + 1) / 2


class RunningMean(nn.Module):
    """Subtract the mean of each channel: in training that of the batch, in evaluation a constant.

    The constant is a running average over the last batches; a shift changes no bound.
    """

    lipschitz = 1.0
    mean: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Shift (N, C) or (N, C, H, W)."""
        mean = self.mean
        if self.training:
            mean = x.mean([axis for axis in range(x.ndim) if axis != 1])
            self.mean.lerp_(mean.detach(), MOMENTUM)
        return x - mean.view(-1, *(1,) * (x.ndim - 2))


class Patterns(nn.Module):
    """Neurons that compare what they see with learned patterns: what layers of features and of windows share.

    Parameters
    ----------
    outputs : int
        Patterns.
    edges : sequence of int
        Shape of one: features, or channels, height and width of a window.
    initial_spread : float
        Deviation of the normal distribution that they are drawn from.
    """

    lipschitz = 1.0  # in evaluation mode, in the sup norm over all channels

    def __init__(self, outputs: int, edges: Sequence[int], initial_spread: float):
        super().__init__()
        self.p: float = FIRST_P
        self.centres = nn.Parameter(initial_spread * torch.randn(outputs, *edges))

    def respond(self, columns: Tensor) -> Tensor:
        """Map what positions see (K, M) to (O, M)."""
        raise NotImplementedError

    def of_features(self, x: Tensor) -> Tensor:
        """Map (N, K) to (N, O)."""
        return self.respond(x.T).T

    def of_windows(self, x: Tensor, size: tuple[int, int], stride: int, inside: bool) -> Tensor:
        """Map (N, C, H, W) to (N, O, rows, columns).

        inside : whether windows stay inside the image; otherwise their centres do, the pixel nearest to a window being repeated.
        """
        if not inside:
            (top, left), (height, width) = (side // 2 for side in size), size
            x = F.pad(x, (left, width - 1 - left, top, height - 1 - top), mode="replicate")
        rows, columns = ((x.shape[axis] - size[axis - 2]) // stride + 1 for axis in (2, 3))
        seen = F.unfold(x, size, stride=stride).movedim(1, 0).flatten(1)
        return self.respond(seen).view(-1, len(x), rows, columns).movedim(0, 1)


class BoundedNetwork(nn.Module):
    """Layers in a row, and the scale by which the cross-entropy, and nothing else, multiplies the scores.

    Parameters
    ----------
    layers : Sequential
        From centred images to scores.
    """

    def __init__(self, layers: nn.Sequential):
        super().__init__()
        self.layers = layers
        self.log_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))

    @property
    def lipschitz(self) -> nn.Module:
        """The layers, whose constant is that of the network."""
        return self.layers

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores (N, classes)."""
        scores: Tensor = self.layers(x)
        return scores

    def having(self, name: str) -> list[Any]:
        """Return the layers that have an attribute."""
        return [layer for layer in self.layers if hasattr(layer, name)]


def bounded_network(
    task: Task,
    architecture: str,
    widths: Sequence[int],
    convolution: Convolution,
    linear: Linear,
    scores: Linear | None = None,
) -> BoundedNetwork:
    """Return a network of the shared geometry, by functions that make its layers; ``scores`` makes the last one."""
    layers: list[nn.Module]
    if architecture == "dense":
        layers, features = [nn.Flatten()], math.prod(task.input_shape)
        for width in widths:
            layers += [linear(features, width), RunningMean(width)]
            features = width
    elif architecture == "convolutional":
        (channels, *size), (first, second, features) = task.input_shape, widths
        inside = min(_after(_after(size, WINDOWS[0], True), WINDOWS[1], True)) > 0
        height, width = _after(_after(size, WINDOWS[0], inside), WINDOWS[1], inside)
        layers = [
            convolution(channels, first, (WINDOWS[0], WINDOWS[0]), 2, inside),
            RunningMean(first),
            convolution(first, second, (WINDOWS[1], WINDOWS[1]), 2, inside),
            RunningMean(second),
            convolution(second, features, (height, width), 1, True),
            nn.Flatten(),
            RunningMean(features),
        ]
    else:
        raise ValueError(f"architecture must be convolutional or dense, found {architecture!r}")
    return BoundedNetwork(nn.Sequential(Pixels(), *layers, (scores or linear)(features, task.outputs)))


def _after(size: Sequence[int], side: int, inside: bool) -> list[int]:
    """Give the size of an image after a window at stride 2."""
    return [-(-(length - (side - 1 if inside else 0)) // 2) for length in size]


def p_at(progress: float, first_share: float, last_share: float) -> float:
    """Return the p of a time in [0, 1]: the first, then rising exponentially, then infinity.

    Examples
    --------
    >>> [p_at(time, 0.25, 0.75) for time in (0.0, 0.25, 0.5, 0.7499, 0.75)]
    [8, 8, 89, 999, inf]
    """
    if progress >= last_share:
        return math.inf
    return round(FIRST_P * (LAST_P / FIRST_P) ** _risen(progress, first_share, last_share))


def _risen(progress: float, first_share: float, last_share: float) -> float:
    """Return which part of the rise is over."""
    return max(0.0, progress - first_share) / max(last_share - first_share, 1e-9)


class RisingNormLearner(ScheduledLearner):
    """Trains layers that have a ``p``, which rises along; with the hinge loss, or with the clipped one and a fading cross-entropy.

    Zhang et al. (ICML 2021, arXiv 2102.05363) and Zhang et al. (ICLR 2022, arXiv 2110.06850).
    """

    model: BoundedNetwork

    def __init__(self, model: nn.Module, run: Run, steps: int):
        super().__init__(model, run, steps)
        # As in the papers: where p is large most gradients are tiny.
        self.optimiser = torch.optim.Adam(
            model.parameters(), lr=run.learning_rate, betas=(0.9, 0.99), eps=1e-10, fused=True
        )

    def prepare(self) -> None:
        """Set p."""
        for layer in self.model.having("p"):
            layer.p = p_at(self.progress, self.params["first_share"], self.params["last_share"])

    def objective(self, scores: Tensor, truth: Tensor) -> Tensor:
        """Return the loss of the present step."""
        missing = torch.relu(1 - margins(scores, truth) / (self.params["margin"] * self.params["radius"]))
        if self.params["loss"] == "hinge":
            return missing.mean()
        wanted = missing.clamp(max=1).mean()
        first, last = self.params["first_share"], self.params["last_share"]
        if self.progress >= last:
            return wanted
        begin, end = self.params["initial_weight"], self.params["final_weight"]
        weight = begin * (end / begin) ** _risen(self.progress, first, last)
        return wanted + weight * super().objective(scores * self.model.log_scale.exp(), truth)
