"""ResNet-18 (He et al. 2016) with the stem that MedMNIST uses for 28-pixel images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from morphobench.contract import Task


def build(task: Task, params: Mapping[str, Any]) -> nn.Module:
    """Return the network; weights start as in He et al. (2015), batch norm at identity."""
    model = ResNet18(task.input_shape[0], task.outputs, params["width"])
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


class ResNet18(nn.Module):
    """Four stages of two residual blocks; the resolution is halved at the start of the last three."""

    def __init__(self, inputs: int, outputs: int, width: int):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        blocks = [ResidualBlock(width, width, 1), ResidualBlock(width, width, 1)]
        for stage in range(1, 4):
            before, after = width * 2 ** (stage - 1), width * 2**stage
            blocks += [ResidualBlock(before, after, 2), ResidualBlock(after, after, 1)]
        self.blocks = nn.Sequential(*blocks)
        self.scores = nn.Linear(8 * width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to scores (N, outputs)."""
        return self.scores(self.blocks(self.stem(x)).mean(dim=(2, 3)))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes (option B of the paper)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        y = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(y)) + self.shortcut(x))
