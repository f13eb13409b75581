"""Layers of variational operators that mix channels, all 1-Lipschitz in the sup norm for all values of their parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from morphobench.contract import Task
from morphobench.training.torch.bounded import BoundedNetwork, bounded_network
from varmorph.torch import MaxPlusConv2d, MaxPlusLinear, VariationalConv2d, VariationalLinear


def network(task: Task, params: Mapping[str, Any]) -> BoundedNetwork:
    """Return the network of a task."""
    shared = {"signed": params["signed"], "initial_spread": params["initial_spread"]}

    def convolution(inputs: int, outputs: int, size: tuple[int, int], stride: int, inside: bool) -> nn.Module:
        window = {"stride": stride, "padding": "valid" if inside else "geodesic", **shared}
        if params["operator"] == "max-plus":
            return MaxPlusConv2d(inputs, outputs, size, **window)
        return _held(VariationalConv2d(inputs, outputs, size, **window, **_variational(params)), params)

    def linear(inputs: int, outputs: int) -> nn.Module:
        if params["operator"] == "max-plus":
            return MaxPlusLinear(inputs, outputs, **shared)
        return _held(VariationalLinear(inputs, outputs, **shared, **_variational(params)), params)

    return bounded_network(task, params["architecture"], params["widths"], convolution, linear)


def _variational(params: Mapping[str, Any]) -> dict[str, Any]:
    smoothing = params["initial_spread"] if params["penalty"] == "huber" else None
    return {"initial_level": params["initial_level"], "penalty": params["penalty"], "smoothing": smoothing}


def _held(layer: nn.Module, params: Mapping[str, Any]) -> nn.Module:
    """Draw the first weights; leave the level, or the weights, as they are."""
    if params["initial_weight_spread"]:
        nn.init.normal_(layer.log_weight, std=params["initial_weight_spread"])
    layer.logit_level.requires_grad_(params["level"] == "learned")
    layer.log_weight.requires_grad_(params["weights"] == "learned")
    return layer
