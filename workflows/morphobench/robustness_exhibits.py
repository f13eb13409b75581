"""What the report says of corrupted test images: a table and a sentence a data set."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from morphobench.contract import PRIMARY_METRIC
from morphobench.exhibits import Cell, Exhibit, number_cell
from morphobench.figures.evidence import Entry, Evidence, entry_of
from morphobench.figures.robustness import NOISES, TITLES, corrupted_means
from morphobench.figures.wording import metric_title, score, signed

__all__ = ["losses", "noise_sentences", "robustness", "robustness_sentences"]


Loss = dict[str, Any]


def losses(evidence: Evidence) -> list[Loss]:
    """Clean score, and mean loss over severities by corruption, by noise, and over all corruptions, one a data set and entry."""
    means = corrupted_means(evidence)
    found: list[Loss] = []
    for (dataset, method, variant), rows in means.groupby(["dataset", "method", "variant"], sort=False):
        clean = float(rows.loc[rows["severity"] == 0, "mean"].iloc[0])
        by_name = {str(name): clean - float(group.mean()) for name, group in rows.groupby("corruption")["mean"]}
        corruptions = [by_name[name] for name in TITLES if name in by_name]
        if corruptions:
            entry = {"dataset": dataset, "method": method, "variant": variant, "clean": clean}
            found.append({**entry, **by_name, "all": sum(corruptions) / len(corruptions)})
    order = {name: place for place, name in enumerate(evidence.dataset_names)}
    return sorted(found, key=lambda loss: (order[loss["dataset"]], loss["all"]))


def robustness(evidence: Evidence) -> Exhibit:
    """Clean score and mean loss of score by corruption."""
    found = losses(evidence)
    titles = {**TITLES, **NOISES}
    present = [name for name in titles if any(name in loss for loss in found)]
    rows = []
    for row in found:
        metric = PRIMARY_METRIC[evidence.task(row["dataset"])]
        rows.append(
            [
                Cell(evidence.title(entry_of(row))),
                Cell(evidence.dataset_title(row["dataset"])),
                Cell(metric_title(metric)),
                number_cell(row["clean"], lambda value, metric=metric: score(value, metric)),  # type: ignore[misc]
                *(number_cell(row.get(name), lambda value, metric=metric: signed(-value, metric)) for name in present),  # type: ignore[misc]
                number_cell(row["all"], lambda value, metric=metric: signed(-value, metric)),  # type: ignore[misc]
            ]
        )
    columns = ["Method", "Data set", "Metric", "Clean", *(titles[name].capitalize() for name in present), "All"]
    caption = "Test score as it is, and its mean change over the severities of each corruption; noise is not counted among all"
    return Exhibit("robustness", caption, columns, rows, "robustness.csv", frozenset(range(3, len(columns))))


def robustness_sentences(evidence: Evidence) -> list[str]:
    """Which method loses least on each data set, beside the baseline, and what could not be tried."""
    sentences = []
    for dataset, group in groupby(losses(evidence), key=lambda loss: loss["dataset"]):
        rows, metric = list(group), PRIMARY_METRIC[evidence.task(dataset)]
        said = [
            f"{how} by “{evidence.title(entry_of(row))}” ({signed(-row['all'], metric)} from {score(row['clean'], metric)})"
            for how, row in (("least", rows[0]), ("most", rows[-1]))
        ]
        text = (
            f"{evidence.dataset_title(dataset)}: over all corruptions and severities {metric_title(metric)} falls {said[0]}, "
            f"{said[1]}"
        )
        baseline = [signed(-row["all"], metric) for row in rows if entry_of(row) == evidence.baseline]
        sentences.append(f"{text}; the baseline changes by {baseline[0]}." if baseline else f"{text}.")
    sentences += noise_sentences(evidence)
    failed = evidence.robustness[evidence.robustness["status"] != "ok"]
    for row in failed.drop_duplicates(["dataset", "method", "variant"]).to_dict("records"):
        sentences.append(
            f"“{evidence.title(entry_of(row))}” could not be tried on {evidence.dataset_title(row['dataset'])}: {row['message']}."
        )
    return sentences


def noise_sentences(evidence: Evidence) -> list[str]:
    """Mean score over all levels of noise on each data set: who keeps most and least, and the baseline."""
    means, sentences = corrupted_means(evidence), []
    means = means[means["corruption"].isin(NOISES)]
    for dataset in (name for name in evidence.dataset_names if name in set(means["dataset"])):
        metric = PRIMARY_METRIC[evidence.task(dataset)]
        mine = means[means["dataset"] == dataset]
        by_entry = mine.groupby(["method", "variant"])["mean"].mean().sort_values(ascending=False)
        entries = [Entry(*map(str, key)) for key in by_entry.index]
        told = [
            f"“{evidence.title(entry)}” {score(value, metric)}"
            for entry, value in zip(entries, by_entry, strict=True)
            if entry in (entries[0], entries[-1], evidence.baseline)
        ]
        sentences.append(
            f"{evidence.dataset_title(dataset)} under uniform and normal noise, mean {metric_title(metric)} over all levels above "
            f"none: {'; '.join(dict.fromkeys(told))} (highest, {'baseline, ' if len(told) > 2 else ''}lowest)."
        )
    return sentences
