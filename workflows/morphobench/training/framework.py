"""What the harness asks of a framework."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from morphobench.contract import AnySplit, Graph, Run, Task

__all__ = ["Framework"]


class Framework(ABC):
    """How one framework builds, trains, describes and keeps a model."""

    @abstractmethod
    def configure_process(self, threads: int) -> None:
        """Prepare the process before any plugin is imported."""

    @abstractmethod
    def seed(self, seed: int) -> None:
        """Seed the generators that belong to the framework."""

    @abstractmethod
    def build(self, module: Any, task: Task, params: Mapping[str, Any]) -> Any:
        """Return the untrained model of a plugin, by its ``build`` or around its ``operator``."""

    @abstractmethod
    def fit(self, model: Any, train: AnySplit, valid: AnySplit, run: Run) -> None:
        """Train in place by the default loop."""

    @abstractmethod
    def predict(self, model: Any, images: np.ndarray | Graph) -> np.ndarray:
        """Return the scores of images, or of the nodes of a graph, in evaluation mode."""

    @abstractmethod
    def describe(self, model: Any) -> dict[str, np.ndarray]:
        """Return what the model has learned by name."""

    @abstractmethod
    def count_parameters(self, model: Any) -> int | None:
        """Return the number of trainable parameters, if it can be told."""

    @abstractmethod
    def save_weights(self, model: Any, path: Path) -> None:
        """Write weights and running statistics as safetensors, if the framework can."""

    @abstractmethod
    def load_weights(self, model: Any, path: Path) -> None:
        """Bring a model that was just built to what `save_weights` wrote of a trained one."""

    @abstractmethod
    def synchronise(self, device: str) -> None:
        """Wait until everything that was asked of the device is done."""

    @abstractmethod
    def reset_peak_memory(self, device: str) -> None:
        """Start the high-water mark of the device afresh, where it can be."""

    @abstractmethod
    def peak_memory_mb(self, device: str) -> float | None:
        """Return the high-water mark of the device in MiB; None on a processor."""

    def seconds_spent_compiling(self) -> float:
        """Seconds that this process has spent on compiling apart, for clocks to leave out."""
        return 0.0

    def compile_s(self, model: Any) -> float | None:
        """Seconds that the programs of a model took to compile; None where nothing is compiled apart."""
        return None
