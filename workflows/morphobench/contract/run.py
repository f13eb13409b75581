"""What a training routine is told of the trial that it belongs to, and what it tells of itself."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from morphobench.contract.errors import OutOfTime
from morphobench.contract.task import PRIMARY_METRIC, Task

__all__ = ["Budget", "EpochLog", "Run"]


@dataclass(frozen=True)
class Budget:
    """How much training a trial may use; the same for every method compared on a data set."""

    epochs: int = 10
    batch_size: int = 64
    timeout_s: float = 600.0
    memory_mb: int = 6000
    steps_per_epoch: int | None = None  # None: every batch of the training split
    shift: int = 0  # pixels by which training images are moved at most


@dataclass(frozen=True)
class EpochLog:
    """One row of a training curve: ``split`` is train or valid, ``metric`` the task's primary metric."""

    epoch: int
    split: str
    loss: float
    metric: float
    seconds: float


@dataclass
class Run:
    """What a training routine is told about the trial it belongs to.

    Parameters
    ----------
    seed : int
        Seed of the trial. The harness has seeded every generator with it; plugins never reseed.
    deadline : float
        Value of ``time.monotonic()`` after which the trial is killed.
    directory : Path
        Scratch folder of this trial.
    log : callable
        Takes one line of text.
    """

    seed: int
    deadline: float
    directory: Path
    log: Callable[[str], None]
    task: Task
    budget: Budget
    learning_rate: float = 1e-3
    params: Mapping[str, Any] = field(default_factory=dict)
    curve: list[EpochLog] = field(default_factory=list)
    best_epoch: int | None = None

    def record_epoch(self, epoch: int, split: str, loss: float, metric: float, seconds: float) -> None:
        """Append one row to the training curve and say it in the log; numbers may be those of any framework."""
        epoch, loss, metric, seconds = operator.index(epoch), float(loss), float(metric), float(seconds)
        self.curve.append(EpochLog(epoch, split, loss, metric, seconds))
        name = PRIMARY_METRIC[self.task.kind]
        self.log(f"epoch {epoch:3d} {split:5s} loss {loss:.4f} {name} {metric:.4f} {seconds:.1f} s")

    def check_deadline(self) -> None:
        """Raise `OutOfTime` once the deadline has passed."""
        if time.monotonic() > self.deadline:
            raise OutOfTime(f"the time limit of {self.budget.timeout_s:g} s has passed")
