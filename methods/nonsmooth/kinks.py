"""What training meets of the places where its layers have no derivative."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor, nn

from morphobench.contract import Run
from morphobench.training.loop import Outcome
from morphobench.training.torch.learner import TorchLearner

from .layers import SparseWindows, WeightedTotalVariation

__all__ = ["KinkLearner", "Tally"]


@dataclass
class Tally:
    """Statistics of an epoch over all layers.

    Parameters
    ----------
    margin : float
        Least distance to a kink in training, relative as `varmorph.torch.lasso.sparse_code` and
        `varmorph.torch.energy.certificates.ActiveSet` say.
    problems, singular : int
        Solved and differentiated in training; how many of them were certified singular.
    pieces : list of Tensor
        Active sets on the validation images, (problems, pieces) a layer and batch.
    """

    margin: float = float("inf")
    problems: int = 0
    singular: int = 0
    pieces: list[Tensor] = field(default_factory=list)

    def sentence(self, before: Tally | None) -> str:
        """Say all of it in one line; changes are those since the epoch before."""
        text = f"kinks: smallest margin {self.margin:.1e}, singular {self.singular} of {self.problems} problems"
        if before is None or [part.shape for part in before.pieces] != [part.shape for part in self.pieces]:
            return text
        moved = [now != then for now, then in zip(self.pieces, before.pieces, strict=True)]
        problems = sum(int(part.any(1).sum()) for part in moved) / sum(len(part) for part in moved)
        pieces = sum(int(part.sum()) for part in moved) / sum(part.numel() for part in moved)
        return f"{text}, active set changed since the last epoch in {problems:.1%} of problems, {pieces:.2%} of pieces"


class KinkLearner(TorchLearner):
    """A `TorchLearner` that reads the certificates of nonsmooth layers and logs them once an epoch."""

    def __init__(self, model: nn.Module, run: Run) -> None:
        super().__init__(model, run)
        self.layers = [part for part in model.modules() if isinstance(part, SparseWindows | WeightedTotalVariation)]
        self.say, self.tally, self.before = run.log, Tally(), None

    def step(self, images: np.ndarray, labels: np.ndarray, rate: float) -> Outcome:
        """Take a step, and read margins and adjoint certificates."""
        if self.tally.pieces:  # the validation of the epoch before is over
            self.report()
        outcome = super().step(images, labels, rate)
        for layer in self.layers:
            certificate = layer.certificate
            self.tally.margin = min(self.tally.margin, float(certificate.forward.active.margin.min()))
            self.tally.problems += certificate.backward.singular.numel()
            self.tally.singular += int(certificate.backward.singular.sum())
        return outcome

    def judge(self, images: np.ndarray, labels: np.ndarray) -> Outcome:
        """Judge a batch, and keep the active sets: the validation images are the same after every epoch."""
        outcome = super().judge(images, labels)
        self.tally.pieces += [layer.active_set() for layer in self.layers]
        return outcome

    def recall(self) -> None:
        """Load the best weights, after the last epoch."""
        self.report()
        super().recall()

    def report(self) -> None:
        """Log the epoch and begin the next."""
        self.say(self.tally.sentence(self.before))
        self.tally, self.before = Tally(), self.tally
