"""What the report says of corrupted test images: a table and a sentence a data set."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from morphobench.contract import PRIMARY_METRIC
from morphobench.report.formatting import metric_title, score, signed
from morphobench.report.results import Entry, RunResults, entry_of
from morphobench.report.robustness.figures import NOISES, TITLES, corrupted_means
from morphobench.report.scores.tables import Cell, Exhibit, number_cell

__all__ = ["losses", "noise_sentences", "robustness", "robustness_sentences"]


Loss = dict[str, Any]


def losses(results: RunResults) -> list[Loss]:
    """Clean score, and mean loss over severities by corruption, by noise, and over all corruptions, one a data set and entry."""
    means = corrupted_means(results)
    found: list[Loss] = []
    for (dataset, method, variant), rows in means.groupby(["dataset", "method", "variant"], sort=False):
        clean = float(rows.loc[rows["severity"] == 0, "mean"].iloc[0])
        by_name = {str(name): clean - float(group.mean()) for name, group in rows.groupby("corruption")["mean"]}
        corruptions = [by_name[name] for name in TITLES if name in by_name]
        if corruptions:
            entry = {"dataset": dataset, "method": method, "variant": variant, "clean": clean}
            found.append({**entry, **by_name, "all": sum(corruptions) / len(corruptions)})
    order = {name: place for place, name in enumerate(results.dataset_names)}
    return sorted(found, key=lambda loss: (order[loss["dataset"]], loss["all"]))


def robustness(results: RunResults) -> Exhibit:
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
    return Exhibit("robustness", caption, columns, rows, "robustness.csv", frozenset(range(3, len(columns))))


def robustness_sentences(results: RunResults) -> list[str]:
    """Which method loses least on each data set, beside the baseline, and what could not be tried."""
    sentences = []
    for dataset, group in groupby(losses(results), key=lambda loss: loss["dataset"]):
        rows, metric = list(group), PRIMARY_METRIC[results.task(dataset)]
        said = [
            f"{how} by “{results.title(entry_of(row))}” ({signed(-row['all'], metric)} from {score(row['clean'], metric)})"
            for how, row in (("least", rows[0]), ("most", rows[-1]))
        ]
        text = (
            f"{results.dataset_title(dataset)}: over all corruptions and severities {metric_title(metric)} falls {said[0]}, "
            f"{said[1]}"
        )
        baseline = [signed(-row["all"], metric) for row in rows if entry_of(row) == results.baseline]
        sentences.append(f"{text}; the baseline changes by {baseline[0]}." if baseline else f"{text}.")
    sentences += noise_sentences(results)
    failed = results.robustness[results.robustness["status"] != "ok"]
    for row in failed.drop_duplicates(["dataset", "method", "variant"]).to_dict("records"):
        sentences.append(
            f"“{results.title(entry_of(row))}” could not be tried on {results.dataset_title(row['dataset'])}: {row['message']}."
        )
    return sentences


def noise_sentences(results: RunResults) -> list[str]:
    """Mean score over all levels of noise on each data set: who keeps most and least, and the baseline."""
    means, sentences = corrupted_means(results), []
    means = means[means["corruption"].isin(NOISES)]
    for dataset in (name for name in results.dataset_names if name in set(means["dataset"])):
        metric = PRIMARY_METRIC[results.task(dataset)]
        mine = means[means["dataset"] == dataset]
        by_entry = mine.groupby(["method", "variant"])["mean"].mean().sort_values(ascending=False)
        entries = [Entry(*map(str, key)) for key in by_entry.index]
        told = [
            f"“{results.title(entry)}” {score(value, metric)}"
            for entry, value in zip(entries, by_entry, strict=True)
            if entry in (entries[0], entries[-1], results.baseline)
        ]
        sentences.append(
            f"{results.dataset_title(dataset)} under uniform and normal noise, mean {metric_title(metric)} over all levels above "
            f"none: {'; '.join(dict.fromkeys(told))} (highest, {'baseline, ' if len(told) > 2 else ''}lowest)."
        )
    return sentences
