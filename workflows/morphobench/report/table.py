"""Tables of the report, ready to be shown: text, sort key and kind of every cell, and the CSV they were made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from morphobench.report.formatting import number

__all__ = ["Cell", "ReportTable", "number_cell", "row_link"]


@dataclass(frozen=True)
class Cell:
    """One cell: what is read, what is sorted by, and how it is marked (a CSS class)."""

    text: str
    sort: float | str = ""
    kind: str = ""
    link: str = ""
    detail: str = ""  # second line, never broken


@dataclass(frozen=True)
class ReportTable:
    """A table: the first cell of each row is its header; ``source`` is the CSV below ``tables/`` it was made from."""

    name: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    source: str = ""
    numeric: frozenset[int] = field(default_factory=frozenset)


def number_cell(value: Any, say: Callable[[float], str] = number) -> Cell:
    """Say a number, or a dash where there is none."""
    missing = value is None or value != value
    return Cell("—" if missing else say(float(value)), "" if missing else float(value))


def row_link(source: str, position: int) -> Cell:
    """Link to a row of a CSV (RFC 7111 counts rows from 1, the header being the first)."""
    return Cell(f"row {position + 2}", position, "source", f"tables/{source}#row={position + 2}")
