"""A narrow U-Net (Ronneberger et al. 2015) of three resolutions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from morphobench.contract import Task
from morphobench.training.torch.backbones import double


def build(task: Task, params: Mapping[str, Any]) -> nn.Module:
    """Return the network; scores are the classes of segmentation or the grey values of restoration."""
    return UNet(task.input_shape[0], task.outputs, params["width"])


class UNet(nn.Module):
    """Two steps down, two steps up; padded convolutions, so that the scores have the size of the image."""

    def __init__(self, inputs: int, outputs: int, width: int):
        super().__init__()
        self.fine = convolutions(inputs, width)
        self.middle = convolutions(width, 2 * width)
        self.coarse = convolutions(2 * width, 4 * width)
        self.middle_up = convolutions(6 * width, 2 * width)
        self.fine_up = convolutions(3 * width, width)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.scores = nn.Conv2d(width, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H, W)."""
        fine = self.fine(x)
        middle = self.middle(self.pool(fine))
        coarse = self.coarse(self.pool(middle))
        middle = self.middle_up(torch.cat([middle, double(coarse, middle.shape[2:])], dim=1))
        fine = self.fine_up(torch.cat([fine, double(middle, fine.shape[2:])], dim=1))
        return self.scores(fine)


def convolutions(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with batch norm and ReLU."""
    layers: list[nn.Module] = []
    for before in (inputs, outputs):
        layers += [nn.Conv2d(before, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)
