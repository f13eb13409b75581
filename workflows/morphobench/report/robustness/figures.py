"""Scores on corrupted test images over the severity of the corruption."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from morphobench.contract import PRIMARY_METRIC
from morphobench.report.formatting import count, metric_title, sentence_list
from morphobench.report.results import Entry, RunResults
from morphobench.report.scores.figures import entry_legend
from morphobench.report.style import Absent, Drawing, LineStyle, line_styles, new_figure

__all__ = ["NOISES", "corrupted_means", "draw_noise", "draw_robustness"]

TITLES = {
    "salt-and-pepper": "salt and pepper",
    "gaussian-noise": "Gaussian noise",
    "blur": "blur",
    "contrast": "low contrast",
}
NOISES = {"uniform-noise": "uniform noise", "normal-noise": "normal noise"}


def corrupted_means(results: RunResults) -> pd.DataFrame:
    """Mean, smallest and largest value over seeds by data set, method, variant, corruption and severity; controls left out."""
    table = results.robustness
    table = table[table["status"] == "ok"].astype({"value": "float64", "severity": "int64", "strength": "float64"})
    keys = ["dataset", "method", "variant", "corruption", "severity", "strength"]
    found = table.groupby(keys)["value"].agg(["mean", "min", "max", "count"]).reset_index()
    controls = {entry.method for entry in results.entries if results.is_control(entry)}
    return found[~found["method"].isin(controls)]


def draw_robustness(results: RunResults) -> Drawing | Absent:
    """Primary metric against severity: one row of panels a data set, one column a corruption."""
    name, title = "robustness", "Scores on corrupted test images"
    means = corrupted_means(results)
    grid = _grid(results, means, TITLES, "severity", "severity")
    if grid is None:
        return Absent(name, title, "this run has no scores on corrupted images (robustness: datasets)")
    caption = (
        f"Mean over {_seeds(means)} seeds of the test score (line) and smallest to largest seed (band) on test images with a "
        f"corruption of severity 1 to 5; severity 0 is the test set as it is. The models are those of the table of scores: none "
        f"has seen a corrupted image."
    )
    alt = f"Line plots: {count(grid.rows, 'data set')} by {count(grid.columns, 'corruption')}, one line a method."
    return Drawing(name, title, caption, alt, "tables/robustness.csv", grid.figure)


def draw_noise(results: RunResults) -> Drawing | Absent:
    """Primary metric against the standard deviation of uniform and normal noise: one row of panels a data set."""
    name, title = "robustness-noise", "Scores under noise"
    means = corrupted_means(results)
    grid = _grid(results, means, NOISES, "strength", "standard deviation of the noise")
    if grid is None:
        return Absent(name, title, "this run has no scores under noise (robustness: noise_datasets)")
    levels = means.loc[means["corruption"].isin(NOISES), "strength"].nunique() + 1
    caption = (
        f"Mean over {_seeds(means)} seeds of the test score (line) and smallest to largest seed (band) on test images with noise "
        f"at {levels} levels, in units of the range of grey values, cut to that range; the same draw for all. None of the "
        f"models was trained on noise."
    )
    alt = f"Line plots: {count(grid.rows, 'data set')} by {count(grid.columns, 'noise')}, one line a method."
    return Drawing(name, title, caption, alt, "tables/robustness.csv", grid.figure)


class _Grid(NamedTuple):
    figure: Figure
    rows: int
    columns: int


def _grid(results: RunResults, means: pd.DataFrame, titles: Mapping[str, str], x: str, label: str) -> _Grid | None:
    """Draw lines over the column ``x``: a row of panels a data set, a column one of the corruptions in ``titles``."""
    spoiled = means[means["corruption"].isin(titles)]
    datasets = [dataset for dataset in results.dataset_names if dataset in set(spoiled["dataset"])]
    corruptions = [corruption for corruption in titles if corruption in set(spoiled["corruption"])]
    if not datasets:
        return None
    look = line_styles(results)
    entries = results.entries_in(spoiled)
    height = 1.9 if len(corruptions) > 2 else 2.6
    figure = new_figure(height * len(datasets) + 0.2 * ((len(entries) + 1) // 2) + 0.3)
    axes = figure.subplots(len(datasets), len(corruptions), squeeze=False, sharex=True, sharey="row")
    for dataset, row in zip(datasets, axes, strict=True):
        for corruption, axis in zip(corruptions, row, strict=True):
            for entry in entries:
                _line(axis, means, dataset, corruption, entry, look[entry], x)
            if x == "severity":
                axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            if dataset == datasets[0]:
                axis.set_title(titles[corruption])
            if dataset == datasets[-1]:
                axis.set_xlabel(label)
        row[0].set_ylabel(f"{results.dataset_title(dataset)}\n{metric_title(PRIMARY_METRIC[results.task(dataset)])}")
    entry_legend(figure, results, entries, line=True)
    return _Grid(figure, len(datasets), len(corruptions))


def _seeds(means: pd.DataFrame) -> str:
    return sentence_list(sorted({str(number) for number in means["count"]}))


def _line(
    axis: Axes, means: pd.DataFrame, dataset: str, corruption: str, entry: Entry, look: LineStyle, x: str
) -> None:
    mine = means[
        (means["dataset"] == dataset) & (means["method"] == entry.method) & (means["variant"] == entry.variant)
    ]
    mine = mine[mine["corruption"].isin(["none", corruption])].sort_values(x)
    if mine.empty:
        return
    axis.fill_between(mine[x], mine["min"], mine["max"], color=look.colour, alpha=0.12, linewidth=0)
    axis.plot(mine[x], mine["mean"], color=look.colour, linestyle=look.line)
