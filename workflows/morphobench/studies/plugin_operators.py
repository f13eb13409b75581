"""Operators that methods bring to the studies: ``operator_instances()`` of a plugin."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from morphobench.contract import InvalidPlugin, OperatorInstance
from morphobench.layout import find_house
from morphobench.registry import MethodInfo, discover_methods, load_method, names_in

__all__ = ["load_operators", "methods_with_operators"]


def methods_with_operators(framework: str) -> list[str]:
    """Return the methods of a framework that give ``operator_instances()``; no plugin is imported."""
    methods = discover_methods(find_house().methods).values()
    return [
        info.name
        for info in methods
        if isinstance(info, MethodInfo)
        and info.framework == framework
        and "operator_instances" in names_in(info.folder / "method.py")
    ]


def load_operators(method: str) -> list[OperatorInstance]:
    """Import a plugin and return its operators.

    Raises
    ------
    InvalidPlugin
        If there is no such plugin, or what it returns is not what `contract.OperatorInstance` asks.
    """
    info = discover_methods(find_house().methods).get(method)
    if not isinstance(info, MethodInfo):
        raise InvalidPlugin(f"methods/{method}: {'no such folder' if info is None else info.why}")
    where = f"methods/{method}: operator_instances()"
    found = load_method(info, next(iter(info.variants))).module.operator_instances()
    if not isinstance(found, list) or not found:
        raise InvalidPlugin(f"{where} returned {found!r}, expected a list of OperatorInstance")
    for instance in found:
        _check(instance, where)
    names = [instance.name for instance in found]
    if len(set(names)) < len(names):
        raise InvalidPlugin(f"{where}: found the names {', '.join(names)}, expected each once")
    return found


def _check(instance: Any, where: str) -> None:
    if not isinstance(instance, OperatorInstance):
        raise InvalidPlugin(f"{where} holds {type(instance).__name__}, expected OperatorInstance")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", instance.name):
        raise InvalidPlugin(f"{where}: found the name {instance.name!r}, expected lower case, digits and hyphens")
    for name, value in instance.arguments.items():
        if not (isinstance(value, np.ndarray) and value.dtype == np.float64):
            kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
            raise InvalidPlugin(f"{where}, {instance.name}, argument {name!r}: found {kind}, expected a float64 array")
