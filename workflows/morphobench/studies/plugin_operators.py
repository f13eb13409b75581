"""Operators that methods bring to the studies: ``operator_instances()`` and ``recovery_operators()`` of a plugin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from morphobench.contract import InvalidPlugin, OperatorInstance, RecoveryOperator
from morphobench.plugins.discovery import BrokenPlugin, MethodInfo, names_in, read_method
from morphobench.plugins.loading import load_method
from morphobench.project.paths import find_project

__all__ = ["INSTANCES", "RECOVERY", "load_operators", "load_recovery_operators", "methods_with_operators"]

INSTANCES, RECOVERY = "operator_instances", "recovery_operators"

Offered = TypeVar("Offered", OperatorInstance, RecoveryOperator)


def methods_with_operators(
    methods: Mapping[str, MethodInfo | BrokenPlugin], framework: str, function: str = INSTANCES
) -> list[MethodInfo]:
    """Return the methods of a framework whose plugins have the function; no plugin is imported."""
    return [
        info
        for info in methods.values()
        if isinstance(info, MethodInfo)
        and info.framework == framework
        and function in names_in(info.folder / "method.py")
    ]


def load_operators(method: str) -> list[OperatorInstance]:
    """Import a plugin and return its operators.

    Raises
    ------
    InvalidPlugin
        If there is no such plugin, or what it returns is not what `contract.OperatorInstance` asks.
    """
    found = _offered(method, INSTANCES, OperatorInstance)
    for instance in found:
        for name, value in instance.arguments.items():
            if not (isinstance(value, np.ndarray) and value.dtype == np.float64):
                kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
                where = f"methods/{method}: {INSTANCES}(), {instance.name}, argument {name!r}"
                raise InvalidPlugin(f"{where}: found {kind}, expected a float64 array")
    return found


def load_recovery_operators(method: str) -> list[RecoveryOperator]:
    """Import a plugin and return what it brings to the study of operator recovery.

    Raises
    ------
    InvalidPlugin
        If there is no such plugin, or what it returns is not what `contract.RecoveryOperator` asks.
    """
    return _offered(method, RECOVERY, RecoveryOperator)


def _offered(method: str, function: str, kind: type[Offered]) -> list[Offered]:
    """Import a plugin and return the list that a function of it gives, whose entries have names of their own."""
    folder = find_project().methods / method
    info = read_method(folder) if folder.is_dir() else BrokenPlugin(method, folder, "no such folder")
    if not isinstance(info, MethodInfo):
        raise InvalidPlugin(f"methods/{method}: {info.why}")
    where = f"methods/{method}: {function}()"
    found: Any = getattr(load_method(info, next(iter(info.variants))).module, function)()
    if not isinstance(found, list) or not found:
        raise InvalidPlugin(f"{where} returned {found!r}, expected a list of {kind.__name__}")
    for one in found:
        if not isinstance(one, kind):
            raise InvalidPlugin(f"{where} holds {type(one).__name__}, expected {kind.__name__}")
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", one.name):
            raise InvalidPlugin(f"{where}: found the name {one.name!r}, expected lower case, digits and hyphens")
    names = [one.name for one in found]
    if len(set(names)) < len(names):
        raise InvalidPlugin(f"{where}: found the names {', '.join(names)}, expected each once")
    return found
