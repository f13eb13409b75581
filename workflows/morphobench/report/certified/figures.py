"""Certified and attacked accuracy over the size of the change."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from morphobench.report.certified.rows import certified_means
from morphobench.report.formatting import count, sentence_list
from morphobench.report.results import RunResults, rows_of
from morphobench.report.style import Absent, Drawing, LineStyle, entry_legend, line_styles, new_figure

__all__ = ["FIGURES", "draw_certified"]


def draw_certified(results: RunResults) -> Drawing | Absent:
    """Accuracy against epsilon: a panel a data set; one line a method, and a band up to what survives attacks."""
    name, title = "certified", "Certified and attacked accuracy"
    means = certified_means(results)
    datasets = results.datasets_in(means)
    if not datasets:
        return Absent(name, title, "this run proves and attacks nothing (certified: datasets)")
    styles, entries = line_styles(results), results.entries_in(means)
    figure = new_figure(2.9 + 0.2 * ((len(entries) + 1) // 2) + 0.3)
    for axis, dataset in zip(figure.subplots(1, len(datasets), squeeze=False, sharey=True)[0], datasets, strict=True):
        for entry in entries:
            _line(axis, rows_of(means[means["dataset"] == dataset], entry).sort_values("epsilon"), styles[entry])
        axis.set_title(results.dataset_title(dataset))
        axis.set_xlabel("epsilon, greatest change of a pixel")
        axis.set_ylim(0, 1)
    figure.axes[0].set_ylabel("share of the test images")
    entry_legend(figure, results, entries, line=True)
    seeds = sentence_list([count(int(number), "seed") for number in sorted(means["seeds"].unique())])
    caption = (
        f"Share of the test images that are proven right for every change of at most epsilon a pixel (line), and up to which share is"
        f" still right after an attack of that size (band); at epsilon 0 the share that is right. Mean over {seeds}. What lies"
        f" within the band is neither proven nor refuted."
    )
    alt = f"Line plots: {count(len(datasets), 'data set')}, one line and band a method, falling with epsilon."
    return Drawing(name, title, caption, alt, "tables/certified.csv", figure)


def _line(axis: Axes, rows: pd.DataFrame, style: LineStyle) -> None:
    if len(rows):
        clean = rows["clean"].iloc[0]
        x = [0.0, *rows["epsilon"]]
        axis.fill_between(
            x, [clean, *rows["certified"]], [clean, *rows["attacked"]], color=style.colour, alpha=0.15, linewidth=0
        )
        axis.plot(x, [clean, *rows["certified"]], color=style.colour, linestyle=style.line, marker=".", markersize=4)


FIGURES = (draw_certified,)
