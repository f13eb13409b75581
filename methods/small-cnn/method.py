"""A small convolutional network for classification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from morphobench.contract import Task


def build(task: Task, params: Mapping[str, Any]) -> nn.Module:
    """Return three convolutions at three resolutions, a global average and linear scores."""
    width = params["width"]
    return nn.Sequential(
        convolution(task.input_shape[0], width),
        nn.MaxPool2d(2),
        convolution(width, 2 * width),
        nn.MaxPool2d(2),
        convolution(2 * width, 4 * width),
        GlobalAverage(),
        nn.Linear(4 * width, task.outputs),
    ).to(memory_format=torch.channels_last)  # faster on processors


def convolution(inputs: int, outputs: int) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class GlobalAverage(nn.Module):
    """Mean over all pixels: (N, C, H, W) to (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        """Average."""
        return x.mean(dim=(2, 3))
