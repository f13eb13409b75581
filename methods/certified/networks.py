"""Networks whose every layer is 1-Lipschitz in the sup norm, for all values of their parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from morphobench.contract import Task
from varmorph.torch import MaxPlusConv2d, MaxPlusLinear, VariationalConv2d, VariationalLinear

FIRST_SCALE = 10.0
MOMENTUM = 0.1
WINDOWS = (5, 3)  # sides of the windows at stride 2


class Pixels(nn.Module):
    """Give back the pixels in [0, 1] of images that were centred to [-1, 1], so that the network has constant 1 in them."""

    lipschitz = 0.5

    def forward(self, x: Tensor) -> Tensor:
        """Shift and halve."""
        return (x + 1) / 2


class RunningMean(nn.Module):
    """Subtract the mean of each channel: in training that of the batch, in evaluation a constant, its running average."""

    lipschitz = 1.0

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


class CertifiedNetwork(nn.Module):
    """Layers in a row, and the scale by which the loss, and nothing else, multiplies the scores.

    Parameters
    ----------
    layers : Module
        From centred images to scores.
    """

    def __init__(self, layers: nn.Module):
        super().__init__()
        self.layers = layers
        self.log_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))

    @property
    def lipschitz(self) -> nn.Module:
        """The layers, whose constant is that of the network."""
        return self.layers

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores (N, classes)."""
        return self.layers(x)

    def levelled(self) -> list[nn.Module]:
        """Return the layers that have a level."""
        return [layer for layer in self.layers if hasattr(layer, "logit_level")]


def network(task: Task, params: Mapping[str, Any]) -> CertifiedNetwork:
    """Return the network of a task."""
    build = {"convolutional": _convolutional, "dense": _dense}[params["architecture"]]
    return CertifiedNetwork(nn.Sequential(Pixels(), *build(task, params)))


def _convolutional(task: Task, params: Mapping[str, Any]) -> list[nn.Module]:
    """Halve the image twice, then see all that is left at once; windows stay inside images that are large enough."""
    (channels, height, width), (first, second, third) = task.input_shape, params["widths"]
    inside = min(_after(_after((height, width), WINDOWS[0], True), WINDOWS[1], True)) > 0
    padding = "valid" if inside else "geodesic"
    left = _after(_after((height, width), WINDOWS[0], inside), WINDOWS[1], inside)
    return [
        _convolution(params, channels, first, WINDOWS[0], stride=2, padding=padding),
        RunningMean(first),
        _convolution(params, first, second, WINDOWS[1], stride=2, padding=padding),
        RunningMean(second),
        _convolution(params, second, third, left, padding="valid"),
        nn.Flatten(),
        RunningMean(third),
        _linear(params, third, task.outputs),
    ]


def _after(size: tuple[int, int], side: int, inside: bool) -> tuple[int, int]:
    """Give the size of an image after a window at stride 2."""
    height, width = (-(-(length - (side - 1 if inside else 0)) // 2) for length in size)
    return height, width


def _dense(task: Task, params: Mapping[str, Any]) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Flatten()]
    features = math.prod(task.input_shape)
    for width in params["widths"]:
        layers += [_linear(params, features, width), RunningMean(width)]
        features = width
    return [*layers, _linear(params, features, task.outputs)]


def _convolution(params: Mapping[str, Any], inputs: int, outputs: int, size: Any, **window: Any) -> nn.Module:
    shared = {"signed": params["signed"], "initial_spread": params["initial_spread"], **window}
    if params["operator"] == "max-plus":
        return MaxPlusConv2d(inputs, outputs, size, **shared)
    return _held(VariationalConv2d(inputs, outputs, size, **shared, **_variational(params)), params)


def _linear(params: Mapping[str, Any], inputs: int, outputs: int) -> nn.Module:
    shared = {"signed": params["signed"], "initial_spread": params["initial_spread"]}
    if params["operator"] == "max-plus":
        return MaxPlusLinear(inputs, outputs, **shared)
    return _held(VariationalLinear(inputs, outputs, **shared, **_variational(params)), params)


def _variational(params: Mapping[str, Any]) -> dict[str, Any]:
    smoothing = params["initial_spread"] if params["penalty"] == "huber" else None
    return {"initial_level": params["initial_level"], "penalty": params["penalty"], "smoothing": smoothing}


def _held(layer: nn.Module, params: Mapping[str, Any]) -> nn.Module:
    """Leave the level, or the weights, as they are."""
    layer.logit_level.requires_grad_(params["level"] == "learned")
    layer.log_weight.requires_grad_(params["weights"] == "learned")
    return layer
