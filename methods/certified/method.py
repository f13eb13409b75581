"""Networks that are certified robust by construction, trained for accuracy and for a margin."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from morphobench.contract import Run, Split, Task
from morphobench.training.loop import Outcome
from morphobench.training.torch import learner as training
from morphobench.training.torch.lipschitz import certified_by_margin, margins

from .networks import network


def build(task: Task, params: Mapping[str, Any]) -> nn.Module:
    """Return the network of a task."""
    return network(task, params)


def fit(model: nn.Module, train: Split, valid: Split, run: Run) -> None:
    """Train by the suite's loop with the margin in the loss, the level rising along where it is annealed."""
    batches = -(-len(train.images) // run.budget.batch_size)
    steps = run.budget.epochs * min(batches, run.budget.steps_per_epoch or batches)
    training.fit(model, train, valid, run, learner=partial(MarginLearner, steps=steps))


def certified(model: nn.Module, images: Tensor, truth: Tensor, epsilon: float) -> Tensor:
    """Tell by the margin where no change of at most ``epsilon`` a pixel takes the prediction away from the truth."""
    return certified_by_margin(model, images, truth, epsilon)


class MarginLearner(training.TorchLearner):
    """Asks for margins beside the cross-entropy.

    Half the margin is the radius that certifies a prediction: below ``radius`` times 3 its loss is linear. The first steps of an
    annealed level are those of its first value.
    """

    def __init__(self, model: nn.Module, run: Run, steps: int):
        super().__init__(model, run)
        self.params, self.steps, self.done = run.params, steps, 0

    def step(self, images: np.ndarray, labels: np.ndarray, rate: float) -> Outcome:
        """Take one step, at the level that its time has."""
        if self.params["level"] == "annealed":
            first, last = self.params["initial_level"], self.params["final_level"]
            level = first + (last - first) * self.done / max(self.steps - 1, 1)
            with torch.no_grad():
                for layer in self.model.levelled():
                    layer.logit_level.fill_(level)
        self.done += 1
        return super().step(images, labels, rate)

    def objective(self, scores: Tensor, truth: Tensor) -> Tensor:
        """Return the loss of both kinds."""
        share = self.params["margin_share"]
        accuracy = super().objective(scores * self.model.log_scale.exp(), truth)
        wanted = torch.relu(1 - margins(scores, truth) / (3 * self.params["radius"])).mean()
        return share * wanted + (1 - share) * accuracy
