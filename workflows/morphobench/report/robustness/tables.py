"""Table of scores on corrupted test images."""

from __future__ import annotations

from morphobench.contract import PRIMARY_METRIC
from morphobench.report.formatting import metric_title, score, signed
from morphobench.report.results import RunResults, entry_of
from morphobench.report.robustness.rows import NOISES, TITLES, losses
from morphobench.report.table import Cell, ReportTable, number_cell

__all__ = ["robustness", "tables"]


def tables(results: RunResults) -> list[ReportTable]:
    """Return the losses by corruption."""
    return [robustness(results)]


def robustness(results: RunResults) -> ReportTable:
    """Clean score and mean loss of score by corruption."""
    found = losses(results)
    titles = {**TITLES, **NOISES}
    present = [name for name in titles if any(name in loss for loss in found)]
    rows = []
    for row in found:
        metric = PRIMARY_METRIC[results.task(row["dataset"])]
        rows.append(
            [
                Cell(results.title(entry_of(row))),
                Cell(results.dataset_title(row["dataset"])),
                Cell(metric_title(metric)),
                number_cell(row["clean"], lambda value, metric=metric: score(value, metric)),  # type: ignore[misc]
                *(number_cell(row.get(name), lambda value, metric=metric: signed(-value, metric)) for name in present),  # type: ignore[misc]
                number_cell(row["all"], lambda value, metric=metric: signed(-value, metric)),  # type: ignore[misc]
            ]
        )
    columns = ["Method", "Data set", "Metric", "Clean", *(titles[name].capitalize() for name in present), "All"]
    caption = "Test score as it is, and its mean change over the severities of each corruption; noise is not counted among all"
    return ReportTable("robustness", caption, columns, rows, "robustness.csv", frozenset(range(3, len(columns))))
