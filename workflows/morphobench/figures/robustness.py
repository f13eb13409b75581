"""Scores on corrupted test images over the severity of the corruption."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from morphobench.contract import PRIMARY_METRIC
from morphobench.figures.canvas import Absent, Drawing, Look, looks, new_figure
from morphobench.figures.evidence import Entry, Evidence
from morphobench.figures.scores import entry_legend
from morphobench.figures.wording import count, metric_title, sentence_list

__all__ = ["corrupted_means", "draw_robustness"]

TITLES = {
    "salt-and-pepper": "salt and pepper",
    "gaussian-noise": "Gaussian noise",
    "blur": "blur",
    "contrast": "low contrast",
}


def corrupted_means(evidence: Evidence) -> pd.DataFrame:
    """Mean, smallest and largest value over seeds by data set, method, variant, corruption and severity; controls left out."""
    table = evidence.robustness
    table = table[table["status"] == "ok"].astype({"value": "float64", "severity": "int64"})
    keys = ["dataset", "method", "variant", "corruption", "severity"]
    found = table.groupby(keys)["value"].agg(["mean", "min", "max", "count"]).reset_index()
    controls = {entry.method for entry in evidence.entries if evidence.is_control(entry)}
    return found[~found["method"].isin(controls)]


def draw_robustness(evidence: Evidence) -> Drawing | Absent:
    """Primary metric against severity: one row of panels a data set, one column a corruption."""
    name, title = "robustness", "Scores on corrupted test images"
    means = corrupted_means(evidence)
    datasets = [dataset for dataset in evidence.dataset_names if dataset in set(means["dataset"])]
    corruptions = [corruption for corruption in TITLES if corruption in set(means["corruption"])]
    if not datasets or not corruptions:
        return Absent(name, title, "this run has no scores on corrupted images (robustness: datasets)")
    look = looks(evidence)
    tried = set(means[["method", "variant"]].itertuples(index=False, name=None))
    entries = [entry for entry in evidence.entries if tuple(entry) in tried]
    figure = new_figure(1.9 * len(datasets) + 0.2 * ((len(entries) + 1) // 2) + 0.3)
    axes = figure.subplots(len(datasets), len(corruptions), squeeze=False, sharex=True, sharey="row")
    for dataset, row in zip(datasets, axes, strict=True):
        for corruption, axis in zip(corruptions, row, strict=True):
            for entry in entries:
                _line(axis, means, dataset, corruption, entry, look[entry])
            if dataset == datasets[0]:
                axis.set_title(TITLES[corruption])
            if dataset == datasets[-1]:
                axis.set_xlabel("severity")
        row[0].set_ylabel(f"{evidence.dataset_title(dataset)}\n{metric_title(PRIMARY_METRIC[evidence.task(dataset)])}")
    entry_legend(figure, evidence, entries, line=True)
    seeds = sentence_list(sorted({str(number) for number in means["count"]}))
    caption = (
        f"Mean over {seeds} seeds of the test score (line) and smallest to largest seed (band) on test images with a corruption "
        f"of severity 1 to 5; severity 0 is the test set as it is. The models are those of the table of scores: none has "
        f"seen a corrupted image."
    )
    alt = (
        f"Line plots: {count(len(datasets), 'data set')} by {count(len(corruptions), 'corruption')}, one line a method."
    )
    return Drawing(name, title, caption, alt, "tables/robustness.csv", figure)


def _line(axis: Axes, means: pd.DataFrame, dataset: str, corruption: str, entry: Entry, look: Look) -> None:
    mine = means[
        (means["dataset"] == dataset) & (means["method"] == entry.method) & (means["variant"] == entry.variant)
    ]
    mine = mine[mine["corruption"].isin(["none", corruption])].sort_values("severity")
    if mine.empty:
        return
    axis.fill_between(mine["severity"], mine["min"], mine["max"], color=look.colour, alpha=0.12, linewidth=0)
    axis.plot(mine["severity"], mine["mean"], color=look.colour, linestyle=look.line)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
