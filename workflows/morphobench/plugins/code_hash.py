"""What of the project decides the result of a trial, and the digest of it."""

from __future__ import annotations

import ast
from pathlib import Path

from morphobench.contract import FRAMEWORKS
from morphobench.plugins.discovery import BrokenPlugin, DatasetInfo, MethodInfo
from morphobench.project.files import digest_files
from morphobench.project.paths import Project

__all__ = ["code_hash", "dataset_sources", "method_sources"]

# What of the harness can change the arrays of a trial; the rest schedules, scores or draws, or gives what the key of a trial names
# (params and data). Of training, the packages of other frameworks cannot.
DECISIVE = ("contract", "data", "plugins", "training", "backbones.py", "runs/environment.py", "trials/worker.py")

# Parts of the library that are no part of what its layers compute.
BESIDE_THE_LAYERS = {"convert.py", "pictures", "reference"}


def method_sources(project: Project, info: MethodInfo | BrokenPlugin) -> list[Path]:
    """Return every file whose change can change what a trial of this method computes; those of other frameworks cannot."""
    own = _plugin_files(info.folder)
    if not isinstance(info, MethodInfo):
        return own
    library = _library_sources(project, info.framework) if _imports(own, "varmorph") else []
    return own + _harness_sources(project, info.framework) + library


def _harness_sources(project: Project, framework: str) -> list[Path]:
    """Return the modules of the harness that a trial of one framework runs."""
    others = {project.harness / "training" / name for name in FRAMEWORKS if name != framework}
    places = [project.harness / name for name in DECISIVE]
    found = [path for place in places for path in (place.rglob("*.py") if place.is_dir() else [place])]
    return sorted(path for path in found if not others & set(path.parents))


def _library_sources(project: Project, framework: str) -> list[Path]:
    """Return what the layers of one framework are made of: its half of the library and what both halves share."""
    others = (BESIDE_THE_LAYERS | set(FRAMEWORKS)) - {framework}
    found = sorted(project.library.rglob("*.py"))
    return [path for path in found if path.relative_to(project.library).parts[0] not in others]


def dataset_sources(info: DatasetInfo | MethodInfo | BrokenPlugin) -> list[Path]:
    """Return the files of a plugin; of a data set also those of the data sets that it is made from."""
    made_from = info.made_from if isinstance(info, DatasetInfo) else ()
    return _plugin_files(info.folder, *(info.folder.parent / name for name in made_from))


def _plugin_files(*folders: Path) -> list[Path]:
    found = (path for folder in folders for path in folder.rglob("*"))
    return sorted(path for path in found if path.suffix in {".py", ".yaml"} and path.is_file())


def _imports(sources: list[Path], package: str) -> bool:
    for path in sources:
        if path.suffix != ".py":
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == package for name in names):
                return True
    return False


def code_hash(project: Project, info: MethodInfo | BrokenPlugin) -> str:
    """Digest of `method_sources`."""
    return digest_files(method_sources(project, info), project.root)
