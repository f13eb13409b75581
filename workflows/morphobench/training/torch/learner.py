"""The training loop and the prediction of PyTorch methods that bring none of their own."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from morphobench.contract import AnySplit, Graph, GraphSplit, Run, Task
from morphobench.contract.graphs import same_graph
from morphobench.project.files import atomic
from morphobench.training import loop
from morphobench.training.loop import (
    EVALUATION_BATCH,
    Learner,
    Outcome,
    batches_to_evaluate,
    centred,
    check_score_shape,
)
from morphobench.training.metrics import dice

__all__ = [
    "TorchLearner",
    "count_parameters",
    "deterministic",
    "fit",
    "load_weights",
    "loss_of",
    "outcome_of",
    "predict",
    "save_weights",
]


def fit(
    model: nn.Module,
    train: AnySplit,
    valid: AnySplit,
    run: Run,
    *,
    learner: Callable[[nn.Module, Run], Learner] | None = None,
) -> None:
    """Train ``model`` in place, as `loop.train` says, and leave it with the weights of its best epoch.

    Parameters
    ----------
    model : Module
        Maps (N, C, H, W), or features and edges of a graph, to scores, see `contract.Task.score_shape`.
    train, valid : Split or GraphSplit
        float32 images in [0, 1], or nodes of one graph.
    run : Run
        Seed, budget and deadline; gets the training curve and the best epoch.
    learner : callable, optional
        ``learner(model, run)``, for a plugin that adds to the loss or watches its training on images; default `TorchLearner`.

    Raises
    ------
    Diverged
        If a loss is not finite.
    InvalidPlugin
        If the scores have the wrong shape.
    OutOfTime
        If the deadline of the run passes.
    ValueError
        If the splits are of different graphs.
    """
    keep_freed_memory()
    device = torch.device(run.task.device)
    model.to(device)
    graph = None
    if isinstance(train, GraphSplit) and isinstance(valid, GraphSplit):
        graph = train.graph
        if not same_graph(graph, valid.graph):
            raise ValueError("valid: found another graph than that of train, expected other nodes of the same graph")
    with deterministic(device):
        loop.train(learner(model, run) if learner else TorchLearner(model, run, graph), train, valid, run)


class TorchLearner:
    """A `loop.Learner` of PyTorch; of images, or of the nodes of ``graph``."""

    def __init__(self, model: nn.Module, run: Run, graph: Graph | None = None):
        self.model = model
        self.task = run.task
        self.device = torch.device(run.task.device)
        self.scores = _of_images(model, self.task, self.device)
        if graph is not None:
            self.scores = _of_nodes(model, self.task, self.device, graph)
        # fused: one pass over the weights
        self.optimiser = torch.optim.Adam(model.parameters(), lr=run.learning_rate, fused=True)
        self.kept: dict[str, Tensor] = {}

    def step(self, samples: np.ndarray, labels: np.ndarray, rate: float) -> Outcome:
        """Take one step of Adam, in training mode."""
        self.model.train()
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        truth = torch.from_numpy(labels).to(self.device)
        scores = self.scores(samples)
        loss = self.objective(scores, truth)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return outcome_of(self.task, scores.detach(), truth, loss.item())

    def objective(self, scores: Tensor, truth: Tensor) -> Tensor:
        """Return what is minimised, for a batch: the loss, to which a method may add."""
        return loss_of(self.task, scores, truth)

    def judge(self, samples: np.ndarray, labels: np.ndarray) -> Outcome:
        """Return loss and metric in evaluation mode."""
        self.model.eval()
        with torch.inference_mode():
            truth = torch.from_numpy(labels).to(self.device)
            scores = self.scores(samples)
            return outcome_of(self.task, scores, truth, loss_of(self.task, scores, truth).item())

    def seconds(self) -> float:
        """Read the clock: nothing is compiled apart."""
        return time.monotonic()

    def remember(self) -> None:
        """Copy weights and buffers."""
        self.kept = {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def recall(self) -> None:
        """Load the copy."""
        self.model.load_state_dict(self.kept)


def _of_images(model: nn.Module, task: Task, device: torch.device) -> Callable[[np.ndarray], Tensor]:
    """Return what gives the scores of images (N, C, H, W)."""

    def scores(images: np.ndarray) -> Tensor:
        found = model(_to_device(images, device))
        check_score_shape(tuple(found.shape), task.score_shape(images))
        return found

    return scores


def _of_nodes(model: nn.Module, task: Task, device: torch.device, graph: Graph) -> Callable[[np.ndarray], Tensor]:
    """Return what gives the scores of nodes (N,) of a graph, which goes to the device once."""
    x, edges = _graph_to_device(graph, device)

    def scores(nodes: np.ndarray) -> Tensor:
        found = model(x, edges)
        check_score_shape(tuple(found.shape), task.score_shape(graph))
        return found.index_select(0, torch.from_numpy(nodes).to(device))

    return scores


def predict(model: nn.Module, images: np.ndarray | Graph, batch_size: int = EVALUATION_BATCH) -> np.ndarray:
    """Return float32 scores, computed in evaluation mode: of float32 images (N, C, H, W) in [0, 1], or of every node of a graph."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    with torch.inference_mode(), deterministic(device):
        if isinstance(images, Graph):
            parts = [model(*_graph_to_device(images, device)).float().cpu()]
        else:
            batches = batches_to_evaluate(len(images), batch_size)
            parts = [model(_to_device(images[part], device)).float().cpu() for part in batches]
    model.train(was_training)
    return torch.cat(parts).numpy()


def loss_of(task: Task, scores: Tensor, labels: Tensor) -> Tensor:
    """Return the training loss of a batch: a scalar.

    Cross-entropy; binary cross-entropy for multilabel; cross-entropy plus soft Dice for segmentation; mean squared error for
    restoration.
    """
    if task.kind == "restoration":
        return F.mse_loss(scores, labels)
    if task.kind == "multilabel":
        return F.binary_cross_entropy_with_logits(scores, labels.to(scores.dtype))
    if task.kind == "segmentation":
        # By one-hot truth instead of F.cross_entropy, which has no deterministic kernel for images on CUDA.
        truth = F.one_hot(labels, task.outputs).movedim(-1, 1).to(scores.dtype)
        log_probability = F.log_softmax(scores, dim=1)
        return -(truth * log_probability).sum(dim=1).mean() + _soft_dice_loss(log_probability.exp(), truth)
    return F.cross_entropy(scores, labels)


def _soft_dice_loss(probability: Tensor, truth: Tensor) -> Tensor:
    """One minus the smoothed Dice coefficient of probabilities (N, K, H, W), over the batch, averaged over the foreground classes."""
    probability, truth = probability[:, 1:], truth[:, 1:]
    overlap = (probability * truth).sum(dim=(0, 2, 3))
    total = probability.sum(dim=(0, 2, 3)) + truth.sum(dim=(0, 2, 3))
    return 1 - ((2 * overlap + 1) / (total + 1)).mean()


def outcome_of(task: Task, scores: Tensor, labels: Tensor, loss: float) -> Outcome:
    """Return what the tally of an epoch needs to know of a batch."""
    if task.kind == "multilabel":
        return Outcome(loss, scores=scores.cpu().numpy())
    return Outcome(loss, float(_metric_of_images(task, scores, labels).sum()))


def _metric_of_images(task: Task, scores: Tensor, labels: Tensor) -> Tensor:
    """Return the primary metric of each image (N,)."""
    if task.kind == "segmentation":
        # max instead of argmax, which takes ten times as long along a dimension that is not the last.
        found = F.one_hot(scores.max(dim=1).indices, task.outputs)[..., 1:].flatten(1, 2).bool()
        truth = F.one_hot(labels, task.outputs)[..., 1:].flatten(1, 2).bool()
        overlap, total = (found & truth).sum(dim=1), found.sum(dim=1) + truth.sum(dim=1)
        return dice(overlap, total).mean(dim=1)
    if task.kind == "restoration":
        error = (scores - labels).square().mean(dim=(1, 2, 3))
        return -10 * torch.log10(error.clamp(min=1e-10))
    return (scores.argmax(dim=1) == labels).float()


def _to_device(images: np.ndarray, device: torch.device) -> Tensor:
    return centred(torch.from_numpy(images).to(device))


def _graph_to_device(graph: Graph, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return features (nodes, F), which are not centred, and edges (2, E)."""
    return torch.from_numpy(graph.x).to(device), torch.from_numpy(graph.edges).to(device)


@contextlib.contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Ask torch for deterministic kernels within the block; what CUDA lacks is a warning, on CPU an error."""
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@functools.cache
def keep_freed_memory() -> None:
    """Let glibc keep freed memory instead of handing it back to the kernel after every batch.

    Activations of a few megabytes are otherwise mapped and paged in anew for each operation, which took half of the time of a
    training step. Does nothing under another C library.
    """
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # numbers of mallopt(3)
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in ((mmap_threshold, 1 << 30), (trim_threshold, (1 << 31) - 1), (top_pad, 1 << 26)):
            mallopt(option, value)


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(value.numel() for value in model.parameters() if value.requires_grad)


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the weights and buffers of ``model`` as safetensors, whole or not at all."""
    from safetensors.torch import save_file

    # Cloned, because safetensors refuses tensors that share memory.
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    with atomic(path) as temporary:
        save_file(weights, temporary)


def load_weights(model: nn.Module, path: Path) -> None:
    """Take the weights and buffers that `save_weights` wrote."""
    from safetensors.torch import load_file

    model.load_state_dict(load_file(path))
