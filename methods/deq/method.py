"""Deep equilibrium models: a classifier and a segmenter, trained by the suite's loop with a log of their convergence."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from morphobench.contract import Run, Split, Task
from morphobench.training.loop import Outcome
from morphobench.training.torch import learner as training
from varmorph.torch import ConvergenceWarning

from .convergence import ConvergenceLog
from .networks import EquilibriumClassifier, EquilibriumSegmenter


def build(task: Task, params: Mapping[str, Any]) -> nn.Module:
    """Return the network of a task."""
    if task.kind in ("segmentation", "restoration"):
        return EquilibriumSegmenter(task, params)
    return EquilibriumClassifier(task, params)


def fit(model: nn.Module, train: Split, valid: Split, run: Run) -> None:
    """Train by the suite's loop; write how the equilibria converged to the log and to ``convergence.csv``."""
    log = ConvergenceLog(run)
    training.fit(model, train, valid, run, learner=partial(EquilibriumLearner, log=log))
    log.close()


class EquilibriumLearner(training.TorchLearner):
    """Adds the Jacobian penalty to the loss, and keeps what the certificates say."""

    def __init__(self, model: nn.Module, run: Run, log: ConvergenceLog):
        super().__init__(model, run)
        self.layer, self.log, self.weight = model.equilibrium, log, run.params["jacobian_penalty"]

    def step(self, images: np.ndarray, labels: np.ndarray, rate: float) -> Outcome:
        """Take one step, without warnings of an adjoint that ends early: the log counts them."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            outcome = super().step(images, labels, rate)
        self.log.add("train", self.layer.certificate)
        return outcome

    def objective(self, scores: Tensor, truth: Tensor) -> Tensor:
        """Add the penalty, if there is one."""
        loss = super().objective(scores, truth)
        return loss if self.layer.penalty is None else loss + self.weight * self.layer.penalty

    def judge(self, images: np.ndarray, labels: np.ndarray) -> Outcome:
        """Return the outcome in evaluation mode."""
        outcome = super().judge(images, labels)
        self.log.add("valid", self.layer.certificate)
        return outcome
