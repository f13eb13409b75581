"""Table of ranks."""

from __future__ import annotations

import pandas as pd

from morphobench.report.results import RunResults, rows_of
from morphobench.report.table import Cell, ReportTable, number_cell

__all__ = ["rankings", "tables"]


def tables(results: RunResults) -> list[ReportTable]:
    """Return the ranks."""
    return [rankings(results)]


def rankings(results: RunResults) -> ReportTable:
    """Ranks of every method on every data set and the average ranks."""
    table = results.ranking
    scopes = [scope for scope in dict.fromkeys(table["scope"]) if scope != "dataset"]
    ranked = set(table.loc[table["scope"] == "dataset", "datasets"])
    datasets = [name for name in results.dataset_names if name in ranked]
    rows = []
    for entry in results.entries:
        mine = rows_of(table, entry)
        if mine.empty:
            continue
        cells = [Cell(results.title(entry))]
        for scope in scopes:
            found = mine.loc[mine["scope"] == scope, "rank"]
            cells.append(number_cell(found.iloc[0] if len(found) else None, lambda rank: f"{rank:.2f}"))
        for dataset in datasets:
            found_rows = mine[(mine["scope"] == "dataset") & (mine["datasets"] == dataset)]
            cells.append(_rank_cell(found_rows.iloc[0]) if len(found_rows) else Cell("—"))
        rows.append(cells)
    titles = ["average, all" if scope == "all" else f"average, {scope.replace('_', ' ')}" for scope in scopes]
    columns = ["Method", *titles, *map(results.dataset_title, datasets)]
    caption = "Ranks by the primary test metric (1 is best); a method with a failed seed ranks behind those without"
    return ReportTable("ranking", caption, columns, rows, "ranking.csv", frozenset(range(1, len(columns))))


def _rank_cell(row: pd.Series) -> Cell:
    failed = int(row["failed"])
    text = f"{row['rank']:g} of {int(row['entries'])}"
    return Cell(text + (f" ({failed} failed)" if failed else ""), float(row["rank"]), "failed" if failed else "")
