"""Classifiers that the tutorials of MorphoLayers build, and the h-maxima block of BMVC 2022 in front of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from morphobench.contract import InvalidPlugin, Task

from .constraints import disk
from .geodesic import h_maxima
from .initialisers import sparse_zeros_
from .layers import DepthwiseDilation2D, Gradient2D, TopHatClosing2D, TopHatOpening2D
from .structuring import StructuringFunctions

__all__ = ["NETWORKS", "HMaximaBlock", "Invariant"]

FIRST_LOGIT = -2.0  # the block starts with heights of about 0.12: at 1/2 no image would be left to learn from


class HMaximaBlock(nn.Module):
    """Lower the maxima of each channel by a height that a small network reads off that channel; 231 parameters.

    S. Velasco-Forero, A. Rhim and J. Angulo (2022), Fixed point layers for geodesic morphological operations, BMVC: that the height is
    estimated, and the number of parameters. Their division over the layers is ours: 40 + 185 + 6.

    Examples
    --------
    >>> sum(parameter.numel() for parameter in HMaximaBlock().parameters())
    231
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3, padding=1), nn.ReLU()
        )
        self.logit = nn.Linear(5, 1)
        nn.init.constant_(self.logit.bias, FIRST_LOGIT)

    def height(self, x: Tensor) -> Tensor:
        """Return the height in (0, 1) of each channel of (N, C, H, W), as (N, C, 1, 1)."""
        features = self.features(x.flatten(0, 1)[:, None]).mean(dim=(2, 3))
        return self.logit(features).sigmoid().view(*x.shape[:2], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return h_maxima(x, self.height(x))


class Invariant(nn.Module):
    """Top-hats and gradients, which added constants leave as they are, then two convolutions (tutorial 5)."""

    def __init__(self, channels: int, outputs: int):
        super().__init__()
        self.residues = nn.ModuleList(
            [layer(channels, 2, 5) for layer in (TopHatOpening2D, TopHatClosing2D, Gradient2D)]
        )
        self.convolutions = nn.Sequential(
            nn.Conv2d(6 * channels, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
        )
        self.scores = nn.Linear(32, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to scores (N, outputs)."""
        residues = torch.cat([layer(x) for layer in self.residues], dim=1)
        return self.scores(self.convolutions(residues).amax(dim=(2, 3)))


def invariant(task: Task, params: Mapping[str, Any]) -> nn.Module:
    """Return the network of tutorial 5, whose scores do not change if a constant is added to the image."""
    return Invariant(task.input_shape[0], task.outputs)


def gradient(task: Task, params: Mapping[str, Any]) -> nn.Module:
    """Return the network of tutorial 3: nine gradients by 5x5 disks, max-pooling, linear scores."""
    functions = partial(StructuringFunctions, initialiser=partial(sparse_zeros_, threshold=0.75), constraint=disk)
    layer = Gradient2D(task.input_shape[0], 9, 5, padding="valid", functions=functions)
    return _with_scores(task, nn.Sequential(layer, nn.MaxPool2d(2)))


def pooling(task: Task, params: Mapping[str, Any]) -> nn.Module:
    """Return the network of tutorial 4: two convolutions, each pooled by dilations that start as max-pooling."""
    return _two_convolutions(task, lambda channels: DepthwiseDilation2D(channels, 1, 2, stride=2))


def classifier(task: Task, params: Mapping[str, Any]) -> nn.Module:
    """Return what `pooling` is compared with in tutorial 4: the same network with max-pooling."""
    return _two_convolutions(task, lambda channels: nn.MaxPool2d(2, ceil_mode=True))


def denoising(task: Task, params: Mapping[str, Any]) -> nn.Module:
    """Return `classifier` behind an `HMaximaBlock`."""
    return nn.Sequential(HMaximaBlock(), classifier(task, params))


def lenet(task: Task, params: Mapping[str, Any]) -> nn.Module:
    """Return LeNet-5 with ReLU, "same" convolutions, and dilations in the place of max-pooling."""
    channels = task.input_shape[0]
    body = nn.Sequential(
        *(nn.Conv2d(channels, 6, 5, padding=2), nn.ReLU(), DepthwiseDilation2D(6, 1, 2, stride=2)),
        *(nn.Conv2d(6, 16, 5, padding=2), nn.ReLU(), DepthwiseDilation2D(16, 1, 2, stride=2), nn.Flatten()),
    )
    sizes = (_features(body, task), 120, 84)
    dense = [part for k in (0, 1) for part in (nn.Linear(sizes[k], sizes[k + 1]), nn.ReLU())]
    return nn.Sequential(body, *dense, nn.Linear(84, task.outputs))


def _two_convolutions(task: Task, make_pooling: Callable[[int], nn.Module]) -> nn.Module:
    parts: list[nn.Module] = []
    for channels in (task.input_shape[0], 25):
        parts += [nn.Conv2d(channels, 25, 3), nn.ReLU(), make_pooling(25)]
    return _with_scores(task, nn.Sequential(*parts))


def _with_scores(task: Task, body: nn.Sequential) -> nn.Module:
    body.append(nn.Flatten())
    return nn.Sequential(body, nn.Dropout(0.5), nn.Linear(_features(body, task), task.outputs))


def _features(body: nn.Module, task: Task) -> int:
    """Return the number of features of an image, or say that it is too small."""
    try:
        with torch.no_grad():
            return body(torch.zeros(1, *task.input_shape)).shape[1]
    except (RuntimeError, ValueError) as error:
        shape = "x".join(map(str, task.input_shape[1:]))
        raise InvalidPlugin(f"morpholayers: this network needs images of at least 8x8 pixels, found {shape}") from error


NETWORKS = {
    "gradient": gradient,
    "pooling": pooling,
    "invariant": invariant,
    "lenet": lenet,
    "classifier": classifier,
    "h-maxima": denoising,
}
