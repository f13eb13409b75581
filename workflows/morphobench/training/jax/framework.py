"""JAX, as the harness sees it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

from morphobench.contract import AnySplit, Graph, InvalidPlugin, Run, Split, Task
from morphobench.training.framework import Framework
from morphobench.training.jax import backbones, compilation, learner
from morphobench.training.jax.initial_weights import InitialWeights

__all__ = ["Jax"]


class Jax(Framework):
    """Models are `learner.Network`: an Equinox module with weights that training replaces."""

    def __init__(self) -> None:
        self._stream = InitialWeights(0)

    def configure_process(self, threads: int) -> None:
        """Start XLA, which reads its threads and its platform from the environment (`runs.environment`), before any clock does."""
        jax.local_devices()

    def seed(self, seed: int) -> None:
        """Begin the stream that layers draw their first weights from."""
        self._stream = InitialWeights(seed)

    def build(self, module: Any, task: Task, params: Mapping[str, Any]) -> Any:
        """Return the network of what the plugin builds, or of the backbone around its operator."""
        if task.kind == "node_classification":
            raise InvalidPlugin(
                "framework jax: found task node_classification, expected one of images: only PyTorch learns graphs"
            )
        given = {**params, "stream": self._stream}
        if not hasattr(module, "build"):
            return learner.Network(backbones.build(task, module.operator, given), task)
        built = module.build(task, given)
        if not isinstance(built, eqx.Module):
            raise InvalidPlugin(f"build(task, params) returned {type(built).__name__}, expected an equinox.Module")
        return learner.Network(built, task)

    def fit(self, model: Any, train: AnySplit, valid: AnySplit, run: Run) -> None:
        """Train by `morphobench.training.jax.learner`."""
        assert isinstance(train, Split), "build refuses graphs"
        assert isinstance(valid, Split), "build refuses graphs"
        learner.fit(model, train, valid, run)

    def predict(self, model: Any, images: np.ndarray | Graph) -> np.ndarray:
        """Predict by `morphobench.training.jax.learner`."""
        assert not isinstance(images, Graph), "build refuses graphs"
        return learner.predict(model, images)

    def describe(self, model: Any) -> dict[str, np.ndarray]:
        """Describe by `morphobench.training.jax.backbones`."""
        return backbones.describe(model.module)

    def count_parameters(self, model: Any) -> int:
        """Count the arrays of floating-point numbers of the module; running statistics are none."""
        return learner.count_parameters(model)

    def save_weights(self, model: Any, path: Path) -> None:
        """Write weights and state under the names that PyTorch gives them."""
        learner.save_weights(model, path)

    def load_weights(self, model: Any, path: Path) -> None:
        """Read weights and state."""
        learner.load_weights(model, path)

    def synchronise(self, device: str) -> None:
        """Do nothing: the loop and the prediction end with results on the host."""

    def reset_peak_memory(self, device: str) -> None:
        """Do nothing: XLA's mark is one of the whole process, a later seed's is never lower than an earlier one's."""

    def peak_memory_mb(self, device: str) -> float | None:
        """Read XLA's mark where the device keeps one."""
        found = jax.local_devices()[0].memory_stats() if device.startswith("cuda") else None
        return found["peak_bytes_in_use"] / 2**20 if found else None

    def seconds_spent_compiling(self) -> float:
        """Read the clock of `compilation`."""
        return compilation.seconds_spent_compiling()

    def compile_s(self, model: Any) -> float | None:
        """Sum over the programs of the network."""
        return model.programs.seconds
