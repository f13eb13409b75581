"""The training loop and the prediction of PyTorch methods that bring none of their own."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from morphobench.contract import Diverged, InvalidPlugin, Run, Split, Task
from morphobench.files import atomic

__all__ = ["count_parameters", "deterministic", "fit", "loss_of", "predict", "save_weights"]

SHUFFLING = 1  # names the random stream that orders the training images, beside the seed of the trial


def fit(model: nn.Module, train: Split, valid: Split, run: Run) -> None:
    """Train ``model`` in place and leave it with the weights of its best epoch.

    Adam from ``run.learning_rate``, divided by ten after a half and after three quarters of the epochs; no augmentation. The best
    epoch has the highest validation metric (`contract.PRIMARY_METRIC`), among equals the lowest validation loss, then it is the
    earliest.

    Parameters
    ----------
    model : Module
        Maps (N, C, H, W) to scores, see `contract.Task.score_shape`.
    train, valid : Split
        float32 images in [0, 1].
    run : Run
        Seed, budget and deadline; gets the training curve and the best epoch.

    Raises
    ------
    Diverged
        If a loss is not finite.
    InvalidPlugin
        If the scores have the wrong shape.
    OutOfTime
        If the deadline of the run passes.
    """
    keep_freed_memory()
    epochs, device = run.budget.epochs, torch.device(run.task.device)
    model.to(device)
    order = np.random.default_rng([run.seed, SHUFFLING])
    optimiser = torch.optim.Adam(model.parameters(), lr=run.learning_rate, fused=True)  # one pass over the weights
    milestones = [math.ceil(epochs / 2), math.ceil(epochs * 3 / 4)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, milestones, gamma=0.1)
    best: tuple[float, float] | None = None
    best_weights: dict[str, Tensor] = {}
    with deterministic(device):
        for epoch in range(1, epochs + 1):
            _train_epoch(model, optimiser, train, order, run, epoch)
            schedule.step()
            reached = _validate(model, valid, run, epoch)
            if best is None or reached > best:
                best, run.best_epoch = reached, epoch
                best_weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
    model.load_state_dict(best_weights)


def _train_epoch(
    model: nn.Module, optimiser: torch.optim.Optimizer, train: Split, order: np.random.Generator, run: Run, epoch: int
) -> None:
    started, tally = time.monotonic(), Tally(run.task)
    device = torch.device(run.task.device)
    # Batches of nearly equal size: a last batch of one image would leave batch norm nothing to average over.
    batches = np.array_split(order.permutation(len(train)), math.ceil(len(train) / run.budget.batch_size))
    model.train()
    for chosen in batches[: run.budget.steps_per_epoch]:
        run.check_deadline()
        images, labels = _to_device(train.images[chosen], device), torch.from_numpy(train.labels[chosen]).to(device)
        scores = model(images)
        _check_shape(scores, run.task.score_shape(train.images[chosen]))
        loss = loss_of(run.task, scores, labels)
        if not math.isfinite(loss.item()):
            raise Diverged(f"epoch {epoch}: the training loss is {loss.item()} at learning rate {run.learning_rate:g}")
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        tally.add(scores.detach(), labels, loss.item())
    run.record_epoch(epoch, "train", tally.loss, tally.metric, time.monotonic() - started)


def _validate(model: nn.Module, valid: Split, run: Run, epoch: int) -> tuple[float, float]:
    """Return (metric, -loss) on the validation split: the greater, the better."""
    started, tally = time.monotonic(), Tally(run.task)
    device = torch.device(run.task.device)
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(valid), 256):
            run.check_deadline()
            part = slice(start, start + 256)
            labels = torch.from_numpy(valid.labels[part]).to(device)
            scores = model(_to_device(valid.images[part], device))
            tally.add(scores, labels, loss_of(run.task, scores, labels).item())
    if not math.isfinite(tally.loss):
        raise Diverged(f"epoch {epoch}: the validation loss is {tally.loss} at learning rate {run.learning_rate:g}")
    run.record_epoch(epoch, "valid", tally.loss, tally.metric, time.monotonic() - started)
    return (tally.metric if math.isfinite(tally.metric) else -math.inf, -tally.loss)


def predict(model: nn.Module, images: np.ndarray, batch_size: int = 256) -> np.ndarray:
    """Return the float32 scores of float32 images (N, C, H, W) in [0, 1], computed in evaluation mode."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    with torch.inference_mode(), deterministic(device):
        parts = [
            model(_to_device(images[start : start + batch_size], device)).float().cpu()
            for start in range(0, len(images), batch_size)
        ]
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
    """One minus the Dice coefficient of probabilities (N, K, H, W), over the batch, averaged over the foreground classes."""
    probability, truth = probability[:, 1:], truth[:, 1:]
    overlap = (probability * truth).sum(dim=(0, 2, 3))
    total = probability.sum(dim=(0, 2, 3)) + truth.sum(dim=(0, 2, 3))
    return 1 - ((2 * overlap + 1) / (total + 1)).mean()


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

    def add(self, scores: Tensor, labels: Tensor, loss: float) -> None:
        """Count one batch."""
        self.images += len(labels)
        self.losses += loss * len(labels)
        if self.task.kind == "multilabel":
            self.kept.append((scores.cpu().numpy(), labels.cpu().numpy()))
        else:
            self.metrics += float(_metric_of_images(self.task, scores, labels).sum())

    @property
    def loss(self) -> float:
        """Mean loss."""
        return self.losses / self.images

    @property
    def metric(self) -> float:
        """Primary metric of the task."""
        if self.task.kind != "multilabel":
            return self.metrics / self.images
        from sklearn.metrics import roc_auc_score

        scores, labels = (np.concatenate(parts) for parts in zip(*self.kept, strict=True))
        both = [k for k in range(labels.shape[1]) if 0 < labels[:, k].sum() < len(labels)]
        return float(np.mean([roc_auc_score(labels[:, k], scores[:, k]) for k in both])) if both else math.nan


def _metric_of_images(task: Task, scores: Tensor, labels: Tensor) -> Tensor:
    """Return the primary metric of each image (N,)."""
    if task.kind == "segmentation":
        # max instead of argmax, which takes ten times as long along a dimension that is not the last.
        found = F.one_hot(scores.max(dim=1).indices, task.outputs)[..., 1:].flatten(1, 2).bool()
        truth = F.one_hot(labels, task.outputs)[..., 1:].flatten(1, 2).bool()
        overlap, total = (found & truth).sum(dim=1), found.sum(dim=1) + truth.sum(dim=1)
        return torch.where(total > 0, 2 * overlap / total.clamp(min=1), 1.0).mean(dim=1)
    if task.kind == "restoration":
        error = (scores - labels).square().mean(dim=(1, 2, 3))
        return -10 * torch.log10(error.clamp(min=1e-10))
    return (scores.argmax(dim=1) == labels).float()


def _to_device(images: np.ndarray, device: torch.device) -> Tensor:
    """Return images in [0, 1] as a tensor centred on zero, in [-1, 1]."""
    return (torch.from_numpy(images).to(device) - 0.5) / 0.5


def _check_shape(scores: Tensor, expected: tuple[int, ...]) -> None:
    if tuple(scores.shape) != expected:
        raise InvalidPlugin(f"the model returns scores of shape {tuple(scores.shape)}, expected {expected}")


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
