"""Imports one plugin when a trial asks for it; what it leaves out is filled in by the framework of the method."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from morphobench.contract import AnySplit, Graph, InvalidPlugin, Run, Task
from morphobench.plugins.discovery import DatasetInfo, MethodInfo
from morphobench.training.framework import Framework
from morphobench.training.frameworks import framework_of

__all__ = ["Method", "load_dataset", "load_method"]


def _load_module(path: Path, name: str) -> ModuleType:
    """Import a plugin file under a private name, its folder being a package so that it can import its neighbours."""
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=[str(path.parent)])
    if spec is None or spec.loader is None:
        raise InvalidPlugin(f"{path}: cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        shown = f"{path.parent.name}/{path.name}"
        raise InvalidPlugin(
            f"{shown}: does not import: {type(error).__name__}: {error}{_hint(error, path.parent)}"
        ) from error
    return module


def _hint(error: Exception, folder: Path) -> str:
    """Say how a neighbour is imported, if that is what failed."""
    name = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if name and ((folder / f"{name}.py").is_file() or (folder / name).is_dir()):
        return f"; {name} lies beside it: from .{name} import ..."
    return ""


def load_dataset(info: DatasetInfo) -> ModuleType:
    """Import ``dataset.py``.

    Raises
    ------
    InvalidPlugin
        If it does not import.
    """
    return _load_module(info.folder / "dataset.py", f"morphobench_dataset_{info.name.replace('-', '_')}")


@dataclass(frozen=True)
class Method:
    """A method plugin with one variant chosen; what the plugin leaves out is filled in by the harness."""

    info: MethodInfo
    variant: str
    module: ModuleType

    @property
    def params(self) -> dict[str, Any]:
        """Parameters after the variant; a copy each time, so that no training changes those of another."""
        return self.info.params_of(self.variant)

    @property
    def framework(self) -> Framework:
        """What fills in for the plugin."""
        return framework_of(self.info.framework)

    @property
    def learning_rate(self) -> float:
        """Learning rate of the default training loop."""
        return float(self.params.get("learning_rate", 1e-3))

    def build(self, task: Task) -> Any:
        """Return the untrained model."""
        tasks = self.info.tasks_of(self.variant)
        if task.kind not in tasks:
            raise InvalidPlugin(f"methods/{self.info.name} does not do {task.kind}; it does {', '.join(tasks)}")
        return self.framework.build(self.module, task, self.params)

    def fit(self, model: Any, train: AnySplit, valid: AnySplit, run: Run) -> None:
        """Train ``model`` in place."""
        getattr(self.module, "fit", self.framework.fit)(model, train, valid, run)

    def predict(self, model: Any, images: np.ndarray | Graph) -> np.ndarray:
        """Return the scores of ``images``, or of every node of a graph, as the contract asks."""
        return getattr(self.module, "predict", self.framework.predict)(model, images)

    def describe(self, model: Any) -> dict[str, np.ndarray]:
        """Return what the model has learned by name; empty where nothing can be said."""
        return getattr(self.module, "describe", self.framework.describe)(model)


def load_method(info: MethodInfo, variant: str = "default") -> Method:
    """Import ``method.py`` and choose a variant.

    Raises
    ------
    FrameworkUnavailable
        If the framework of the method is not installed.
    InvalidPlugin
        If it does not import or has no such variant.
    """
    framework_of(info.framework)
    if variant not in info.variants:
        raise InvalidPlugin(f"methods/{info.name} has no variant {variant!r}; it has {', '.join(info.variants)}")
    module = _load_module(info.folder / "method.py", f"morphobench_method_{info.name.replace('-', '_')}")
    return Method(info, variant, module)
