"""Cells of the studies: what a study lists, what runs one cell, and the record that one cell leaves.

A study is a module that offers what `Study` names. It lists its cells from the settings alone, without starting a
framework; cells of one instance share what is costly (the reference, the compiled programs) in an `OpenInstance`, where
the worker prepares all of them first and then measures them in turns. Imports no framework.
"""

from __future__ import annotations

import datetime
import importlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from morphobench.project.files import write_json
from morphobench.project.paths import find_project
from morphobench.project.validation import UserError, validate
from morphobench.studies.measurement import Repeated

__all__ = ["STUDIES", "Cell", "CellRecord", "OpenInstance", "Row", "Study", "by_instance", "study_module"]

STUDIES = ("gradients", "solvers", "recovery", "nonsmooth")

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
    """What a module of `STUDIES` offers."""

    DEFAULTS: Mapping[str, Any]
    COLUMNS: Sequence[str]

    def check(self, settings: Mapping[str, Any]) -> None:
        """Raise ValueError for settings that have the right types but do not fit."""
        ...

    def cells(self, settings: Mapping[str, Any], framework: str) -> list[Cell]:
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
        """Write what the study tells besides its table of rows (a DataFrame with `COLUMNS`): summaries, JSON."""
        ...


def study_module(name: str) -> Study:
    """Return the module of a study.

    Raises
    ------
    UserError
        If there is no study of that name.
    """
    if name not in STUDIES:
        raise UserError(f"study: found {name!r}, expected {' or '.join(STUDIES)}")
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


@dataclass
class CellRecord:
    """What one cell leaves behind, whatever happened to it (schemas/cell.schema.yaml)."""

    run: str
    study: str
    framework: str
    cell: str
    instance: str
    settings: Mapping[str, Any]
    status: str
    message: str
    rows: list[Row]
    command: str
    device: str
    threads: int
    load: float | None
    provenance: Mapping[str, Any]
    log_tail: list[str] = field(default_factory=list)
    finished: str = ""
    schema: int = 1

    def write(self, path: Path) -> None:
        """Stamp, check and write the record, whole or not at all; what is not finite becomes null."""
        self.finished = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        described = asdict(self) | {"rows": [{key: _plain(value) for key, value in row.items()} for row in self.rows]}
        validate(described, find_project().schemas / "cell.schema.yaml", str(path))
        write_json(path, described)

    @classmethod
    def read(cls, path: Path) -> CellRecord:
        """Read a record that `write` wrote."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))


def _plain(value: Any) -> Any:
    """Return a number of NumPy as Python's, and None for one that is not finite."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
