"""What plugins and harness say to each other: tasks, splits, runs, and the errors that a plugin may raise.

Imports NumPy only, so that plugins, the command line and the workflow can use it without starting a framework.

A plugin gives ``operator(channels, kernel_size, params)`` or ``build(task, params)``, which return a module of its framework:
a `torch.nn.Module`; in JAX an `equinox.Module` that maps batches (N, C, H, W), with state (`equinox.nn.StateIndex`) in ``build``
alone: ``scores, state = module(images, state)``. PyTorch's layers draw their first weights from a generator that the harness has
seeded; JAX has none, so that ``params["stream"]`` holds one there, an `initial_weights.InitialWeights`, which gives the same
numbers to the same layers made in the same order.

A plugin may give ``operator_instances()``, a list of `OperatorInstance`: its own operator then takes part in the studies of
gradient accuracy and of solver cost. It may give ``recovery_operators()``, a list of `RecoveryOperator`, which then take part in
the study of operator recovery; that learns from data sets for restoration that say by ``target(variant)``, a
`MorphologicalTarget`, how their pairs were made.

Graphs: of a data set for ``node_classification`` ``load(variant, cache, split)`` returns a `GraphSplit`, a whole `Graph` that is
the same for the three splits and the nodes and labels of one. A method gets ``fit(model, train, valid, run)`` with two of these
and ``predict(model, graph)``, which returns scores (nodes, K) of every node; those of the test nodes are kept. A PyTorch method
needs neither: its module is called with the tensors ``x``, float32 (nodes, features), and ``edges``, int64 (2, E), on one device,
and returns (nodes, K). It is trained full-batch: an epoch is one step of Adam on the cross-entropy of the training nodes. There is
no backbone for graphs, so that such a method gives ``build(task, params)``; ``task.input_shape`` is ``(features,)``.

A graph made of images says in ``dataset.yaml`` of which (``images``), and its plugin gives ``on_images(variant, cache, scores)``,
which takes the scores of the test nodes to the pixels of the test images and returns ``(scores (N, K, H, W), masks (N, H, W))``.
Scoring then adds the Dice coefficient of the pixels, and that of the true classes of the nodes, which is the most to be reached.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from morphobench.contract.graphs import Graph, GraphSplit

__all__ = [
    "FAMILIES",
    "FRAMEWORKS",
    "OPERATIONS",
    "PRIMARY_METRIC",
    "SPLITS",
    "TASK_KINDS",
    "AnySplit",
    "Budget",
    "DataUnavailable",
    "Diverged",
    "EpochLog",
    "FrameworkUnavailable",
    "Graph",
    "GraphSplit",
    "InvalidPlugin",
    "MorphologicalTarget",
    "OperatorInstance",
    "OutOfTime",
    "RecoveryOperator",
    "Run",
    "Split",
    "Task",
]

TaskKind = Literal["classification", "multilabel", "ordinal", "segmentation", "restoration", "node_classification"]
Operation = Literal["dilation", "erosion", "opening", "closing"]
OPERATIONS: tuple[Operation, ...] = ("dilation", "erosion", "opening", "closing")
TASK_KINDS: tuple[TaskKind, ...] = (
    "classification",
    "multilabel",
    "ordinal",
    "segmentation",
    "restoration",
    "node_classification",
)
FAMILIES = ("variational", "morphology", "cnn", "implicit", "classical", "control")
FRAMEWORKS = ("torch", "jax", "numpy")
SPLITS = ("train", "valid", "test")

# The one metric by which a task ranks methods and picks checkpoints; higher is better. Fixed before any run.
PRIMARY_METRIC: dict[str, str] = {
    "classification": "accuracy",
    "ordinal": "accuracy",
    "multilabel": "auc",
    "segmentation": "dice",
    "restoration": "psnr",
    "node_classification": "accuracy",
}


class InvalidPlugin(Exception):
    """A plugin that does not parse, import or keep its contract; the message becomes a row of the report."""


class DataUnavailable(Exception):
    """A data set whose files are neither here nor to be had; the message becomes a row of the report."""


class FrameworkUnavailable(Exception):
    """A framework that is not installed here; the message becomes a row of the report."""


class Diverged(Exception):
    """Training met a loss or a score that is not finite."""


class OutOfTime(Exception):
    """The deadline of the trial has passed."""


@dataclass(frozen=True)
class OperatorInstance:
    """An operator of a plugin with arguments at which the studies differentiate and time it.

    Parameters
    ----------
    name : str
        Lower case, digits and hyphens; unique in the plugin.
    operator : callable
        Maps one array or tensor of the plugin's framework for each argument, in their order, to one result; must be
        differentiable in all of them, in float64 and in float32.
    arguments : mapping of str to ndarray
        float64. Each is a parameter group of the tables.
    """

    name: str
    operator: Callable[..., Any]
    arguments: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class MorphologicalTarget:
    """How the pairs of a data set were made.

    Parameters
    ----------
    operation : str
        One of ``OPERATIONS``, by ``structuring_function`` (kh, kw), max-plus, the window being cut at the border.
    structuring_function : ndarray
        float64, at most 0; -inf leaves a neighbour out.
    """

    operation: Operation
    structuring_function: np.ndarray


@dataclass(frozen=True)
class RecoveryOperator:
    """An operator of a plugin whose structuring function is learned from pairs of images (PyTorch).

    Parameters
    ----------
    name : str
        Lower case, digits and hyphens; unique in the plugin.
    make : callable
        ``make(operation, bias)`` returns a module that maps (N, C, H, W) to the same shape and tends to the operation by
        its parameter ``bias``, which starts as the float32 array ``bias`` (C, kh, kw). Channels do not mix: each learns for
        itself. Other parameters may be learned beside it.
    learning_rate : float
        Of Adam.
    prepare_step : callable, optional
        ``prepare_step(module, progress)`` is called ahead of each step with the share of the training that is over, and
        after the last with 1; for what follows a schedule.
    """

    name: str
    make: Callable[[Operation, np.ndarray], Any]
    learning_rate: float
    prepare_step: Callable[[Any, float], None] | None = None


@dataclass(frozen=True)
class Task:
    """What is to be learned.

    Parameters
    ----------
    kind : str
        One of ``TASK_KINDS``.
    input_shape : tuple of int
        (C, H, W) of one image; (features,) of one node.
    outputs : int
        Number of classes (background included), of labels, or of output channels.
    class_names : tuple of str
        One name a class; empty for restoration.
    device : str
        ``"cpu"`` or ``"cuda"``.
    """

    kind: TaskKind
    input_shape: tuple[int, ...]
    outputs: int
    class_names: tuple[str, ...] = ()
    device: str = "cpu"

    def score_shape(self, images: np.ndarray | Graph) -> tuple[int, ...]:
        """Return the shape that ``predict`` owes for ``images`` (N, C, H, W) or for a graph."""
        if isinstance(images, Graph):
            return (len(images.x), self.outputs)
        if self.kind in ("segmentation", "restoration"):
            return (len(images), self.outputs, *images.shape[2:])
        return (len(images), self.outputs)


@dataclass(frozen=True)
class Split:
    """Images and labels of one split, NumPy only; of graphs it is `GraphSplit`, which has the same methods.

    Parameters
    ----------
    images : ndarray
        (N, C, H, W), uint8 in 0..255 or float32 in [0, 1].
    labels : ndarray
        int64 (N,) for classification and ordinal, uint8 (N, L) for multilabel, int64 (N, H, W) for segmentation
        (0 is background), float32 (N, C, H, W) for restoration.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    @property
    def inputs(self) -> np.ndarray:
        """What ``predict`` is given."""
        return self.images

    @property
    def samples(self) -> np.ndarray:
        """What a batch is cut from."""
        return self.images

    def own(self, scores: np.ndarray) -> np.ndarray:
        """Return the scores of this split's images, of the scores of ``inputs``: all of them."""
        return scores

    def as_float(self) -> Split:
        """Return the split with float32 images in [0, 1] (uint8 is divided by 255)."""
        images = self.images
        if images.dtype == np.uint8:
            images = images.astype(np.float32) / np.float32(255)
        return Split(np.ascontiguousarray(images, dtype=np.float32), self.labels)


AnySplit: TypeAlias = Split | GraphSplit


@dataclass(frozen=True)
class Budget:
    """How much training a trial may use; the same for every method compared on a data set."""

    epochs: int = 10
    batch_size: int = 64
    timeout_s: float = 600.0
    memory_mb: int = 6000
    steps_per_epoch: int | None = None  # None: every batch of the training split


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
        """Append one row to the training curve and say it in the log."""
        self.curve.append(EpochLog(epoch, split, float(loss), float(metric), float(seconds)))
        name = PRIMARY_METRIC[self.task.kind]
        self.log(f"epoch {epoch:3d} {split:5s} loss {loss:.4f} {name} {metric:.4f} {seconds:.1f} s")

    def check_deadline(self) -> None:
        """Raise `OutOfTime` once the deadline has passed."""
        if time.monotonic() > self.deadline:
            raise OutOfTime(f"the time limit of {self.budget.timeout_s:g} s has passed")
