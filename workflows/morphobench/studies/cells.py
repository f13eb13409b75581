"""Cells of the studies: what a study lists, and what runs one cell.

A study is a package beside this module whose module ``study`` offers what `Study` names. It lists its cells from the settings alone, without starting a
framework; cells of one instance share what is costly (the reference, the compiled programs) in an `OpenInstance`, where
the worker prepares all of them first and then measures them in turns. Imports no framework.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from morphobench.plugins.discovery import Plugins
from morphobench.project.errors import UserError
from morphobench.settings.records import CellRecord
from morphobench.studies.measurement import Repeated

__all__ = ["Cell", "OpenInstance", "Row", "Study", "by_instance", "study_module", "study_names"]

Row = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One measurement of a study.

    Parameters
    ----------
    name : str
        Unique in its study and framework; lower case, digits, ``.``, ``_`` and ``-``: it names the record's file.
    instance : str
        Cells of one instance follow each other in the list and run in one process.
    settings : mapping
        What the study needs to run the cell, as JSON.
    """

    name: str
    instance: str
    settings: Mapping[str, Any]


class OpenInstance(Protocol):
    """An instance with what its cells share. Every method may raise: the cell becomes a row with the message."""

    def prepare(self, cell: Cell) -> None:
        """Build, compile and warm up; work out whatever is not a time."""
        ...

    def measure(self, cell: Cell) -> Mapping[str, float]:
        """Do the work once and return its seconds by phase; called in turns with the other cells of the instance."""
        ...

    def rows(self, cell: Cell, repeated: Repeated) -> list[Row]:
        """Return the rows of the table for this cell, given the seconds of all repeats."""
        ...


class Study(Protocol):
    """What the module ``study`` of a package offers."""

    COLUMN_TYPES: Mapping[str, type]  # of its table of rows
    OUTPUTS: Sequence[str]  # files that `collect` writes besides that table

    def plugin_folders(self, settings: Mapping[str, Any], framework: str, plugins: Plugins) -> list[Path]:
        """Return the folders of the methods and data sets whose code is measured in one framework."""
        ...

    def cells(self, settings: Mapping[str, Any], framework: str, plugins: Plugins) -> list[Cell]:
        """List the cells of one framework, instance by instance."""
        ...

    def open_instance(
        self, instance: str, settings: Mapping[str, Any], framework: str, device: str, threads: int
    ) -> OpenInstance:
        """Open an instance in the process that measures; ``device`` is "cpu" or "cuda"."""
        ...

    def failed_rows(self, cell: Cell) -> list[Row]:
        """Return the rows of a cell that gave none: what is known of it, the rest left out."""
        ...

    def collect(self, table: Any, records: Sequence[CellRecord], out: Path) -> None:
        """Write `OUTPUTS`, what the study tells besides its table of rows (a DataFrame with `COLUMN_TYPES`)."""
        ...


def study_names() -> list[str]:
    """Return the names of the studies: the packages that have a module ``study``."""
    return sorted(path.parent.name for path in Path(__file__).parent.glob("*/study.py"))


def study_module(name: str) -> Study:
    """Return the module of a study.

    Raises
    ------
    UserError
        If there is no study of that name.
    """
    known = study_names()
    if name not in known:
        raise UserError(f"study: found {name!r}, expected {' or '.join(known)}")
    return cast("Study", importlib.import_module(f"morphobench.studies.{name}.study"))


def by_instance(cells: Sequence[Cell]) -> Iterator[list[Cell]]:
    """Yield the cells that follow each other with the same instance."""
    together: list[Cell] = []
    for cell in cells:
        if together and together[0].instance != cell.instance:
            yield together
            together = []
        together.append(cell)
    if together:
        yield together
