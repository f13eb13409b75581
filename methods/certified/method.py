"""Networks that are certified robust by construction, trained for accuracy and for a margin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from morphobench.contract import Run, Split, Task
from morphobench.training.torch.lipschitz import certified_by_margin, margins
from morphobench.training.torch.scheduled import ScheduledLearner, fit_scheduled

from .networks import network


def build(task: Task, params: Mapping[str, Any]) -> nn.Module:
    """Return the network of a task."""
    return network(task, params)


def fit(model: nn.Module, train: Split, valid: Split, run: Run) -> None:
    """Train by the suite's loop with the margin in the loss, the level rising along where it is annealed."""
    fit_scheduled(MarginLearner, model, train, valid, run)


def certified(model: nn.Module, images: Tensor, truth: Tensor, epsilon: float) -> Tensor:
    """Tell by the margin where no change of at most ``epsilon`` a pixel takes the prediction away from the truth."""
    return certified_by_margin(model, images, truth, epsilon)


class MarginLearner(ScheduledLearner):
    """Asks for margins beside the cross-entropy: below ``margin`` times ``radius`` their loss is linear.

    Half the margin is the radius that certifies a prediction.
    """

    def prepare(self) -> None:
        """Set the level that the time has, where it is annealed."""
        if self.params["level"] == "annealed":
            first, last = self.params["initial_level"], self.params["final_level"]
            with torch.no_grad():
                for layer in self.model.having("logit_level"):
                    layer.logit_level.fill_(first + (last - first) * self.progress)

    def objective(self, scores: Tensor, truth: Tensor) -> Tensor:
        """Return the loss of both kinds."""
        share = self.params["margin_share"]
        wanted = torch.relu(1 - margins(scores, truth) / (self.params["margin"] * self.params["radius"])).mean()
        return share * wanted + (1 - share) * super().objective(scores * self.model.log_scale.exp(), truth)
