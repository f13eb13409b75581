"""The training protocol, the same in every framework: order of the images, schedule, choice of the epoch, tally.

Imports no framework. What a framework does to one batch it says as a `Learner`; nothing else of the protocol is its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from morphobench.contract import AnySplit, Budget, Diverged, GraphSplit, InvalidPlugin, Run, Task
from morphobench.training.metrics import multilabel_auc

__all__ = [
    "EVALUATION_BATCH",
    "Learner",
    "Outcome",
    "Tally",
    "batches_to_evaluate",
    "batches_to_learn",
    "centred",
    "check_score_shape",
    "learning_rates",
    "shifted",
    "train",
]

SHUFFLING, SHIFTING = (
    1,
    2,
)  # name the random streams that order and shift the training images, beside the seed of the trial
EVALUATION_BATCH = 256  # images scored at once in evaluation mode
WHOLE = [slice(None)]  # the batches of a graph: each takes the whole graph through the model, however few its nodes


class Outcome(NamedTuple):
    """What came of a batch: its mean loss; the sum of its images' metrics, or the scores (N, L) where the metric is no mean."""

    loss: float
    metric: float = 0.0
    scores: np.ndarray | None = None


class Learner(Protocol):
    """A model in training, as its framework sees it.

    Samples are float32 images (N, C, H, W) in [0, 1]; or int64 indices of nodes (N,), of a graph that the learner has been given.
    """

    def step(self, samples: np.ndarray, labels: np.ndarray, rate: float) -> Outcome:
        """Take one step of Adam with the learning rate ``rate``; the outcome is that before the step."""

    def judge(self, samples: np.ndarray, labels: np.ndarray) -> Outcome:
        """Return the outcome in evaluation mode."""

    def seconds(self) -> float:
        """Read a clock that stands still while programs are compiled."""

    def remember(self) -> None:
        """Keep a copy of weights and running statistics as they are."""

    def recall(self) -> None:
        """Take back what was remembered last."""


def train(learner: Learner, train: AnySplit, valid: AnySplit, run: Run) -> None:
    """Train and leave the learner with the weights of its best epoch.

    Adam from ``run.learning_rate``, divided by ten after a half and after three quarters of the epochs. Images come in batches of
    ``run.budget``, shifted at random where it says so, the only augmentation; the training nodes of a graph are one batch, so that
    an epoch is one step. The best epoch has the highest validation metric (`contract.PRIMARY_METRIC`), among equals the lowest validation loss, then it is the earliest.

    Raises
    ------
    Diverged
        If a loss is not finite.
    OutOfTime
        If the deadline of the run passes.
    """
    order, moves = (np.random.default_rng([run.seed, stream]) for stream in (SHUFFLING, SHIFTING))
    best: tuple[float, float] | None = None
    for epoch, rate in enumerate(learning_rates(run.learning_rate, run.budget.epochs), start=1):
        _learn(learner, train, order, moves, run, epoch, rate)
        reached = _validate(learner, valid, run, epoch)
        if best is None or reached > best:
            best, run.best_epoch = reached, epoch
            learner.remember()
    learner.recall()


def learning_rates(first: float, epochs: int) -> Iterator[float]:
    """Yield the learning rate of each epoch.

    Examples
    --------
    >>> [round(rate, 9) for rate in learning_rates(1.0, 4)]
    [1.0, 1.0, 0.1, 0.01]
    """
    milestones = [math.ceil(epochs / 2), math.ceil(epochs * 3 / 4)]
    rate = first
    for epoch in range(1, epochs + 1):
        yield rate
        rate *= 0.1 ** milestones.count(epoch)


def batches_to_learn(images: int, budget: Budget, order: np.random.Generator) -> list[np.ndarray]:
    """Return the indices of each batch of an epoch, in an order that is drawn afresh.

    Sizes differ by at most one: a last batch of one image would leave batch norm nothing to average over.
    """
    batches = np.array_split(order.permutation(images), math.ceil(images / budget.batch_size))
    return batches[: budget.steps_per_epoch]


def shifted(images: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Return images (N, ..., H, W) moved down and to the right by numbers of pixels (N, 2); border pixels are repeated.

    Examples
    --------
    >>> shifted(np.arange(6).reshape(1, 2, 3), np.array([[0, 1]])).tolist()
    [[[0, 0, 1], [3, 3, 4]]]
    """
    height, width = images.shape[-2:]
    rows = (np.arange(height) - by[:, :1]).clip(0, height - 1)
    columns = (np.arange(width) - by[:, 1:]).clip(0, width - 1)
    # Indices of axes that are not next to each other come first in what they give.
    found = images[np.arange(len(images))[:, None, None], ..., rows[:, :, None], columns[:, None, :]]
    return np.ascontiguousarray(np.moveaxis(found, (1, 2), (-2, -1)))


def batches_to_evaluate(images: int, size: int = EVALUATION_BATCH) -> list[slice]:
    """Return the batches of images that are scored in their own order.

    Examples
    --------
    >>> batches_to_evaluate(5, 3)
    [slice(0, 3, None), slice(3, 6, None)]
    """
    return [slice(start, start + size) for start in range(0, images, size)]


def centred(images: Any) -> Any:
    """Return images (of any framework) in [0, 1] centred on zero, in [-1, 1]."""
    return (images - 0.5) / 0.5


def check_score_shape(found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Refuse scores of the wrong shape.

    Raises
    ------
    InvalidPlugin
        Which names both shapes.
    """
    if tuple(found) != expected:
        raise InvalidPlugin(f"the model returns scores of shape {tuple(found)}, expected {expected}")


def _learn(
    learner: Learner,
    train: AnySplit,
    order: np.random.Generator,
    moves: np.random.Generator,
    run: Run,
    epoch: int,
    rate: float,
) -> None:
    started, tally = learner.seconds(), Tally(run.task)
    for chosen in WHOLE if isinstance(train, GraphSplit) else batches_to_learn(len(train), run.budget, order):
        run.check_deadline()
        samples, labels = train.samples[chosen], train.labels[chosen]
        if run.budget.shift and not isinstance(train, GraphSplit):
            by = moves.integers(-run.budget.shift, run.budget.shift, (len(samples), 2), endpoint=True)
            samples, labels = (
                shifted(samples, by),
                shifted(labels, by) if run.task.kind in ("segmentation", "restoration") else labels,
            )
        outcome = learner.step(samples, labels, rate)
        if not math.isfinite(outcome.loss):
            raise Diverged(f"epoch {epoch}: the training loss is {outcome.loss} at learning rate {run.learning_rate:g}")
        tally.add(outcome, labels)
    run.record_epoch(epoch, "train", tally.loss, tally.metric, learner.seconds() - started)


def _validate(learner: Learner, valid: AnySplit, run: Run, epoch: int) -> tuple[float, float]:
    """Return (metric, -loss) on the validation split: the greater, the better."""
    started, tally = learner.seconds(), Tally(run.task)
    for part in WHOLE if isinstance(valid, GraphSplit) else batches_to_evaluate(len(valid)):
        run.check_deadline()
        tally.add(learner.judge(valid.samples[part], valid.labels[part]), valid.labels[part])
    if not math.isfinite(tally.loss):
        raise Diverged(f"epoch {epoch}: the validation loss is {tally.loss} at learning rate {run.learning_rate:g}")
    run.record_epoch(epoch, "valid", tally.loss, tally.metric, learner.seconds() - started)
    return (tally.metric if math.isfinite(tally.metric) else -math.inf, -tally.loss)


class Tally:
    """Mean loss and primary metric over the batches of an epoch.

    Metrics of whole images are averaged batch by batch, so that the scores of an epoch need not be kept; only the multilabel AUC,
    which is not an average, keeps its (few) scores.
    """

    def __init__(self, task: Task):
        self.task = task
        self.images = 0
        self.losses = 0.0
        self.metrics = 0.0
        self.kept: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, outcome: Outcome, labels: np.ndarray) -> None:
        """Count one batch."""
        self.images += len(labels)
        self.losses += outcome.loss * len(labels)
        self.metrics += outcome.metric
        if outcome.scores is not None:
            self.kept.append((outcome.scores, labels))

    @property
    def loss(self) -> float:
        """Mean loss."""
        return self.losses / self.images

    @property
    def metric(self) -> float:
        """Primary metric of the task."""
        if self.task.kind != "multilabel":
            return self.metrics / self.images
        return multilabel_auc(*(np.concatenate(parts) for parts in zip(*self.kept, strict=True)))
