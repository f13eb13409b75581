"""SortNet: neurons that sum sorted distances, certified by their margin, trained with entries dropped and a rising p."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from morphobench.contract import Run, Split, Task
from morphobench.training.torch.bounded import RisingNormLearner
from morphobench.training.torch.lipschitz import certified_by_margin
from morphobench.training.torch.scheduled import fit_scheduled

from .networks import network


def build(task: Task, params: Mapping[str, Any]) -> nn.Module:
    """Return the network of a task."""
    return network(task, params)


def fit(model: nn.Module, train: Split, valid: Split, run: Run) -> None:
    """Train by the suite's loop, p rising along."""
    fit_scheduled(RisingNormLearner, model, train, valid, run)


def certified(model: nn.Module, images: Tensor, truth: Tensor, epsilon: float) -> Tensor:
    """Tell by the margin where no change of at most ``epsilon`` a pixel takes the prediction away from the truth."""
    return certified_by_margin(model, images, truth, epsilon)
