"""Tables of scores: all test metrics of a data set beside size, time and memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from morphobench.report.formatting import interval, metric_title, score, seconds
from morphobench.report.results import RunResults, rows_of
from morphobench.report.table import Cell, ReportTable, number_cell, row_link

__all__ = ["scores", "tables"]

COSTS = ["parameters", "compile_s", "fit_s", "predict_s", "peak_rss_mb"]


def tables(results: RunResults) -> list[ReportTable]:
    """Return the scores of every data set that has some."""
    scored = results.datasets_in(results.means[results.means["split"] == "test"])
    return [scores(results, dataset) for dataset in scored]


def scores(results: RunResults, dataset: str) -> ReportTable:
    """All test metrics of one data set with intervals, beside size, time and memory."""
    means = results.means.reset_index(names="position")
    means = means[(means["dataset"] == dataset) & (means["split"] == "test")]
    metrics = list(dict.fromkeys(means.sort_values("primary", ascending=False, kind="stable")["metric"]))
    done = results.trials[(results.trials["dataset"] == dataset) & (results.trials["status"] == "ok")]
    rows = []
    for entry in results.entries_in(means):
        by_metric = {row["metric"]: row for row in rows_of(means, entry).to_dict("records")}
        first = by_metric.get(metrics[0]) or next(iter(by_metric.values()))
        cost = rows_of(done, entry)[COSTS].apply(pd.to_numeric).mean()
        failed = int(first["failed"])
        rows.append(
            [
                Cell(results.title(entry)),
                *(_score_cell(by_metric.get(metric)) for metric in metrics),
                Cell(str(first["seeds"]) + (f" ({failed} failed)" if failed else ""), int(first["seeds"])),
                number_cell(cost["parameters"]),
                number_cell(cost["compile_s"], seconds),
                number_cell(cost["fit_s"], seconds),
                number_cell(cost["predict_s"], seconds),
                number_cell(cost["peak_rss_mb"]),
                row_link("means.csv", int(first["position"])),
            ]
        )
    columns = ["Method", *map(metric_title, metrics), "Seeds", "Parameters", "Compilation", "Training", "Prediction"]
    columns += ["Memory (MiB)", "Source"]
    caption = f"{results.dataset_title(dataset)}: test scores, mean over seeds [interval]"
    return ReportTable(f"scores-{dataset}", caption, columns, rows, "means.csv", frozenset(range(1, len(columns))))


def _score_cell(row: Mapping[Any, Any] | None) -> Cell:
    if row is None:
        return Cell("—")
    bounds = interval(row["low"], row["high"], row["metric"]) or f"({row['interval']})"
    return Cell(score(row["mean"], row["metric"]), float(row["mean"]), detail=bounds)
