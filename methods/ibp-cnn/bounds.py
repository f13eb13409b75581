"""Intervals that hold the values of each layer for all images near a given one.

Affine layers map the centre and, by the absolute weights, the radius. Where the bounds are to prove something, ``unit`` is the
distance of 1 from the next number: each interval is widened by more than what rounding can have moved its own computation and a
forward pass of the network.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Box", "around", "greatest_gains", "through"]


class Box(NamedTuple):
    """All values that differ from ``centre`` by at most ``radius``, which has the same shape."""

    centre: Tensor
    radius: Tensor


def around(images: Tensor, epsilon: float, unit: float = 0.0) -> Box:
    """Return the images of pixels in [0, 1] that differ from given ones by at most ``epsilon`` in each pixel."""
    box = _between((images - epsilon).clamp(0, 1), (images + epsilon).clamp(0, 1), unit)
    return Box(box.centre, box.radius + 4 * unit)  # epsilon, and the way of the images to the network


def through(layer: nn.Module, box: Box, unit: float = 0.0) -> Box:
    """Return what holds the outputs of a layer.

    Raises
    ------
    TypeError
        If it is none of `Conv2d`, `Linear`, `ReLU` and `Flatten`.
    """
    if isinstance(layer, nn.Flatten):
        return Box(box.centre.flatten(1), box.radius.flatten(1))
    if isinstance(layer, nn.ReLU):
        return _between((box.centre - box.radius).relu(), (box.centre + box.radius).relu(), unit)
    if isinstance(layer, nn.Conv2d):

        def apply(x: Tensor, weight: Tensor) -> Tensor:
            return F.conv2d(x, weight, None, layer.stride, layer.padding)  # type: ignore[arg-type]

        return _affine(apply, layer.weight, layer.bias.view(-1, 1, 1), box, unit)
    if isinstance(layer, nn.Linear):
        return _affine(F.linear, layer.weight, layer.bias, box, unit)
    raise TypeError(
        f"no bounds for {type(layer).__name__}: found it in the network, expected Conv2d, Linear, ReLU, Flatten"
    )


def greatest_gains(last: nn.Linear, box: Box, truth: Tensor, unit: float = 0.0) -> Tensor:
    """Return the greatest score_j - score_truth (N, classes) that the box allows, by the last layer's differences of rows.

    It is 0 at the truth. Bounds of the scores themselves would add the widths of two intervals that depend on each other.
    """
    weight, bias = last.weight - last.weight[truth][:, None], last.bias - last.bias[truth][:, None]
    centre, radius = (weight @ box.centre[..., None])[..., 0] + bias, (weight.abs() @ box.radius[..., None])[..., 0]
    if unit:
        sizes = (last.weight.abs() + last.weight[truth][:, None].abs()) @ (box.centre.abs() + box.radius)[..., None]
        biases = last.bias.abs() + last.bias[truth][:, None].abs()
        radius = radius + (last.in_features + 4) * unit * (sizes[..., 0] + biases)
    own = F.one_hot(truth, len(last.weight)).bool()
    return (centre + radius).masked_fill(own, 0)


def _affine(apply: object, weight: Tensor, bias: Tensor, box: Box, unit: float) -> Box:
    assert callable(apply)
    centre, radius = apply(box.centre, weight) + bias, apply(box.radius, weight.abs())
    if unit:
        terms = weight[0].numel()
        radius = radius + (terms + 2) * unit * (apply(box.centre.abs(), weight.abs()) + radius + bias.abs())
    return Box(centre, radius)


def _between(lower: Tensor, upper: Tensor, unit: float) -> Box:
    centre = (lower + upper) / 2
    if not unit:
        return Box(centre, (upper - lower) / 2)
    return Box(centre, torch.maximum(upper - centre, centre - lower) * (1 + 4 * unit))
