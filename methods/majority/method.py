"""The class frequencies of the training split as scores, the same for every image, every pixel and every node."""

from __future__ import annotations

import numpy as np

from morphobench.contract import AnySplit, Graph, Run, Task


class Majority:
    """Logarithms of class probabilities (classes or labels,)."""

    def __init__(self, task: Task):
        self.task = task
        self.scores = np.zeros(task.outputs, dtype=np.float32)


def build(task: Task, params: dict) -> Majority:
    """Return a model that finds all classes equally likely."""
    return Majority(task)


def fit(model: Majority, train: AnySplit, valid: AnySplit, run: Run) -> None:
    """Count the classes; each is counted once more than it occurs, so that no logarithm is infinite."""
    if model.task.kind == "multilabel":
        present = (train.labels.sum(axis=0) + 1) / (len(train) + 2)
        model.scores = np.log(present / (1 - present)).astype(np.float32)
        return
    counts = np.bincount(train.labels.ravel(), minlength=model.task.outputs) + 1
    model.scores = np.log(counts / counts.sum()).astype(np.float32)


def predict(model: Majority, images: np.ndarray | Graph) -> np.ndarray:
    """Return the same scores for every image or node; in segmentation for every pixel."""
    shape = model.task.score_shape(images)
    scores = model.scores.reshape(1, -1, *[1] * (len(shape) - 2))
    return np.ascontiguousarray(np.broadcast_to(scores, shape))
