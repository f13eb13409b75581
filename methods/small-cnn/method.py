"""A small convolutional network for classification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from morphobench.contract import Task

POOLINGS = 3


def build(task: Task, params: Mapping[str, Any]) -> nn.Module:
    """Return three convolutions, each followed by a pooling, and linear scores of what is left."""
    (channels, height, width), first = task.input_shape, params["width"]
    rows, columns = (-(-size // 2**POOLINGS) for size in (height, width))
    last = first * 2 ** (POOLINGS - 1)
    return nn.Sequential(
        convolution(channels, first),
        *(convolution(first * 2**k, first * 2 ** (k + 1)) for k in range(POOLINGS - 1)),
        nn.Flatten(),
        nn.Linear(last * rows * columns, task.outputs),
    ).to(memory_format=torch.channels_last)  # faster on processors


def convolution(inputs: int, outputs: int) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU, 2x2 max-pooling (an odd last row or column is kept)."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.MaxPool2d(2, ceil_mode=True),
    )
