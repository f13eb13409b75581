"""What the report says of corrupted test images: a table and a sentence a data set."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from morphobench.contract import PRIMARY_METRIC
from morphobench.exhibits import Cell, Exhibit, entry_of, number_cell
from morphobench.figures.evidence import Evidence
from morphobench.figures.robustness import TITLES, corrupted_means
from morphobench.figures.wording import metric_title, score, signed

__all__ = ["losses", "robustness", "robustness_sentences"]


Loss = dict[str, Any]


def losses(evidence: Evidence) -> list[Loss]:
    """Clean score, and mean loss over severities by corruption and over all of them, one for each data set and entry."""
    means = corrupted_means(evidence)
    found: list[Loss] = []
    for (dataset, method, variant), rows in means.groupby(["dataset", "method", "variant"], sort=False):
        spoiled = rows[rows["severity"] > 0]
        clean = float(rows.loc[rows["severity"] == 0, "mean"].iloc[0])
        by_corruption = {
            str(name): clean - float(group.mean()) for name, group in spoiled.groupby("corruption")["mean"]
        }
        if by_corruption:
            entry = {"dataset": dataset, "method": method, "variant": variant, "clean": clean}
            found.append({**entry, **by_corruption, "all": sum(by_corruption.values()) / len(by_corruption)})
    order = {name: place for place, name in enumerate(evidence.dataset_names)}
    return sorted(found, key=lambda loss: (order[loss["dataset"]], loss["all"]))


def robustness(evidence: Evidence) -> Exhibit:
    """Clean score and mean loss of score by corruption."""
    found = losses(evidence)
    present = [name for name in TITLES if any(name in loss for loss in found)]
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
    columns = ["Method", "Data set", "Metric", "Clean", *(TITLES[name].capitalize() for name in present), "All"]
    caption = "Test score as it is, and its mean change over the severities of each corruption"
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
    failed = evidence.robustness[evidence.robustness["status"] != "ok"]
    for row in failed.drop_duplicates(["dataset", "method", "variant"]).to_dict("records"):
        sentences.append(
            f"“{evidence.title(entry_of(row))}” could not be tried on {evidence.dataset_title(row['dataset'])}: {row['message']}."
        )
    return sentences
