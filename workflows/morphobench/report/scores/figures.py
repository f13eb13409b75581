"""Scores of the methods, alone and against what they cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from morphobench.contract import PRIMARY_METRIC
from morphobench.report.formatting import (
    count,
    mean_and_interval,
    metric_title,
    number,
    percent,
    seconds,
    sentence_list,
)
from morphobench.report.results import Entry, RunResults, entry_of, rows_of
from morphobench.report.scores.common_tasks import draw_common_tasks
from morphobench.report.scores.curves import draw_training
from morphobench.report.scores.segmentations import draw_segmentations
from morphobench.report.scores.sweeps import draw_sweeps
from morphobench.report.style import (
    Absent,
    Drawing,
    LineStyle,
    entry_legend,
    line_styles,
    log_axis,
    new_figure,
    panels,
)

__all__ = ["FIGURES", "draw_parameters", "draw_scores", "draw_times", "pareto_front"]

COLUMNS = 3


def pareto_front(costs: Sequence[float], scores: Sequence[float]) -> list[int]:
    """Indices of the points that no other point beats in both cost (lower) and score (higher), by rising cost.

    Examples
    --------
    >>> pareto_front([3.0, 1.0, 2.0], [0.9, 0.5, 0.4])
    [1, 0]
    """
    front: list[int] = []
    best = -math.inf
    for index in sorted(range(len(costs)), key=lambda i: (costs[i], -scores[i])):
        if scores[index] > best:
            front.append(index)
            best = scores[index]
    return front


def draw_scores(results: RunResults) -> Drawing | Absent:
    """Mean and interval of every method, one panel a data set."""
    name, title = "scores", "Test scores"
    means = results.primary_means()
    datasets = results.datasets_in(means)
    if not datasets:
        return Absent(name, title, "no trial has a score")
    styles = line_styles(results)
    rows: list[tuple[list[Entry], list[str]]] = []  # entries and data sets of one row of panels
    for task in dict.fromkeys(results.task(dataset) for dataset in datasets):
        members = [dataset for dataset in datasets if results.task(dataset) == task]
        for start in range(0, len(members), COLUMNS):
            part = members[start : start + COLUMNS]
            tried = results.trials[results.trials["dataset"].isin(part)]
            entries = [entry for entry in results.entries_in(tried) if not results.is_control(entry)]
            rows.append((entries, part))
    rows = [row for row in rows if row[0]]
    if not rows:
        return Absent(name, title, "only controls have a score")
    figure = new_figure(sum(0.27 * len(entries) + 0.75 for entries, _ in rows))
    blocks = figure.subfigures(len(rows), 1, height_ratios=[0.27 * len(entries) + 0.75 for entries, _ in rows])
    for block, (entries, part) in zip(np.atleast_1d(np.asarray(blocks, dtype=object)), rows, strict=True):
        axes = block.subplots(1, len(part), sharey=True, squeeze=False)[0]
        for axis, dataset in zip(axes, part, strict=True):
            _score_panel(axis, results, styles, entries, dataset)
        axes[0].set_yticks(range(len(entries)), [results.title(entry) for entry in entries])
        axes[0].set_ylim(len(entries) - 0.5, -0.5)
    shown = [dataset for _, part in rows for dataset in part]
    return Drawing(
        name,
        title,
        _scores_caption(results, shown),
        f"Dot plot: one panel for each of {count(len(shown), 'data set')}, one row a method.",
        "statistics/means.csv",
        figure,
    )


def _score_panel(
    axis: Axes, results: RunResults, styles: dict[Entry, LineStyle], entries: list[Entry], dataset: str
) -> None:
    metric = PRIMARY_METRIC[results.task(dataset)]
    means = results.primary_means()
    means = means[means["dataset"] == dataset]
    single = results.scores[
        (results.scores["dataset"] == dataset)
        & (results.scores["split"] == "test")
        & (results.scores["metric"] == metric)
    ]
    for place, entry in enumerate(entries):
        mine, row = rows_of(single, entry), rows_of(means, entry)
        colour = styles[entry].colour
        if row.empty:
            failed = sorted(mine.loc[mine["status"] != "ok", "status"].unique())
            text = ", ".join(failed).replace("_", " ") if failed else "not run here"
            axis.text(0.5, place, text, transform=axis.get_yaxis_transform(), ha="center", va="center", color="#595959")
            continue
        values = mine["value"].dropna()
        axis.scatter(values, [place] * len(values), s=9, color=colour, alpha=0.35, linewidths=0)
        found = row.iloc[0]
        if not math.isnan(found["low"]):
            axis.plot([found["low"], found["high"]], [place, place], color=colour, linewidth=2.4, solid_capstyle="butt")
        axis.plot(
            found["mean"],
            place,
            marker=styles[entry].marker,
            color=colour,
            markersize=6.5,
            markeredgecolor="white",
            markeredgewidth=0.6,
        )
    axis.set_title(results.dataset_title(dataset), wrap=True)
    axis.set_xlabel(metric_title(metric))
    axis.margins(x=0.08)
    axis.locator_params(axis="x", nbins=5)
    axis.tick_params(axis="y", length=0)


def _scores_caption(results: RunResults, datasets: Sequence[str]) -> str:
    parts = [
        "Mean over seeds on the test split (large mark), "
        f"{percent(results.level)} BCa bootstrap interval (bar; none below three seeds or if all seeds agree) and "
        "single seeds (small dots). The axes do not begin at zero."
    ]
    means = results.primary_means()
    for dataset in datasets:
        rows = means[means["dataset"] == dataset]
        control = [results.is_control(entry_of(row)) for _, row in rows.iterrows()]
        best = rows[~np.asarray(control, dtype=bool)].sort_values("mean", ascending=False)
        if best.empty:
            continue
        first = best.iloc[0]
        text = f"{results.dataset_title(dataset)}: highest mean {mean_and_interval(first)} by {results.title(entry_of(first))}"
        controls = [f"{results.title(entry_of(row))} {mean_and_interval(row)}" for _, row in rows[control].iterrows()]
        parts.append(text + (f"; controls, off the axis: {sentence_list(controls)}." if controls else "."))
    return " ".join(parts)


def _with_cost(results: RunResults, cost: str) -> pd.DataFrame:
    """Primary test means of all but the controls, with the mean over successful trials of a column of ``trials``."""
    key = ["dataset", "method", "variant"]
    trials = results.trials[(results.trials["status"] == "ok") & (results.trials["family"] != "control")]
    costs = trials.assign(cost=pd.to_numeric(trials[cost])).groupby(key)["cost"].mean().dropna().reset_index()
    table = results.primary_means().merge(costs, on=key)
    return table[table["cost"] > 0]


def draw_parameters(results: RunResults) -> Drawing | Absent:
    """Score against the number of learnable parameters."""
    name, title = "score-parameters", "Score against parameters"
    table = _with_cost(results, "parameters")
    if table.empty:
        return Absent(name, title, "no successful trial states its number of parameters")
    low, high = table["cost"].min(), table["cost"].max()
    caption = (
        f"Mean test score against learnable parameters ({number(low)} to {number(high)}; logarithmic axis), with "
        f"the {percent(results.level)} interval over seeds. Dotted: the methods that no other beats in both (Pareto "
        "front)."
    )
    figure = _scatter(results, table, "learnable parameters")
    return Drawing(name, title, caption, "Scatter plot of score against parameters.", "statistics/means.csv", figure)


def draw_times(results: RunResults) -> Drawing | Absent:
    """Score against training time."""
    name, title = "score-time", "Score against training time"
    table = _with_cost(results, "fit_s")
    if table.empty:
        return Absent(name, title, "no successful trial states its training time")
    devices = sentence_list(sorted(results.trials.loc[results.trials["status"] == "ok", "device"].unique()))
    low, high = table["cost"].min(), table["cost"].max()
    caption = (
        f"Mean test score against the mean wall-clock time of training (device: {devices}; {seconds(low)} to "
        f"{seconds(high)}; logarithmic axis), with the {percent(results.level)} interval over seeds. "
        "Dotted: the methods that no other beats in both (Pareto front). Times depend on the machine and on its load."
    )
    figure = _scatter(results, table, "training time (s)")
    return Drawing(name, title, caption, "Scatter plot of score against training time.", "tables/trials.csv", figure)


def _scatter(results: RunResults, table: pd.DataFrame, label: str) -> Figure:
    datasets = results.datasets_in(table)
    styles = line_styles(results)
    entries = results.entries_in(table)
    figure, axes = panels(len(datasets), below=0.2 * math.ceil(len(entries) / 2) + 0.2, single_width=5.5)
    for dataset, axis in zip(datasets, axes, strict=True):
        part = table[table["dataset"] == dataset].reset_index(drop=True)
        for row in part.to_dict("records"):
            style = styles[entry_of(row)]
            if not math.isnan(row["low"]):
                axis.plot([row["cost"]] * 2, [row["low"], row["high"]], color=style.colour, linewidth=1.4, zorder=2)
            axis.plot(row["cost"], row["mean"], marker=style.marker, color=style.colour, markersize=6.5, zorder=3)
        front = part.loc[pareto_front(part["cost"].tolist(), part["mean"].tolist())]
        axis.step(front["cost"], front["mean"], where="post", color="#404040", linewidth=1, linestyle=":", zorder=1)
        axis.set_title(results.dataset_title(dataset), wrap=True)
        axis.set_xlabel(label)
        axis.set_ylabel(metric_title(PRIMARY_METRIC[results.task(dataset)]))
        axis.margins(0.12)
        log_axis(axis, "x")
    entry_legend(figure, results, entries)
    return figure


FIGURES = (
    draw_scores,
    draw_parameters,
    draw_times,
    draw_training,
    draw_sweeps,
    draw_common_tasks,
    draw_segmentations,
)
