"""Times of the operators beside those of other libraries, measured in one process."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from morphobench.report.formatting import count, seconds, sentence_list
from morphobench.report.results import RunResults
from morphobench.report.solvers.rows import benchmark_table
from morphobench.report.style import FAMILY_COLOURS, Absent, Drawing, log_axis, new_figure

__all__ = ["draw_benchmarks"]

SHOWN = ["window", "shape", "phase", "threads"]  # one panel a combination
OURS, PEER = FAMILY_COLOURS["variational"], FAMILY_COLOURS["morphology"]


def _groups(results: RunResults) -> dict[tuple[str, ...], pd.DataFrame]:
    """Benchmarks by window, shape, phase and threads; ``ours`` marks varmorph's own implementations."""
    table = benchmark_table(results)
    if table.empty:
        return {}
    name = table["implementation"].astype(str)
    table = table.assign(ours=name.str.lower().str.contains("varmorph"), label=table["operator"] + ", " + name)
    groups = table[table["median_s"].notna()].groupby(SHOWN, sort=True)
    return {tuple(map(str, key)): rows.sort_values(["operator", "median_s"]) for key, rows in groups}


def draw_benchmarks(results: RunResults) -> Drawing | Absent:
    """Median time of every implementation with its ratio to a depthwise convolution on the same case."""
    name, title = "benchmarks", "Operators beside other libraries"
    groups = _groups(results)
    if not groups:
        return Absent(name, title, "the operator benchmarks were not run")
    heights = [0.235 * len(rows) + 0.45 for rows in groups.values()]
    figure = new_figure(sum(heights) + 0.5)
    axes = figure.subplots(len(groups), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for axis, (key, rows) in zip(axes, groups.items(), strict=True):
        _panel(axis, rows)
        window, shape, phase, threads = (part.replace("x", "×") for part in key)
        text = f"{phase}, window {window}, {shape}, {count(int(float(threads)), 'thread')}"
        axis.set_title(text, loc="right")  # leftwards there is room for a long one
    every = pd.concat(list(groups.values()))
    low, high = every["median_s"].min(), every["median_s"].max()
    axes[-1].set_xlim(low / 1.6, high * 1.6 * (high / low) ** 0.45)  # room for the labels at the right
    log_axis(axes[-1], "x")
    axes[-1].set_xlabel("median time of one call (s)")
    known = sorted(set(every["processor"]) - {""})
    ours = int(every["ours"].sum())
    caption = (
        f"Median time of {count(len(every), 'benchmark')} in {count(len(groups), 'case')}, {ours} of them "
        f"varmorph's (orange), from {seconds(low)} to {seconds(high)}, on {sentence_list(known) or 'one CPU'}. "
        "The ratio beside a time is over a depthwise convolution on the same case. All were timed in one process; "
        "libraries that are not installed are absent."
    )
    return Drawing(name, title, caption, "Dot plot of times by implementation.", "studies/benchmarks.csv", figure)


def _panel(axis: Axes, rows: pd.DataFrame) -> None:
    for place, row in enumerate(rows.to_dict("records")):
        colour = OURS if row["ours"] else PEER
        axis.plot([row["q25_s"], row["q75_s"]], [place, place], color=colour, linewidth=2.2)
        axis.plot(row["median_s"], place, "o" if row["ours"] else "s", color=colour)
        ratio = row["ratio_depthwise_conv"]
        text = seconds(row["median_s"]) + (f", {ratio:.3g}×" if ratio == ratio else "")
        axis.annotate(text, (row["q75_s"], place), xytext=(7, 0), textcoords="offset points", va="center", fontsize=8)
    axis.set_yticks(range(len(rows)), rows["label"].tolist())
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
