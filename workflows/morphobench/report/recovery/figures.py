"""Operator recovery: what was learned beside what made the pairs, and how often it was recovered from which start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from morphobench.contract import OPERATIONS
from morphobench.report.formatting import count, number, percent, sentence_list
from morphobench.report.measurements import failure_sentence
from morphobench.report.recovery.rows import (
    operator_names,
    operator_title,
    recovery_runs,
    recovery_table,
    success_counts,
)
from morphobench.report.results import RunResults
from morphobench.report.style import MARKERS, SERIES, Absent, Drawing, new_figure
from morphobench.statistics.inference import proportion_interval
from morphobench.studies.recovery.metrics import LARGEST_ERROR, depth

__all__ = ["FIGURES", "draw_gradient_shares", "draw_recovered", "draw_recovery_success"]

FACE = {"random": "full", "zero": "none", "near-identity": "bottom"}  # how a marker is filled
MOST_COLUMNS = 12  # of pictures in one figure
GROUPED = ["operation", "initialisation", "operator"]


def draw_recovered(results: RunResults) -> list[Drawing | Absent]:
    """A column a target, a row an operator, from the first initialisation; one figure a source of images if they are many."""
    runs = recovery_runs(results)
    if runs.empty:
        return [Absent("recovery", "Recovered structuring functions", "this run has no study of operator recovery")]
    learned = _functions(results)
    sources = list(dict.fromkeys(runs["source"]))
    if runs["dataset"].nunique() <= MOST_COLUMNS:
        return [_pictures(runs, "functions", sources, learned)]
    return [_pictures(runs[runs["source"] == source], source, [source], learned) for source in sources]


def _functions(results: RunResults) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for folder in reversed(list(results.folders.values())):
        path = folder.studies / "recovery_functions.npz"
        if path.is_file():
            with np.load(path, allow_pickle=False) as content:
                found |= dict(content)
    return found


def _pictures(runs: pd.DataFrame, name: str, sources: Sequence[str], learned: Mapping[str, np.ndarray]) -> Drawing:
    start = str(runs["initialisation"].iloc[0])
    runs = runs[runs["initialisation"] == start]
    order = {name: place for place, name in enumerate(OPERATIONS)}
    datasets = sorted(
        dict.fromkeys(runs["dataset"]), key=lambda name: order.get(name.partition("-")[2].split("-")[0], 9)
    )
    operators = operator_names(runs)

    def where(rows: pd.DataFrame) -> str:
        return f"\n{rows['source'].iloc[0]}" if len(sources) > 1 else ""

    figure = new_figure(0.62 * (len(operators) + 1) + 0.75)
    axes = figure.subplots(len(operators) + 1, len(datasets), squeeze=False)
    picture = None
    fontsize, before = 7.5 if len(datasets) <= MOST_COLUMNS else 6.5, ""
    for column, dataset in enumerate(datasets):
        mine = runs[runs["dataset"] == dataset]
        operation = str(mine["operation"].iloc[0])
        # Once for its columns: many would run together.
        named = operation if operation != before or len(sources) > 1 else ""
        axes[0, column].set_title(f"{named}\n{mine['element'].iloc[0]}" + where(mine), fontsize=fontsize)
        before = operation
        picture = _show(axes[0, column], learned.get(f"{dataset}/true"))
        for row, operator in enumerate(operators, start=1):
            _show(axes[row, column], _middle(mine[mine["operator"] == operator], learned))
    for row, label in enumerate(["true", *map(operator_title, operators)]):
        axes[row, 0].set_ylabel(label.replace(", ", ",\n"), rotation=0, ha="right", va="center", fontsize=8)
    if picture is not None:
        bar = figure.colorbar(picture, ax=list(axes.flat), fraction=0.012, pad=0.01)
        bar.set_ticks([-1, -0.5, 0], labels=["−1", "−0.5", "0"])
        bar.ax.tick_params(labelsize=7.5)
    seeds = runs["seed"].nunique()
    caption = (
        f"Structuring functions below their highest value, {runs['operator'].nunique()} operators from the initialisation "
        f"“{start}” on {sentence_list(sources)}: for each the seed whose error is in the middle of {count(seeds, 'seed')} (a neighbour at −1 "
        f"cannot win). The first row made the pairs; openings and closings are the same for every translate of their element."
    )
    alt = f"Grid of pictures: {count(len(datasets), 'target')} by {count(len(operators), 'operator')}."
    title = f"Recovered from {sentence_list(sources)}"
    return Drawing(f"recovery-{name}", title, caption, alt, "studies/recovery.csv", figure)


def _middle(runs: pd.DataFrame, learned: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Function of the seed with the middle error, of equal element errors that with the middle output error."""
    if runs.empty:
        return None
    ranked = runs.sort_values(["element_error", "output_error"], kind="stable")
    row = ranked.iloc[(len(ranked) - 1) // 2]
    functions = learned.get(f"{row['cell']}/{row['operator']}")
    return None if functions is None else functions[int(row["place"])]


def _show(axis: Axes, function: np.ndarray | None) -> Any:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    values = np.full((7, 7), np.nan) if function is None else depth(function)
    return axis.imshow(np.ma.masked_invalid(values), vmin=-1, vmax=0, cmap="viridis")


def draw_recovery_success(results: RunResults) -> Drawing | Absent:
    """Share of runs that recovered the element: a panel an operation, a place an initialisation, a mark an operator."""
    name, title = "recovery-success", "Recovery by initialisation"
    runs = recovery_runs(results)
    if runs.empty:
        return Absent(name, title, "this run has no study of operator recovery")
    operators, starts = operator_names(runs), list(dict.fromkeys(runs["initialisation"]))
    operations = [operation for operation in OPERATIONS if operation in set(runs["operation"])]
    counts = success_counts(runs, GROUPED)
    figure = new_figure(2.1 * ((len(operations) + 1) // 2) + 0.8)
    axes = figure.subplots((len(operations) + 1) // 2, min(2, len(operations)), squeeze=False, sharey=True).flat
    for operation, axis in zip(operations, axes, strict=False):  # in this order, no panel is lost
        for place, operator in enumerate(operators):
            shift = 0.13 * (place - (len(operators) - 1) / 2)
            for position, start in enumerate(starts):
                if (operation, start, operator) in counts:
                    good, tried = counts[operation, start, operator]
                    low, high = proportion_interval(good, tried, results.level)
                    axis.plot([position + shift] * 2, [low, high], color=SERIES[place % len(SERIES)], linewidth=1.4)
                    axis.plot(position + shift, good / tried, MARKERS[place], color=SERIES[place % len(SERIES)])
        axis.set_title(operation)
        axis.set_xticks(range(len(starts)), [start.replace("-", "\n", 1) for start in starts])
        axis.set_ylim(-0.04, 1.04)
        axis.grid(visible=False, axis="x")
    for axis in list(axes):
        axis.set_visible(False)
    for axis in figure.axes[:: min(2, len(operations))]:
        axis.set_ylabel("recovered")
    _legend(figure, operators)
    totals = sorted({total for _, total in counts.values()})
    caption = (
        f"Share of runs whose structuring element was right at the end but for {100 * LARGEST_ERROR:g} % of the window, with its "
        f"{percent(results.level)} score interval (seeds and elements counted as independent runs: "
        f"{sentence_list(map(str, totals))} a mark). {failure_sentence(recovery_table(results))}"
    ).strip()
    alt = f"{count(len(operations), 'panel')} with the share of recovered elements by initialisation, one mark an operator."
    return Drawing(name, title, caption, alt, "studies/recovery.csv", figure)


def draw_gradient_shares(results: RunResults) -> Drawing | Absent:
    """Share of recovered elements against the share of the window that received gradient."""
    name, title = "recovery-gradients", "Do dense gradients help?"
    runs = recovery_runs(results)
    if runs.empty:
        return Absent(name, title, "this run has no study of operator recovery")
    operators = operator_names(runs)
    starts = list(dict.fromkeys(runs["initialisation"]))
    figure = new_figure(3.4)
    axis = figure.subplots()
    means = runs.groupby(GROUPED)[["gradient_share", "success"]].mean().reset_index()
    for place, operator in enumerate(operators):
        for start in starts:
            mine = means[(means["operator"] == operator) & (means["initialisation"] == start)]
            axis.plot(
                mine["gradient_share"],
                mine["success"],
                MARKERS[place],
                color=SERIES[place % len(SERIES)],
                fillstyle=FACE.get(start, "full"),
                linestyle="none",
            )
    axis.set_xlabel("share of the window that receives gradient, mean over steps")
    axis.set_ylabel("recovered")
    axis.set_ylim(-0.04, 1.04)
    fills = [
        Line2D([], [], marker="o", color="#404040", linestyle="none", fillstyle=FACE.get(start, "full"), label=start)  # type: ignore[arg-type]
        for start in starts
    ]
    _legend(figure, operators, fills)
    shares = runs.groupby("operator")["gradient_share"].median()
    told = [f"{operator_title(operator)} {number(round(100 * shares[operator], 1))} %" for operator in operators]
    caption = (
        f"One mark an operation, operator and initialisation. Receiving gradient means at least 0.001 of the largest in the "
        f"window; medians over runs: {sentence_list(told)}."
    )
    return Drawing(
        name, title, caption, "Scatter plot of recovery against gradient share.", "studies/recovery.csv", figure
    )


def _legend(figure: Any, operators: Sequence[str], extra: Sequence[Line2D] = ()) -> None:
    handles = [
        Line2D(
            [],
            [],
            marker=MARKERS[place],
            color=SERIES[place % len(SERIES)],
            linestyle="none",
            label=operator_title(name),
        )
        for place, name in enumerate(operators)
    ]
    figure.legend(handles=[*handles, *extra], loc="outside lower center", ncols=3)


FIGURES = (draw_recovery_success, draw_gradient_shares, draw_recovered)
