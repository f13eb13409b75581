"""What the command line says of the plugins, and whether one keeps its contract."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from morphobench.plugins.discovery import (
    BrokenPlugin,
    DatasetInfo,
    MethodInfo,
    discover_datasets,
    discover_methods,
    discover_plugins,
)
from morphobench.project.errors import UserError
from morphobench.project.files import write_json
from morphobench.project.paths import Project

__all__ = ["print_plugins", "run_contract_tests", "write_description"]


def print_plugins(project: Project) -> None:
    """Print one line for each method and each data set."""
    print("methods")
    for name, info in discover_methods(project.methods).items():
        print(f"  {name:20s} {_one_line(info)}")
    print("datasets")
    for name, data in discover_datasets(project.datasets).items():
        print(f"  {name:20s} {_one_line(data)}")


def _one_line(info: MethodInfo | DatasetInfo | BrokenPlugin) -> str:
    if isinstance(info, BrokenPlugin):
        return f"invalid: {info.why}"
    variants = "" if list(info.variants) == ["default"] else f"  [{' '.join(info.variants)}]"
    if isinstance(info, MethodInfo):
        return f"{info.family:12s} {info.framework:6s} {info.title}{variants}"
    return f"{info.task:19s} {info.title}{variants}"


def run_contract_tests(project: Project, name: str) -> int:
    """Run the contract tests of one plugin; return their exit code.

    Raises
    ------
    UserError
        If there is no such plugin, or it is invalid.
    """
    plugins = discover_plugins(project)
    known = {**plugins.methods, **plugins.datasets}
    if name not in known:
        raise UserError(f"no method or data set is called {name!r}; known: {', '.join(known)}")
    info = known[name]
    if isinstance(info, BrokenPlugin):
        raise UserError(f"{name} is invalid: {info.why}")
    tests = project.root / "tests" / "contract"
    arguments = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests), "--plugin", name]
    return subprocess.run(arguments, cwd=project.root, check=False).returncode


def write_description(project: Project, method: str, path: Path) -> None:
    """Write what a method says of itself, or why it cannot be used, as JSON."""
    info = discover_methods(project.methods)[method]
    if isinstance(info, BrokenPlugin):
        print(f"{info.name}: invalid: {info.why}", file=sys.stderr)
        write_json(path, {"name": info.name, "title": info.name, "status": "invalid", "message": info.why})
        return
    described = info.model_dump(mode="json", exclude={"folder"})
    write_json(path, described | {"status": "ok", "message": ""})
