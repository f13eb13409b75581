"""What of the project decides the result of a trial and the arrays of a data set, and the digest of it."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from morphobench.contract import FRAMEWORKS
from morphobench.plugins.discovery import BrokenPlugin, DatasetInfo, MethodInfo
from morphobench.project.files import digest, file_digests
from morphobench.project.paths import Project

__all__ = [
    "code_hash",
    "dataset_sources",
    "first_change",
    "hash_of",
    "method_sources",
    "plugin_files",
    "preparation_sources",
    "snapshot",
]

# What of the harness can change the arrays of a trial; the rest schedules, scores or draws, or gives what the key of a trial names
# (params and data). Of training, the packages of other frameworks cannot.
DECISIVE = ("contract", "data", "plugins", "training", "backbones.py", "runs/environment.py", "trials/worker.py")
# What of it can change the arrays of a data set.
PREPARING = ("contract", "data", "plugins")

# Parts of the library that are no part of what its layers compute; a plugin that imports one depends on it all the same.
BESIDE_THE_LAYERS = {"convert.py", "pictures", "reference"}

# What lies in the folder of a plugin for people and for the report, and decides nothing of what it computes.
BESIDE_THE_CODE = {"README.md", "published.csv"}


def method_sources(project: Project, info: MethodInfo | BrokenPlugin) -> list[Path]:
    """Return every file whose change can change what a trial of this method computes; those of other frameworks cannot."""
    own = plugin_files(info.folder)
    if not isinstance(info, MethodInfo):
        return own
    named = _imported(own)
    others: set[str] = {name for name in FRAMEWORKS if name != info.framework}
    return own + _harness_sources(project, DECISIVE, others, named) + _library_sources(project, others, named)


def dataset_sources(project: Project, info: DatasetInfo | BrokenPlugin) -> list[Path]:
    """Return every file whose change can change the arrays of a data set, those of the data sets that it is made from as well."""
    made_from = info.made_from if isinstance(info, DatasetInfo) else ()
    return preparation_sources(project, info.folder, *(info.folder.parent / name for name in made_from))


def preparation_sources(project: Project, *folders: Path) -> list[Path]:
    """Return the files of plugins of data sets, and of the harness and the library what they can call."""
    own = plugin_files(*folders)
    named = _imported(own)
    others: set[str] = set(FRAMEWORKS)
    return own + _harness_sources(project, PREPARING, others, named) + _library_sources(project, others, named)


def plugin_files(*folders: Path) -> list[Path]:
    """Return every file in the folders of plugins, tables beside the code as well.

    Left out are README.md and published.csv, which no code reads, and what tools leave: hidden files, ``__pycache__``, backups.
    """
    return sorted(path for folder in folders for path in _files(folder) if path.is_file())


def snapshot(project: Project, info: MethodInfo | DatasetInfo | BrokenPlugin) -> dict[str, str]:
    """Return the digests of `method_sources`, or of `dataset_sources` for a data set, by their names in the checkout."""
    if info.folder.parent == project.datasets:
        assert not isinstance(info, MethodInfo)
        return file_digests(dataset_sources(project, info), project.root)
    assert not isinstance(info, DatasetInfo)
    return file_digests(method_sources(project, info), project.root)


def hash_of(digests: Mapping[str, str]) -> str:
    """Digest of a `snapshot`."""
    return digest(json.dumps(digests, sort_keys=True))


def code_hash(project: Project, info: MethodInfo | DatasetInfo | BrokenPlugin) -> str:
    """Digest of the files as they lie there."""
    return hash_of(snapshot(project, info))


def first_change(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Name the first file in which two snapshots differ, "" if none.

    Examples
    --------
    >>> first_change({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"})
    'b'
    """
    return min((name for name in {*before, *after} if before.get(name) != after.get(name)), default="")


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder, followlinks=True):
        inside = {Path(place).resolve(), *Path(place).resolve().parents}
        kept = [name for name in folders if not _is_left_by_a_tool(name)]
        # A link to a folder around it would be walked without end.
        folders[:] = [name for name in kept if (Path(place) / name).resolve() not in inside]
        yield from (Path(place) / name for name in names if not (name in BESIDE_THE_CODE or _is_left_by_a_tool(name)))


def _is_left_by_a_tool(name: str) -> bool:
    return name.startswith(".") or name.endswith("~") or name == "__pycache__"


def _harness_sources(project: Project, places: Sequence[str], others: set[str], named: set[str]) -> list[Path]:
    """Return the modules of some places of the harness, and the packages that a plugin imports beside them.

    Parameters
    ----------
    others : set of str
        Frameworks whose packages are left out, unless the plugin imports one.
    named : set of str
        Dotted names that the plugin imports.
    """
    training = project.harness / "training"
    left_out = {training / name for name in others if not _names(named, f"morphobench.training.{name}")}
    beside = [path for path in project.harness.iterdir() if _names(named, f"morphobench.{path.stem}")]
    found = {path for place in (*(project.harness / name for name in places), *beside) for path in _modules(place)}
    return sorted(path for path in found if not left_out & set(path.parents))


def _library_sources(project: Project, others: set[str], named: set[str]) -> list[Path]:
    """Return what the layers are made of, without the halves of other frameworks, if a plugin imports the library at all."""
    if not _names(named, "varmorph"):
        return []
    unless_named = BESIDE_THE_LAYERS | others
    left_out = {part for part in unless_named if not _names(named, f"varmorph.{Path(part).stem}")}
    found = sorted(project.library.rglob("*.py"))
    return [path for path in found if path.relative_to(project.library).parts[0] not in left_out]


def _modules(place: Path) -> Iterable[Path]:
    return place.rglob("*.py") if place.is_dir() else [place]


def _names(imported: set[str], module: str) -> bool:
    """Tell whether a module, or what lies in it, is among dotted names."""
    return any(name == module or name.startswith(f"{module}.") for name in imported)


def _imported(sources: Sequence[Path]) -> set[str]:
    """Return the dotted names that Python files import, those of objects included."""
    names: set[str] = set()
    for path in sources:
        if path.suffix != ".py":
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):  # a file that is no Python imports nothing
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names
