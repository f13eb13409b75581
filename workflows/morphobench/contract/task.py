"""What is to be learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from morphobench.contract.graphs import Graph

__all__ = ["PRIMARY_METRIC", "TASK_KINDS", "Task", "TaskKind"]

TaskKind = Literal["classification", "multilabel", "ordinal", "segmentation", "restoration", "node_classification"]
TASK_KINDS: tuple[TaskKind, ...] = get_args(TaskKind)

# The one metric by which a task ranks methods and picks checkpoints; higher is better. Fixed before any run.
PRIMARY_METRIC: dict[str, str] = {
    "classification": "accuracy",
    "ordinal": "accuracy",
    "multilabel": "auc",
    "segmentation": "dice",
    "restoration": "psnr",
    "node_classification": "accuracy",
}


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
