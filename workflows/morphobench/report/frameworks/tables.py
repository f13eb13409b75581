"""Table of networks that were trained in two frameworks."""

from __future__ import annotations

from morphobench.report.formatting import interval, metric_title, seconds, signed
from morphobench.report.results import Entry, RunResults, entry_of
from morphobench.report.table import Cell, ReportTable, number_cell

__all__ = ["counterparts", "tables"]


def tables(results: RunResults) -> list[ReportTable]:
    """Return the methods beside their counterparts."""
    return [counterparts(results)]


def counterparts(results: RunResults) -> ReportTable:
    """Every method beside its counterpart: paired difference, time of training and prediction, compilation."""
    order = {name: place for place, name in enumerate(results.dataset_names)}
    rows = []
    for row in sorted(results.counterparts.to_dict("records"), key=lambda row: (row["method"], order[row["dataset"]])):
        bounds = interval(row["low"], row["high"], row["metric"], difference=True) or f"({row['interval']})"
        rows.append(
            [
                Cell(results.title(entry_of(row))),
                Cell(results.title(Entry(row["counterpart"], row["variant"]))),
                Cell(results.dataset_title(row["dataset"])),
                Cell(metric_title(row["metric"])),
                Cell(signed(row["difference"], row["metric"]), float(row["difference"]), detail=bounds),
                number_cell(row["seeds"]),
                number_cell(row["fit_s"], seconds),
                number_cell(row["counterpart_fit_s"], seconds),
                number_cell(row["fit_ratio"]),
                number_cell(row["predict_ratio"]),
                number_cell(row["compile_s"], seconds),
            ]
        )
    columns = [
        *("Method", "Beside", "Data set", "Metric", "Difference", "Pairs", "Training", "Training beside"),
        *("Ratio of training", "Ratio of prediction", "Compilation, not in these"),
    ]
    caption = (
        "The same trial in two frameworks: test score minus that of the counterpart, paired by seed [interval]; median times "
        "and median ratios of the pairs"
    )
    return ReportTable("counterparts", caption, columns, rows, "counterparts.csv", frozenset(range(4, 11)))
