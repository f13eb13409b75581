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
from morphobench.report.results import RunResults, rows_of
from morphobench.report.robustness.rows import NOISES, TITLES, corrupted_means
from morphobench.report.style import Absent, Drawing, LineStyle, entry_legend, line_styles, new_figure

__all__ = ["FIGURES", "draw_noise", "draw_robustness"]


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
    datasets = results.datasets_in(spoiled)
    corruptions = [corruption for corruption in titles if corruption in set(spoiled["corruption"])]
    if not datasets:
        return None
    styles = line_styles(results)
    entries = results.entries_in(spoiled)
    height = 1.9 if len(corruptions) > 2 else 2.6
    figure = new_figure(height * len(datasets) + 0.2 * ((len(entries) + 1) // 2) + 0.3)
    axes = figure.subplots(len(datasets), len(corruptions), squeeze=False, sharex=True, sharey="row")
    for dataset, row in zip(datasets, axes, strict=True):
        for corruption, axis in zip(corruptions, row, strict=True):
            for entry in entries:
                mine = rows_of(means[means["dataset"] == dataset], entry)
                _line(axis, mine[mine["corruption"].isin(["none", corruption])].sort_values(x), styles[entry], x)
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


def _line(axis: Axes, rows: pd.DataFrame, style: LineStyle, x: str) -> None:
    if len(rows):
        axis.fill_between(rows[x], rows["min"], rows["max"], color=style.colour, alpha=0.12, linewidth=0)
        axis.plot(rows[x], rows["mean"], color=style.colour, linestyle=style.line)


FIGURES = (draw_robustness, draw_noise)
