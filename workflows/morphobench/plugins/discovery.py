"""Finds the plugins and what they say of themselves, reading YAML and parsing Python without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import Field

from morphobench.project.errors import UserError
from morphobench.project.paths import Project
from morphobench.settings.dataset import DatasetDescription
from morphobench.settings.method import MethodDescription
from morphobench.settings.reading import check, read_yaml

__all__ = [
    "BrokenPlugin",
    "DatasetInfo",
    "MethodInfo",
    "Plugins",
    "discover_datasets",
    "discover_methods",
    "discover_plugins",
    "names_in",
    "read_dataset",
    "read_method",
    "split_dataset_id",
    "variants_named",
]

Folder = Annotated[Path, Field(strict=False)]
Description = TypeVar("Description", MethodDescription, DatasetDescription)
Info = TypeVar("Info", "MethodInfo", "DatasetInfo")


@dataclass(frozen=True)
class BrokenPlugin:
    """A plugin folder that cannot be used, and why; it becomes a visible row."""

    name: str
    folder: Path
    why: str


class MethodInfo(MethodDescription):
    """What ``method.yaml`` of a folder says, defaults filled in."""

    folder: Folder


class DatasetInfo(DatasetDescription):
    """What ``dataset.yaml`` of a folder says, defaults filled in."""

    folder: Folder


class Plugins(NamedTuple):
    """The plugins of a checkout by name."""

    methods: Mapping[str, MethodInfo | BrokenPlugin]
    datasets: Mapping[str, DatasetInfo | BrokenPlugin]


def read_method(folder: Path) -> MethodInfo | BrokenPlugin:
    """Return what one folder says of itself; whether its counterpart fits is for `discover_methods`, which knows all."""
    return _described(folder, MethodDescription, MethodInfo)


def read_dataset(folder: Path) -> DatasetInfo | BrokenPlugin:
    """Return what one folder says of itself."""
    return _described(folder, DatasetDescription, DatasetInfo)


def discover_methods(folder: Path) -> dict[str, MethodInfo | BrokenPlugin]:
    """Return every method plugin below ``folder`` by name, in alphabetical order."""
    found = {path.name: read_method(path) for path in _plugin_folders(folder)}
    return {name: _with_counterpart(info, found) for name, info in found.items()}


def discover_plugins(project: Project) -> Plugins:
    """Return every plugin of a checkout."""
    return Plugins(discover_methods(project.methods), discover_datasets(project.datasets))


def _with_counterpart(
    info: MethodInfo | BrokenPlugin, found: Mapping[str, MethodInfo | BrokenPlugin]
) -> MethodInfo | BrokenPlugin:
    """Return the method, or why the counterpart that it names cannot be one."""
    if isinstance(info, BrokenPlugin) or not info.counterpart:
        return info
    other = found.get(info.counterpart)
    why = ""
    if other is None:
        why = "no method of that name"
    elif isinstance(other, MethodInfo):
        if other.framework == info.framework:
            why = f"a method of framework {other.framework} too, expected one of another framework"
        elif other.counterpart:
            why = f"a method that has itself a counterpart, {other.counterpart!r}"
        elif _parameters(other) != _parameters(info):
            why = "a method of other params or variants, expected the same"
    if not why:
        return info
    where = f"{info.folder.parent.name}/{info.folder.name}/method.yaml"
    return BrokenPlugin(info.name, info.folder, f"{where}: key 'counterpart': found {info.counterpart!r}, {why}")


def _parameters(info: MethodInfo) -> dict[str, dict[str, Any]]:
    return {variant: info.params_of(variant) for variant in info.variants}


def discover_datasets(folder: Path) -> dict[str, DatasetInfo | BrokenPlugin]:
    """Return every data set plugin below ``folder`` by name, in alphabetical order."""
    return {path.name: read_dataset(path) for path in _plugin_folders(folder)}


def _plugin_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] not in "_.")


def _described(folder: Path, model: type[Description], info: type[Info]) -> Info | BrokenPlugin:
    """Read and check the YAML, and parse the Python file without running it."""
    kind = "method" if model is MethodDescription else "dataset"
    source, code = folder / f"{kind}.yaml", folder / f"{kind}.py"
    shown = f"{folder.parent.name}/{folder.name}/{source.name}"
    try:
        declared = check(model, read_yaml(source), shown)
        if declared.name != folder.name:
            raise UserError(f"{shown}: key 'name': found {declared.name!r}, expected the folder's name {folder.name!r}")
        _check_functions(code, declared)
    except UserError as error:
        return BrokenPlugin(folder.name, folder, str(error).replace(str(folder.parent.parent) + "/", ""))
    return info(folder=folder, **dict(declared))


def names_in(code: Path) -> set[str]:
    """Return the names that a plugin's file binds at its top, without running it.

    Raises
    ------
    UserError
        If there is no such file, or it does not parse.
    """
    shown = f"{code.parent.parent.name}/{code.parent.name}/{code.name}"
    try:
        tree = ast.parse(code.read_text(encoding="utf-8"), filename=str(code))
    except FileNotFoundError:
        kind = code.stem
        raise UserError(f"{shown}: no such file; a {kind} plugin needs {kind}.yaml and {kind}.py") from None
    except SyntaxError as error:
        raise UserError(f"{shown}, line {error.lineno}: syntax error: {error.msg}") from None
    return {name for node in tree.body for name in _bound_names(node)}


def _check_functions(code: Path, declared: MethodDescription | DatasetDescription) -> None:
    shown = f"{code.parent.parent.name}/{code.parent.name}/{code.name}"
    found = names_in(code)
    if isinstance(declared, DatasetDescription):
        missing = {"prepare", "load"} - found
        if missing:
            raise UserError(f"{shown}: function {' and '.join(sorted(missing))} not found; expected prepare and load")
        made_of_images = [name for name in declared.variants if declared.variant_images(name)]
        if made_of_images and "on_images" not in found:
            raise UserError(
                f"{shown}: function on_images not found; expected, since variant {made_of_images[0]} names images"
            )
        return
    if len(found & {"operator", "build"}) != 1:
        both = "both" if {"operator", "build"} <= found else "neither"
        raise UserError(f"{shown}: found {both} of operator(...) and build(...), expected exactly one of them")
    if declared.framework == "numpy" and not {"fit", "predict"} <= found:
        raise UserError(f"{shown}: framework numpy has no default training; expected functions fit and predict")


def _bound_names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name for alias in node.names]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


def split_dataset_id(identifier: str) -> tuple[str, str]:
    """Return (name, variant) of ``name`` or ``name.variant``."""
    name, _, variant = identifier.partition(".")
    return name, variant or "default"


def variants_named(wanted: Iterable[str], datasets: Mapping[str, DatasetInfo | BrokenPlugin]) -> list[str]:
    """Return every data set as name.variant, each once; a name alone stands for all its variants.

    Raises
    ------
    UserError
        For a name or a variant that is not known, or a broken plugin.
    """
    found: dict[str, None] = {}
    for entry in wanted:
        name, variant = split_dataset_id(entry)
        info = datasets.get(name)
        if not isinstance(info, DatasetInfo):
            raise UserError(
                f"found {entry!r}, expected a data set ({', '.join(datasets)})" if info is None else info.why
            )
        for one in [variant] if "." in entry else info.variants:
            if one not in info.variants:
                raise UserError(f"found {entry!r}, expected a variant of {name} ({', '.join(info.variants)})")
            found[f"{name}.{one}"] = None
    return list(found)
