"""The sections of the report: every package of `morphobench.report` is one and says in its `Section` where it stands.

Of its modules each may be missing:

``tables``
    ``tables(results)`` gives its tables, and ``expected(results)``, if it has that, the tables that are committed as the
    expected numbers of a run, by the end of their name.
``text``
    What ``section.html`` says, by any names; ``answer(results)``, if it has that, is its part of the short answer.
``figures``
    ``FIGURES``: functions from the results of a run to what they draw. It alone imports matplotlib.

The template ``section.html`` is given the results, the module ``text``, and the tables and figures of the section.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from morphobench import report
from morphobench.report.results import RunResults
from morphobench.report.table import ReportTable

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Answer", "Section", "expected_tables", "sections"]


class Answer(NamedTuple):
    """A sentence of the short answer, and what stands below it."""

    sentence: str
    details: Sequence[str] = ()


@dataclass(frozen=True)
class Section:
    """What a package of the report says of itself, as ``SECTION`` in its ``__init__``.

    Parameters
    ----------
    package : str
        Its ``__name__``; the last part is the anchor in the page.
    title : str
        Its heading.
    place : int
        Sections stand in this order.
    optional : bool
        Whether it is left out of the page where none of its tables has a row.
    answer_place : int
        Place of its sentences in the short answer, if it has any.
    files : mapping
        Name of a CSV beside the page -> what it holds.
    """

    package: str
    title: str
    place: int
    optional: bool = False
    answer_place: int = 0
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the package: its anchor in the page."""
        return self.package.rpartition(".")[2]

    def module(self, name: str) -> ModuleType | None:
        """Import its module ``tables``, ``text`` or ``figures``; None if it has none."""
        path = f"{self.package}.{name}"
        return importlib.import_module(path) if importlib.util.find_spec(path) else None

    def tables(self, results: RunResults) -> list[ReportTable]:
        """Return its tables, also those without a row."""
        tables = self.module("tables")
        return list(tables.tables(results)) if tables else []

    def answer(self, results: RunResults) -> list[Answer]:
        """Return its part of the short answer."""
        answer = getattr(self.module("text"), "answer", None)
        return answer(results) if answer else []


def sections() -> list[Section]:
    """Return the sections in the order of the page."""
    packages = [found.name for found in pkgutil.iter_modules(report.__path__, f"{report.__name__}.") if found.ispkg]
    return sorted((importlib.import_module(name).SECTION for name in packages), key=lambda section: section.place)


def expected_tables(results: RunResults) -> dict[str, pd.DataFrame]:
    """Return what the sections want committed as expected numbers of a run, by the end of the name of the file."""
    found: dict[str, pd.DataFrame] = {}
    for section in sections():
        expected = getattr(section.module("tables"), "expected", None)
        found |= expected(results) if expected else {}
    return found
