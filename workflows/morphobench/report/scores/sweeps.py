"""Scores over the number that sets the variants of a data set apart, such as the nodes of a chain."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.ticker import NullLocator

from morphobench.contract import PRIMARY_METRIC
from morphobench.plugins.discovery import split_dataset_id
from morphobench.report.formatting import metric_title, number, percent, sentence_list
from morphobench.report.results import Entry, RunResults, rows_of
from morphobench.report.style import Drawing, entry_legend, line_styles, log_axis, new_figure

__all__ = ["draw_sweeps"]

SOLVED = 0.95  # of a metric whose best value is 1: up to where a method is said to be right


def draw_sweeps(results: RunResults) -> Iterator[Drawing]:
    """One figure for each data set of which this run has variants with different numbers: a line a method."""
    means = results.primary_means()
    places = {name: results.datasets.get(name, {}).get("at") for name in results.dataset_names}
    means = means.assign(at=pd.to_numeric(means["dataset"].map(places))).dropna(subset=["at"])
    for name, part in means.groupby(means["dataset"].map(lambda name: split_dataset_id(name)[0]), sort=False):
        if part["at"].nunique() > 1:
            yield _draw(results, str(name), part.sort_values("at"))


def _draw(results: RunResults, name: str, means: pd.DataFrame) -> Drawing:
    first = means["dataset"].iloc[0]
    axis_title = str(results.datasets[first]["sweep"])
    metric = PRIMARY_METRIC[results.task(first)]
    styles = line_styles(results)
    entries = results.entries_in(means)
    figure = new_figure(3.4 + 0.2 * ((len(entries) + 1) // 2), 6.5)
    axis = figure.subplots()
    for entry in entries:
        mine = rows_of(means, entry)
        style = styles[entry]
        axis.fill_between(mine["at"], mine["low"], mine["high"], color=style.colour, alpha=0.12, linewidth=0)
        axis.plot(mine["at"], mine["mean"], color=style.colour, linestyle=style.line, marker=style.marker)
    log_axis(axis, "x")
    numbers = sorted(means["at"].unique())
    axis.set_xticks(numbers, [number(value) for value in numbers])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel(axis_title)
    axis.set_ylabel(metric_title(metric))
    entry_legend(figure, results, entries, line=True)
    caption = (
        f"Mean test {metric_title(metric)} over seeds (line) with its {percent(results.level)} interval (band) against "
        f"{axis_title} ({number(numbers[0])} to {number(numbers[-1])}; logarithmic axis). {_reach(results, means, entries)}"
    )
    alt = f"Line plot of the score over {axis_title}, one line a method."
    return Drawing(f"sweep-{name}", f"Scores over {axis_title}", caption, alt, "statistics/means.csv", figure)


def _reach(results: RunResults, means: pd.DataFrame, entries: list[Entry]) -> str:
    """Say up to which number each method is right."""
    reached: dict[float, list[str]] = {}  # 0: nowhere
    for entry in entries:
        mine = rows_of(means, entry)
        right = mine["mean"].ge(SOLVED).cummin()
        reached.setdefault(float(mine["at"].where(right, 0.0).max()), []).append(results.title(entry))
    nowhere = sentence_list(reached.pop(0.0, []))
    parts = [f"up to {number(upto)}: {sentence_list(reached[upto])}" for upto in sorted(reached, reverse=True)]
    if not parts:
        return f"No method has a mean of {SOLVED:g} anywhere."
    text = f"From the smallest number on, a mean of {SOLVED:g} or more is kept {'; '.join(parts)}"
    return f"{text}; nowhere: {nowhere}." if nowhere else f"{text}."
