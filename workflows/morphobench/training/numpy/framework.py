"""NumPy, as the harness sees it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from morphobench.contract import AnySplit, Graph, InvalidPlugin, Run, Task
from morphobench.project.files import atomic
from morphobench.training.framework import Framework

__all__ = ["NumPy"]


class NumPy(Framework):
    """Methods that bring fit and predict of their own."""

    def configure_process(self, threads: int) -> None:
        """Do nothing: threads are set by the environment."""

    def seed(self, seed: int) -> None:
        """Do nothing: the harness seeds NumPy for every framework."""

    def build(self, module: Any, task: Task, params: Mapping[str, Any]) -> Any:
        """Return what the plugin builds."""
        if not hasattr(module, "build"):
            raise InvalidPlugin("framework numpy has no backbones: give build(task, params) instead of operator(...)")
        built = module.build(task, dict(params))
        if not (isinstance(built, dict) or hasattr(built, "__dict__")):
            kind = type(built).__name__
            raise InvalidPlugin(f"build(task, params) returned {kind}, expected an object with attributes, or a dict")
        return built

    def fit(self, model: Any, train: AnySplit, valid: AnySplit, run: Run) -> None:
        """Refuse: a plugin without fit is not valid."""
        raise InvalidPlugin("framework numpy has no default training; expected a function fit")

    def predict(self, model: Any, images: np.ndarray | Graph) -> np.ndarray:
        """Refuse: a plugin without predict is not valid."""
        raise InvalidPlugin("framework numpy has no default prediction; expected a function predict")

    def describe(self, model: Any) -> dict[str, np.ndarray]:
        """Nothing is known of the model."""
        return {}

    def count_parameters(self, model: Any) -> int | None:
        """Return the attribute ``parameter_count`` where the model has it."""
        count = getattr(model, "parameter_count", None)
        return int(count) if count is not None else None

    def save_weights(self, model: Any, path: Path) -> None:
        """Write what of the model is an array or a number: attributes of an object, entries of a dict."""
        from safetensors.numpy import save_file

        kept = {name: np.asarray(value) for name, value in _parts(model).items() if _is_numeric(value)}
        with atomic(path) as temporary:
            save_file({name: np.ascontiguousarray(value) for name, value in kept.items()}, temporary)

    def load_weights(self, model: Any, path: Path) -> None:
        """Set these again."""
        from safetensors.numpy import load_file

        for name, value in load_file(path).items():
            _parts(model)[name] = value if value.ndim else value.item()

    def synchronise(self, device: str) -> None:
        """Do nothing."""

    def reset_peak_memory(self, device: str) -> None:
        """Do nothing."""

    def peak_memory_mb(self, device: str) -> float | None:
        """No device is used."""
        return None


def _parts(model: Any) -> dict[str, Any]:
    """Return what a model holds, by name: the very mapping, so that what is set there is set in the model."""
    return model if isinstance(model, dict) else vars(model)


def _is_numeric(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic | int | float)
