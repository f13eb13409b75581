"""PyTorch, as the harness sees it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from morphobench.contract import AnySplit, Graph, InvalidPlugin, Run, Task
from morphobench.training.framework import Framework
from morphobench.training.torch import backbones, learner

__all__ = ["Torch"]


class Torch(Framework):
    """Models are `torch.nn.Module`."""

    def configure_process(self, threads: int) -> None:
        """Set the number of threads and ask for deterministic algorithms."""
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(True)

    def seed(self, seed: int) -> None:
        """Seed the generators of every device."""
        torch.manual_seed(seed)

    def build(self, module: Any, task: Task, params: Mapping[str, Any]) -> Any:
        """Return what the plugin builds, or the backbone around its operator."""
        if hasattr(module, "build"):
            built = module.build(task, dict(params))
            if not isinstance(built, torch.nn.Module):
                raise InvalidPlugin(f"build(task, params) returned {type(built).__name__}, expected a torch.nn.Module")
            return built
        return backbones.build(task, module.operator, dict(params))

    def fit(self, model: Any, train: AnySplit, valid: AnySplit, run: Run) -> None:
        """Train by `morphobench.training.torch.learner`."""
        learner.fit(model, train, valid, run)

    def predict(self, model: Any, images: np.ndarray | Graph) -> np.ndarray:
        """Predict by `morphobench.training.torch.learner`."""
        return learner.predict(model, images)

    def describe(self, model: Any) -> dict[str, np.ndarray]:
        """Describe by `morphobench.training.torch.backbones`."""
        return backbones.describe(model)

    def count_parameters(self, model: Any) -> int:
        """Count what requires a gradient."""
        return learner.count_parameters(model)

    def save_weights(self, model: Any, path: Path) -> None:
        """Write the ``state_dict``."""
        learner.save_weights(model, path)

    def load_weights(self, model: Any, path: Path) -> None:
        """Read the ``state_dict``."""
        learner.load_weights(model, path)

    def synchronise(self, device: str) -> None:
        """Wait for CUDA."""
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    def reset_peak_memory(self, device: str) -> None:
        """Start PyTorch's own mark afresh."""
        if device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats()

    def peak_memory_mb(self, device: str) -> float | None:
        """Read PyTorch's own mark."""
        return torch.cuda.max_memory_allocated() / 2**20 if device.startswith("cuda") else None
