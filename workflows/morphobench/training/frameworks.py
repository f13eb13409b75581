"""What the harness asks of a framework; each is imported when a method of it is loaded, and one alone in a process."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from morphobench.contract import AnySplit, FrameworkUnavailable, Graph, InvalidPlugin, Run, Task
from morphobench.project.files import atomic

__all__ = ["Framework", "NumPy", "framework_of", "why_unavailable"]

# Packages without which a framework does nothing here, and what installs them.
NEEDS: dict[str, dict[str, str]] = {
    "torch": {"torch": "'varmorph[torch]'"},
    "jax": {"jax": "'varmorph[jax]'", "equinox": "'varmorph[jax]'", "optax": "optax"},
    "numpy": {},
}


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
        return module.build(task, dict(params))

    def fit(self, model: Any, train: AnySplit, valid: AnySplit, run: Run) -> None:
        """Refuse: the registry demands fit of these plugins."""
        raise InvalidPlugin("framework numpy has no default training; expected a function fit")

    def predict(self, model: Any, images: np.ndarray | Graph) -> np.ndarray:
        """Refuse: the registry demands predict of these plugins."""
        raise InvalidPlugin("framework numpy has no default prediction; expected a function predict")

    def describe(self, model: Any) -> dict[str, np.ndarray]:
        """Nothing is known of the model."""
        return {}

    def count_parameters(self, model: Any) -> int | None:
        """Return the attribute ``parameter_count`` where the model has it."""
        count = getattr(model, "parameter_count", None)
        return int(count) if count is not None else None

    def save_weights(self, model: Any, path: Path) -> None:
        """Write the attributes of the model that are arrays or numbers."""
        from safetensors.numpy import save_file

        kept = {name: np.asarray(value) for name, value in vars(model).items() if _is_numeric(value)}
        with atomic(path) as temporary:
            save_file({name: np.ascontiguousarray(value) for name, value in kept.items()}, temporary)

    def load_weights(self, model: Any, path: Path) -> None:
        """Set these attributes again."""
        from safetensors.numpy import load_file

        for name, value in load_file(path).items():
            setattr(model, name, value if value.ndim else value.item())

    def synchronise(self, device: str) -> None:
        """Do nothing."""

    def reset_peak_memory(self, device: str) -> None:
        """Do nothing."""

    def peak_memory_mb(self, device: str) -> float | None:
        """No device is used."""
        return None


def _is_numeric(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic | int | float)


def why_unavailable(name: str) -> str:
    """Say which package a framework lacks and how to get it; "" if none.

    Examples
    --------
    >>> why_unavailable("numpy")
    ''
    """
    for package, source in NEEDS[name].items():
        if find_spec(package) is None:
            return f"not available: {package} is not installed: pip install {source}"
    return ""


@functools.cache
def framework_of(name: str) -> Framework:
    """Return the framework of a name of `contract.FRAMEWORKS`, imported.

    Raises
    ------
    FrameworkUnavailable
        If a package that it needs is not installed.
    """
    why = why_unavailable(name)
    if why:
        raise FrameworkUnavailable(why)
    found: dict[str, Callable[[], Framework]] = {
        "numpy": NumPy,
        "torch": lambda: import_module("morphobench.training.torch.framework").Torch(),
        "jax": lambda: import_module("morphobench.training.jax.framework").Jax(),
    }
    return found[name]()
