"""Finds the plugins and what they say of themselves, reading YAML and parsing Python without running it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from morphobench.project.validation import UserError, fill_defaults, load_schema, read_yaml, validate

__all__ = [
    "BrokenPlugin",
    "DatasetInfo",
    "MethodInfo",
    "discover_datasets",
    "discover_methods",
    "names_in",
    "split_dataset_id",
]

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"


@dataclass(frozen=True)
class BrokenPlugin:
    """A plugin folder that cannot be used, and why; it becomes a visible row."""

    name: str
    folder: Path
    why: str


@dataclass(frozen=True)
class MethodInfo:
    """What ``method.yaml`` says, defaults filled in."""

    name: str
    folder: Path
    title: str
    summary: str
    family: str
    framework: str
    tasks: tuple[str, ...]
    params: Mapping[str, Any]
    variants: Mapping[str, Mapping[str, Any]]
    references: tuple[str, ...]
    citation: str
    resources: Mapping[str, Any]
    counterpart: str = ""
    variant_tasks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # variants that do not do all tasks

    def tasks_of(self, variant: str) -> tuple[str, ...]:
        """Kinds of task of one variant."""
        return self.variant_tasks.get(variant, self.tasks)


@dataclass(frozen=True)
class DatasetInfo:
    """What ``dataset.yaml`` says, defaults filled in."""

    name: str
    folder: Path
    title: str
    summary: str
    task: str
    licence: str
    citation: str
    classes: tuple[str, ...]
    files: tuple[Mapping[str, Any], ...]
    variants: Mapping[str, Mapping[str, Any]]
    sweep: str
    made_from: tuple[str, ...]

    def variant_task(self, variant: str) -> str:
        """Kind of task of one variant."""
        return self.variants[variant].get("task", self.task)

    def variant_title(self, variant: str) -> str:
        """Title of one variant."""
        return self.variants[variant].get("title", self.title)

    def variant_classes(self, variant: str) -> tuple[str, ...]:
        """Class names of one variant."""
        return tuple(self.variants[variant].get("classes", self.classes))

    def variant_images(self, variant: str) -> str:
        """Id of the data set for segmentation whose images the graph of one variant is made of, "" for none."""
        return str(self.variants[variant].get("images", ""))

    def variant_number(self, variant: str) -> float | None:
        """Where one variant lies in the sweep of the variants, None if it takes no part in one."""
        number = self.variants[variant].get("at")
        return float(number) if self.sweep and number is not None else None


def discover_methods(folder: Path) -> dict[str, MethodInfo | BrokenPlugin]:
    """Return every method plugin below ``folder`` by name, in alphabetical order."""
    found: dict[str, MethodInfo | BrokenPlugin] = {
        path.name: _describe(path, "method")  # type: ignore[misc]
        for path in _plugin_folders(folder)
    }
    return {name: _with_counterpart(info, found) for name, info in found.items()}


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
        elif (other.params, other.variants) != (info.params, info.variants):
            why = "a method of other params or variants, expected the same"
    if not why:
        return info
    where = f"{info.folder.parent.name}/{info.folder.name}/method.yaml"
    return BrokenPlugin(info.name, info.folder, f"{where}: key 'counterpart': found {info.counterpart!r}, {why}")


def discover_datasets(folder: Path) -> dict[str, DatasetInfo | BrokenPlugin]:
    """Return every data set plugin below ``folder`` by name, in alphabetical order."""
    return {path.name: _describe(path, "dataset") for path in _plugin_folders(folder)}  # type: ignore[misc]


def _plugin_folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] not in "_.")


def _describe(folder: Path, kind: Literal["method", "dataset"]) -> MethodInfo | DatasetInfo | BrokenPlugin:
    """Read and validate the YAML, and parse the Python file without running it."""
    source, code = folder / f"{kind}.yaml", folder / f"{kind}.py"
    schema_path = SCHEMAS / f"{kind}.schema.yaml"
    shown = f"{folder.parent.name}/{folder.name}/{source.name}"
    try:
        declared = read_yaml(source)
        validate(declared, schema_path, shown)
        if declared["name"] != folder.name:
            raise UserError(
                f"{shown}: key 'name': found {declared['name']!r}, expected the folder's name {folder.name!r}"
            )
        _check_functions(code, kind, declared)
    except UserError as error:
        return BrokenPlugin(folder.name, folder, str(error).replace(str(folder.parent.parent) + "/", ""))
    filled = fill_defaults(declared, load_schema(schema_path))
    filled["variants"] = {name: dict(overrides or {}) for name, overrides in filled["variants"].items()}
    filled |= {key: tuple(value) for key, value in filled.items() if isinstance(value, list)}
    if kind == "method":  # what a variant does is no parameter of it
        tasks = {name: values.pop("tasks", None) for name, values in filled["variants"].items()}
        filled["variant_tasks"] = {name: tuple(found) for name, found in tasks.items() if found}
    return (MethodInfo if kind == "method" else DatasetInfo)(folder=folder, **filled)


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


def _check_functions(code: Path, kind: str, declared: Mapping[str, Any]) -> None:
    shown = f"{code.parent.parent.name}/{code.parent.name}/{code.name}"
    found = names_in(code)
    if kind == "dataset":
        missing = {"prepare", "load"} - found
        if missing:
            raise UserError(f"{shown}: function {' and '.join(sorted(missing))} not found; expected prepare and load")
        made_of_images = [name for name, values in declared.get("variants", {}).items() if "images" in (values or {})]
        if made_of_images and "on_images" not in found:
            raise UserError(
                f"{shown}: function on_images not found; expected, since variant {made_of_images[0]} names images"
            )
        return
    if len(found & {"operator", "build"}) != 1:
        both = "both" if {"operator", "build"} <= found else "neither"
        raise UserError(f"{shown}: found {both} of operator(...) and build(...), expected exactly one of them")
    if declared["framework"] == "numpy" and not {"fit", "predict"} <= found:
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
