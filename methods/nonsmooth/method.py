"""The backbone with nonsmooth minimisers as spatial operators, trained through with conservative Jacobians."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from morphobench.contract import InvalidPlugin, Run, Split
from morphobench.training.torch import learner as training

from .kinks import KinkLearner
from .layers import SparseWindows, WeightedTotalVariation


def operator(channels: int, kernel_size: int, params: Mapping[str, Any]) -> nn.Module:
    """Return the layer that ``params["kind"]`` names."""
    if params["kind"] == "sparse":
        return SparseWindows(
            channels,
            kernel_size,
            atoms=params["atoms"],
            initial_strength=params["initial_strength"],
            ridge=params["ridge"],
        )
    if params["kind"] == "total-variation":
        return WeightedTotalVariation(
            channels,
            kernel_size,
            initial_level=params["initial_level"],
            initial_coupling=params["initial_coupling"],
            edge_smoothing=params["edge_smoothing"],
            ridge=params["ridge"],
        )
    raise InvalidPlugin(f"nonsmooth: key 'kind': found {params['kind']!r}, expected sparse or total-variation")


def fit(model: nn.Module, train: Split, valid: Split, run: Run) -> None:
    """Train as every method is trained; the log tells of kinks after each epoch."""
    training.fit(model, train, valid, run, learner=KinkLearner)
