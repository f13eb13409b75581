"""Training whose objective changes with the time, and which keeps its last weights: what methods that certify share.

The epoch of highest accuracy, which other methods keep, may lie before the end of a schedule, and says nothing of margins.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import nn

from morphobench.contract import Run, Split
from morphobench.training.loop import Outcome
from morphobench.training.torch import learner

__all__ = ["ScheduledLearner", "fit_scheduled"]


class ScheduledLearner(learner.TorchLearner):
    """Knows ``progress``, the share of the steps of training that are over, and calls ``prepare`` ahead of each."""

    def __init__(self, model: nn.Module, run: Run, steps: int):
        super().__init__(model, run)
        self.params, self.steps, self.done = run.params, steps, 0

    @property
    def progress(self) -> float:
        """Share of the steps that are over, 1 at the last."""
        return self.done / max(self.steps - 1, 1)

    def prepare(self) -> None:
        """Set what follows a schedule."""

    def step(self, images: np.ndarray, labels: np.ndarray, rate: float) -> Outcome:
        """Take one step."""
        self.prepare()
        outcome = super().step(images, labels, rate)
        self.done += 1
        return outcome

    def remember(self) -> None:
        """Keep nothing."""

    def recall(self) -> None:
        """Stay with the last weights."""


def fit_scheduled(
    make: Callable[[nn.Module, Run, int], ScheduledLearner], model: nn.Module, train: Split, valid: Split, run: Run
) -> None:
    """Train by the suite's loop with a learner that is told the number of steps, and keep the last weights."""
    batches = -(-len(train.images) // run.budget.batch_size)
    steps = run.budget.epochs * min(batches, run.budget.steps_per_epoch or batches)
    learner.fit(model, train, valid, run, learner=lambda _, run: make(model, run, steps))
    run.best_epoch = run.budget.epochs
