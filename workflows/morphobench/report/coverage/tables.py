"""Tables of coverage: the primary score of every data set and method, or why there is none."""

from __future__ import annotations

from typing import Any, cast

import pandas as pd

from morphobench.contract import PRIMARY_METRIC
from morphobench.report.formatting import metric_title, score
from morphobench.report.results import RunResults, entry_of, rows_of
from morphobench.report.table import Cell, ReportTable, number_cell

__all__ = ["coverage", "failures", "tables"]

MOST_NAMES = 4  # longer lists of methods are counted instead


def tables(results: RunResults) -> list[ReportTable]:
    """Return the coverage and the failures by reason."""
    return [coverage(results), failures(results)]


def coverage(results: RunResults) -> ReportTable:
    """Every data set × method: the primary score, or the reason why there is none."""
    datasets = results.dataset_names
    means = results.primary_means().set_index(["dataset", "method", "variant"])
    rows = []
    for entry in results.entries:
        mine, cells = rows_of(results.trials, entry), [Cell(results.title(entry))]
        for dataset in datasets:
            trials = mine[mine["dataset"] == dataset]
            key = (dataset, *entry)
            cells.append(_coverage_cell(results, trials, means.loc[[key]].iloc[0] if key in means.index else None, key))
        rows.append(cells)
    columns = ["Method", *(f"{results.dataset_title(name)} ({_metric_of(results, name)})" for name in datasets)]
    caption = "Test score (mean over the seeds that succeeded) or the reason why there is none"
    return ReportTable("coverage", caption, columns, rows, "trials.csv", frozenset(range(1, len(columns))))


def _metric_of(results: RunResults, dataset: str) -> str:
    return metric_title(PRIMARY_METRIC.get(results.task(dataset), results.task(dataset) or "no task"))


def _coverage_cell(results: RunResults, trials: pd.DataFrame, mean: Any, key: tuple[str, str, str]) -> Cell:
    dataset, method, variant = key
    if trials.empty:
        described = results.methods.get(method, {})
        own = described.get("variants", {}).get(variant, {})
        tasks = own.get("tasks", described.get("tasks"))
        if tasks is not None and results.task(dataset) not in tasks:
            return Cell("not its task", kind="none")
        return Cell("not run here", kind="none")
    failed = trials[trials["status"] != "ok"]
    kinds = failed["status"].str.replace("_", " ").value_counts()
    reasons = ", ".join(f"{kind} {times}" for kind, times in kinds.items())
    if mean is None:
        kind = "unavailable" if set(failed["status"]) == {"unavailable"} else "failed"
        text = "not available" if kind == "unavailable" else f"{reasons} of {len(trials)} seeds"
        return Cell(text, kind=kind)
    text = score(mean["mean"], mean["metric"])
    if failed.empty:
        return Cell(text, float(mean["mean"]), "ok")
    return Cell(f"{text}; {reasons} of {len(trials)} seeds", float(mean["mean"]), "partly")


def failures(results: RunResults) -> ReportTable:
    """Every reason why trials have no score, with the data sets, methods and seeds it met."""
    failed = results.trials[results.trials["status"] != "ok"]
    failed = failed.assign(message=failed["message"].fillna(""))
    rows = []
    for key, group in failed.groupby(["status", "message"], sort=True):
        status, message = map(str, cast("tuple[str, str]", key))
        methods = dict.fromkeys(results.title(entry_of(row)) for row in group.to_dict("records"))
        rows.append(
            [
                Cell(status.replace("_", " "), kind="unavailable" if status == "unavailable" else "failed"),
                Cell(message),
                Cell(", ".join(map(results.dataset_title, dict.fromkeys(group["dataset"])))),
                Cell(", ".join(methods) if len(methods) <= MOST_NAMES else f"{len(methods)} methods"),
                Cell(", ".join(map(str, sorted(group["seed"].unique())))),
                number_cell(len(group)),
            ]
        )
    columns = ["Status", "Message", "Data sets", "Methods", "Seeds", "Trials"]
    return ReportTable("failures", "Trials without a score, by reason", columns, rows, "trials.csv", frozenset({5}))
