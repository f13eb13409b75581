"""A CNN trained and certified by interval bound propagation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from morphobench.contract import Run, Split, Task
from morphobench.training.loop import Outcome
from morphobench.training.torch.scheduled import ScheduledLearner, fit_scheduled

from .networks import network


def build(task: Task, params: Mapping[str, Any]) -> nn.Module:
    """Return the network of a task."""
    return network(task, params)


def fit(model: nn.Module, train: Split, valid: Split, run: Run) -> None:
    """Train by the suite's loop, the radius rising along, and keep the last weights."""
    fit_scheduled(IntervalLearner, model, train, valid, run)


def certified(model: nn.Module, images: Tensor, truth: Tensor, epsilon: float) -> Tensor:
    """Tell by interval bounds where no change of at most ``epsilon`` a pixel takes the prediction away from the truth.

    The bounds are rounded outward; only images of pixels in [0, 1] count as changed ones.
    """
    with torch.no_grad():
        gains = model.greatest_gains(images, truth, epsilon, torch.finfo(images.dtype).eps)
    others = ~nn.functional.one_hot(truth, gains.shape[1]).bool()
    return ((gains < 0) | ~others).all(1)


class IntervalLearner(ScheduledLearner):
    """Mixes in the cross-entropy of the worst scores, of a radius that rises linearly."""

    def __init__(self, model: nn.Module, run: Run, steps: int):
        super().__init__(model, run, steps)
        self.risen, self.pixels = 0.0, torch.empty(0)

    def prepare(self) -> None:
        """Set the share of the radius that the time has."""
        begin, end = self.params["warm_up_share"], self.params["ramp_share"]
        self.risen = min(max((self.progress - begin) / (end - begin), 0.0), 1.0)

    def step(self, images: np.ndarray, labels: np.ndarray, rate: float) -> Outcome:
        """Take one step; the bounds are of these images."""
        self.pixels = torch.from_numpy(images).to(self.device)
        return super().step(images, labels, rate)

    def objective(self, scores: Tensor, truth: Tensor) -> Tensor:
        """Return kappa times the plain loss and 1 - kappa times that of the worst scores."""
        plain = super().objective(scores, truth)
        kappa = 1 - self.risen * (1 - self.params["final_kappa"])
        if kappa == 1:
            return plain
        worst = self.model.greatest_gains(self.pixels, truth, self.risen * self.params["radius"])
        return kappa * plain + (1 - kappa) * super().objective(worst, truth)
