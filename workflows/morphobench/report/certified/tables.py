"""Table of certified and attacked accuracy."""

from __future__ import annotations

from morphobench.report.certified.rows import certified_means
from morphobench.report.formatting import score
from morphobench.report.results import RunResults, entry_of
from morphobench.report.table import Cell, ReportTable, number_cell

__all__ = ["certified", "tables"]


def tables(results: RunResults) -> list[ReportTable]:
    """Return the shares by epsilon."""
    return [certified(results)]


def certified(results: RunResults) -> ReportTable:
    """Clean, certified and attacked accuracy at each epsilon."""
    rows = []
    for row in certified_means(results).to_dict("records"):
        cells = [
            Cell(results.title(entry_of(row))),
            Cell(results.dataset_title(row["dataset"])),
            number_cell(row["epsilon"], lambda value: f"{value:g}"),
        ]
        for kind in ("clean", "certified", "attacked"):
            spread = f" [{score(row[f'{kind}_min'], 'accuracy')}, {score(row[f'{kind}_max'], 'accuracy')}]"
            cells.append(number_cell(row[kind], lambda value, spread=spread: score(value, "accuracy") + spread))  # type: ignore[misc]
        cells += [number_cell(row[name], lambda value: f"{value:.0f}") for name in ("seeds", "proofs_attacked")]
        rows.append(cells)
    columns = ["Method", "Data set", "Epsilon", "Clean", "Certified", "Attacked", "Seeds", "Proofs attacked"]
    caption = (
        "Share of the test images that are right, proven right for every change of at most epsilon a pixel, and right after an attack of "
        "that size: mean over seeds [smallest, largest]; no proof that was attacked fell"
    )
    return ReportTable("certified", caption, columns, rows, "certified.csv", frozenset(range(2, len(columns))))
