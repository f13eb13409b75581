"""Operators timed in turn with what they replace: ratios of times beside the bar that the project sets itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from morphobench.report.formatting import count, number, sentence_list
from morphobench.report.results import RunResults
from morphobench.report.solvers.rows import growth_ratios, is_variational, peer_ratios
from morphobench.report.solvers.text import bar_text, growth_text
from morphobench.report.style import FAMILY_COLOURS, LINES, MARKERS, Absent, Drawing, log_axis, new_figure

__all__ = ["draw_ratios"]

BAR = "#404040"


def draw_ratios(results: RunResults) -> Drawing | Absent:
    """Median time of every operator over that of each peer; below, the growth of the cost with the window."""
    name, title = "ratios", "Operators timed in turn with what they replace"
    peers, growth = peer_ratios(results), growth_ratios(results)
    if peers.empty and growth.empty:
        return Absent(name, title, "no operator was timed in turn with what it replaces")
    panels: list[tuple[float, Callable[[SubFigure, pd.DataFrame], None], pd.DataFrame]] = []
    if len(peers):
        panels.append((0.225 * len(_rows(peers)) + 0.85, _dot_plot, peers))
    if len(growth):
        panels.append((2.3, _growth_plot, growth))
    heights = [height for height, _, _ in panels]
    figure = new_figure(sum(heights))
    parts = figure.subfigures(len(panels), 1, squeeze=False, height_ratios=heights)
    for part, (_, draw, table) in zip(parts.flat, panels, strict=True):
        draw(part, table)
    alt = "Dot plot of ratios of times by operator and peer."
    return Drawing(name, title, _caption(peers, growth), alt, "studies/ratios.csv", figure)


def _caption(peers: pd.DataFrame, growth: pd.DataFrame) -> str:
    every = pd.concat([peers, growth])
    rounds = dict.fromkeys([int(every["rounds"].min()), int(every["rounds"].max())])
    threads = [count(int(used), "thread") for used in sorted(every["threads"].unique())]
    processors = sorted(set(every["processor"]) - {""})
    shapes = [shape.replace("x", "×") for shape in every["shape"].unique()]
    text = (
        "Median time of one call over that of what was timed in turn with it in one process "
        f"({' to '.join(map(str, rounds))} times each), with {sentence_list(threads)} on "
        f"{sentence_list(processors) or 'one CPU'}, on images of {sentence_list(shapes)}; forward and backward includes "
        "the gradients of all parameters. A busy machine slows both alike, and distorts such a ratio less than one of "
        "times that were taken apart."
    )
    if len(peers):
        text += f" {bar_text(peers)}. Left of 1 varmorph takes less time."
    if len(growth):
        text += f" {growth_text(growth)}."
    return text


def _rows(table: pd.DataFrame) -> list[tuple[str, Mapping[Any, Any] | None]]:
    """Labels of the rows from top to bottom, each with its ratio; a heading has none."""
    several = table["run"].nunique() > 1
    labelled: list[tuple[str, Mapping[Any, Any] | None]] = []
    for (run, operator, phase), rows in table.groupby(["run", "operator", "phase"], sort=False):
        heading = f"{operator}, {phase}".replace("_", " ") + (f" ({run})" if several else "")
        labelled.append((heading, None))
        labelled += [(f"{_window(row)} over {row['peer']}", row) for row in rows.to_dict("records")]
    return labelled


def _window(row: Mapping[Any, Any]) -> str:
    return str(row["window"]).replace("x", "×")


def _dot_plot(part: SubFigure, table: pd.DataFrame) -> None:
    axis, rows = part.subplots(), _rows(table)
    filled = [(place, row) for place, (_, row) in enumerate(rows) if row is not None]
    ends = [1.0, *(float(row[key]) for _, row in filled for key in ("ratio", "bar"))]
    axis.set_xlim(min(ends) / 1.4, max(ends) * 1.4)
    log_axis(axis, "x")
    axis.axvline(1, color=BAR, linewidth=0.9)
    beside = axis.get_yaxis_transform()  # a column at the right edge, where no mark can lie
    axis.annotate("ratio (bar)", (1.02, 0), xycoords=beside, va="center", fontsize=8, fontweight="bold")
    for place, row in filled:
        colour, inside = _colour(row["operator"]), row["ratio"] <= row["bar"]
        axis.plot([row["ratio"], row["bar"]], [place, place], color=colour, linewidth=0.8, alpha=0.5)
        axis.plot(row["bar"], place, "|", color=BAR, markersize=11, markeredgewidth=1.8)
        axis.plot(row["ratio"], place, "o", color=colour, markerfacecolor=colour if inside else "white")
        text = f"{number(row['ratio'])} ({number(row['bar'])})"
        axis.annotate(text, (1.02, place), xycoords=beside, va="center", fontsize=8, annotation_clip=False)
    axis.set_yticks(range(len(rows)), [label for label, _ in rows])
    for label, (_, ratio) in zip(axis.get_yticklabels(), rows, strict=True):
        label.set_fontweight("normal" if ratio is not None else "bold")
    axis.set_ylim(len(rows) - 0.4, -0.7)
    axis.tick_params(axis="y", length=0)
    axis.grid(visible=False, axis="y")
    axis.set_xlabel("time over the time of the peer")
    marks = [
        Line2D([], [], linestyle="", marker="o", color=BAR, label="within the bar"),
        Line2D([], [], linestyle="", marker="o", color=BAR, markerfacecolor="white", label="over the bar"),
        Line2D([], [], linestyle="", marker="|", color=BAR, markersize=11, markeredgewidth=1.8, label="bar"),
    ]
    part.legend(handles=marks, loc="outside lower center", ncols=3)


def _growth_plot(part: SubFigure, table: pd.DataFrame) -> None:
    axis: Axes = part.subplots()
    several = table["run"].nunique() > 1
    for place, ((run, operator), rows) in enumerate(table.groupby(["run", "operator"], sort=False)):
        label = f"{operator}".replace("_", " ") + (f" ({run})" if several else "")
        line, marker = LINES[place % len(LINES)], MARKERS[place % len(MARKERS)]
        colour = _colour(str(operator))
        axis.plot(rows["elements"], rows["ratio"], color=colour, linestyle=line, marker=marker, label=label)
    bars = table.drop_duplicates("elements")
    axis.plot(
        bars["elements"], bars["bar"], color=BAR, linewidth=0.9, label="bar: in proportion to\nthe window elements"
    )
    axis.set_xscale("log")
    log_axis(axis, "y")
    axis.set_xticks(bars["elements"].tolist(), bars["window"].str.replace("x", "×").tolist())
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("window")
    axis.set_ylabel("time over that of 3×3")
    part.legend(loc="outside right center", handlelength=3)


def _colour(operator: str) -> str:
    return FAMILY_COLOURS["variational" if is_variational(operator) else "morphology"]
