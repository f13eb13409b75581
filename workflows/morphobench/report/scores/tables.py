"""The tables of the report, ready to be shown: text, sort key and kind of every cell, and the CSV row it came from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pandas as pd

from morphobench.contract import PRIMARY_METRIC
from morphobench.report.formatting import (
    interval,
    metric_title,
    number,
    score,
    seconds,
    sentence_list,
    signed,
)
from morphobench.report.results import RunResults, entry_of

__all__ = [
    "Cell",
    "Exhibit",
    "coverage",
    "dataset_table",
    "differences",
    "failures",
    "method_table",
    "number_cell",
    "rankings",
    "scores",
]


MOST_NAMES = 4  # longer lists of methods are counted instead


@dataclass(frozen=True)
class Cell:
    """One cell: what is read, what is sorted by, and how it is marked (a CSS class)."""

    text: str
    sort: float | str = ""
    kind: str = ""
    link: str = ""
    detail: str = ""  # second line, never broken


@dataclass(frozen=True)
class Exhibit:
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


def _row_link(source: str, position: int) -> Cell:
    """Link to a row of a CSV (RFC 7111 counts rows from 1, the header being the first)."""
    return Cell(f"row {position + 2}", position, "source", f"tables/{source}#row={position + 2}")


def _numeric(columns: Sequence[str], *texts: str) -> frozenset[int]:
    return frozenset(place for place, column in enumerate(columns) if column not in texts)


def method_table(results: RunResults) -> Exhibit:
    """Every method: what it is, where it comes from, how large it is, at what rate it was trained."""
    columns = ["Method", "Family", "Framework", "Learnable parameters", "Learning rate", "What it is", "Stands for"]
    rows = []
    for entry in results.entries:
        trials = results.trials[
            (results.trials["method"] == entry.method) & (results.trials["variant"] == entry.variant)
        ]
        plugin = results.methods.get(entry.method, {})
        sizes, rates = trials["parameters"].dropna(), sorted(trials["learning_rate"].dropna().unique())
        span = "—"
        if len(sizes):
            span = number(sizes.min()) + (f" to {number(sizes.max())}" if sizes.max() > sizes.min() else "")
        link = next((url for url in map(_url, plugin.get("references", [])) if url), "")
        rows.append(
            [
                Cell(results.title(entry)),
                Cell(results.family(entry)),
                Cell(str(trials["framework"].iloc[0])),
                Cell(span, float(sizes.max()) if len(sizes) else ""),
                Cell(sentence_list(f"{rate:g}" for rate in rates) or "—", float(rates[0]) if rates else ""),
                Cell(str(plugin.get("summary") or plugin.get("message", ""))),
                Cell(str(plugin.get("citation", "")), link=link),
            ]
        )
    return Exhibit("methods", "Methods", columns, rows, "trials.csv", frozenset({3, 4}))


def _url(reference: str) -> str:
    if reference.startswith(("https://", "http://")):
        return reference
    return f"https://doi.org/{reference}" if reference.startswith("10.") else ""


def dataset_table(results: RunResults) -> Exhibit:
    """Every data set: task, size, licence, citation."""
    columns = [
        "Data set",
        "Task",
        "Train",
        "Valid",
        "Test",
        "Image (C×H×W) or features",
        "Classes",
        "Licence",
        "Cite",
        "Hash",
    ]
    rows = []
    for name in results.dataset_names:
        manifest = results.datasets.get(name, {})
        splits = manifest.get("splits", {})
        shape = "×".join(map(str, manifest.get("input_shape", []))) or "—"
        rows.append(
            [
                Cell(results.dataset_title(name)),
                Cell(results.task(name)),
                *(number_cell(splits.get(split)) for split in ("train", "valid", "test")),
                Cell(shape),
                number_cell(manifest.get("outputs") or None),
                Cell(str(manifest.get("licence", ""))),
                Cell(str(manifest.get("citation", ""))),
                Cell(str(manifest.get("data_hash", "")) or str(manifest.get("message", "")), kind="code"),
            ]
        )
    return Exhibit("datasets", "Data sets", columns, rows, "", frozenset({2, 3, 4, 6}))


def coverage(results: RunResults) -> Exhibit:
    """Every data set × method: the primary score, or the reason why there is none."""
    datasets = results.dataset_names
    means = results.primary_means().set_index(["dataset", "method", "variant"])
    rows = []
    for entry in results.entries:
        cells = [Cell(results.title(entry))]
        for dataset in datasets:
            trials = results.trials[
                (results.trials["dataset"] == dataset)
                & (results.trials["method"] == entry.method)
                & (results.trials["variant"] == entry.variant)
            ]
            key = (dataset, *entry)
            cells.append(_coverage_cell(results, trials, means.loc[[key]].iloc[0] if key in means.index else None, key))
        rows.append(cells)
    columns = ["Method", *(f"{results.dataset_title(name)} ({_metric_of(results, name)})" for name in datasets)]
    caption = "Test score (mean over the seeds that succeeded) or the reason why there is none"
    return Exhibit("coverage", caption, columns, rows, "trials.csv", frozenset(range(1, len(columns))))


def _metric_of(results: RunResults, dataset: str) -> str:
    return metric_title(PRIMARY_METRIC.get(results.task(dataset), results.task(dataset) or "no task"))


def _coverage_cell(results: RunResults, trials: pd.DataFrame, mean: Any, key: tuple[str, str, str]) -> Cell:
    dataset, method, variant = key
    if trials.empty:
        described = results.methods.get(method, {})
        tasks = described.get("variant_tasks", {}).get(variant, described.get("tasks"))
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


def failures(results: RunResults) -> Exhibit:
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
    return Exhibit("failures", "Trials without a score, by reason", columns, rows, "trials.csv", frozenset({5}))


def scores(results: RunResults, dataset: str) -> Exhibit:
    """All test metrics of one data set with intervals, beside size, time and memory."""
    means = results.means.reset_index(names="position")
    means = means[(means["dataset"] == dataset) & (means["split"] == "test")]
    metrics = list(dict.fromkeys(means.sort_values("primary", ascending=False, kind="stable")["metric"]))
    order = {entry: place for place, entry in enumerate(results.entries)}
    groups = {entry_of(group.iloc[0]): group for _, group in means.groupby(["method", "variant"])}
    rows = []
    for entry in sorted(groups, key=lambda entry: order[entry]):
        by_metric = {row["metric"]: row for row in groups[entry].to_dict("records")}
        first = by_metric.get(metrics[0]) or next(iter(by_metric.values()))
        trials = results.trials[
            (results.trials["dataset"] == dataset)
            & (results.trials["method"] == entry.method)
            & (results.trials["variant"] == entry.variant)
            & (results.trials["status"] == "ok")
        ]
        cost = trials[["parameters", "compile_s", "fit_s", "predict_s", "peak_rss_mb"]].apply(pd.to_numeric).mean()
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
                _row_link("means.csv", int(first["position"])),
            ]
        )
    columns = [
        "Method",
        *map(metric_title, metrics),
        "Seeds",
        "Parameters",
        "Compilation",
        "Training",
        "Prediction",
        "Memory (MiB)",
        "Source",
    ]
    caption = f"{results.dataset_title(dataset)}: test scores, mean over seeds [interval]"
    return Exhibit(f"scores-{dataset}", caption, columns, rows, "means.csv", _numeric(columns, "Method"))


def _score_cell(row: Mapping[Any, Any] | None) -> Cell:
    if row is None:
        return Cell("—")
    bounds = interval(row["low"], row["high"], row["metric"]) or f"({row['interval']})"
    return Cell(score(row["mean"], row["metric"]), float(row["mean"]), detail=bounds)


def differences(results: RunResults) -> Exhibit:
    """Paired differences to the baseline, in the order of the data sets and methods."""
    datasets, entries = results.dataset_names, results.entries
    found = list(enumerate(results.differences.to_dict("records")))
    rows = []
    for position, row in sorted(found, key=lambda f: (datasets.index(f[1]["dataset"]), entries.index(entry_of(f[1])))):
        low, high, metric = row["low"], row["high"], row["metric"]
        kind = "" if math.isnan(low) else "higher" if low > 0 else "lower" if high < 0 else ""
        bounds = interval(low, high, metric, difference=True) or f"({row['interval']})"
        rows.append(
            [
                Cell(results.dataset_title(row["dataset"])),
                Cell(results.title(entry_of(row))),
                Cell(metric_title(metric)),
                Cell(signed(row["difference"], metric), float(row["difference"]), kind, detail=bounds),
                Cell(str(row["seeds"]), int(row["seeds"])),
                number_cell(row["p_holm"], lambda p: f"{p:.3g}"),
                Cell(str(row["claim"])),
                _row_link("differences.csv", position),
            ]
        )
    columns = ["Data set", "Method", "Metric", "Difference", "Pairs", "p (Holm)", "Claim", "Source"]
    baseline = results.title(results.baseline) if results.baseline else "no baseline"
    caption = (
        f"Test score minus that of “{baseline}”, paired by seed [interval]; coloured where the interval excludes zero"
    )
    return Exhibit("differences", caption, columns, rows, "differences.csv", frozenset({3, 4, 5}))


def rankings(results: RunResults) -> Exhibit:
    """Ranks of every method on every data set and the average ranks."""
    table = results.ranking
    scopes = [scope for scope in dict.fromkeys(table["scope"]) if scope != "dataset"]
    datasets = [
        name for name in results.dataset_names if name in set(table.loc[table["scope"] == "dataset", "datasets"])
    ]
    rows = []
    for entry in results.entries:
        mine = table[(table["method"] == entry.method) & (table["variant"] == entry.variant)]
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
    return Exhibit("ranking", caption, columns, rows, "ranking.csv", frozenset(range(1, len(columns))))


def _rank_cell(row: pd.Series) -> Cell:
    failed = int(row["failed"])
    text = f"{row['rank']:g} of {int(row['entries'])}"
    return Cell(text + (f" ({failed} failed)" if failed else ""), float(row["rank"]), "failed" if failed else "")
