"""What whole layers cost: compilation, forward and backward pass, and the ratio to a convolution."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from morphobench.report.formatting import count, number
from morphobench.report.measurements import circumstances, devices, framework_title, frameworks, instance_name
from morphobench.report.panels import add_legend, mark_device
from morphobench.report.results import RunResults
from morphobench.report.solvers.rows import LAYERS, PASSES, PEER, SOURCE, layer_cells, layer_ratios, layer_rows
from morphobench.report.style import SERIES, Absent, Drawing, LineStyle, log_axis, new_figure, styles_by_group

__all__ = ["draw_layer_ratios", "draw_phases", "layer_styles"]

PHASES = ("compile", *PASSES)
PHASE_COLOURS = dict(zip(PHASES, (SERIES[6], SERIES[0], SERIES[1]), strict=True))
LAYER_COLOURS = dict(
    zip(
        LAYERS,
        ("#D55E00", "#AA4499", "#882255", "#B8860B", "#0072B2", "#56B4E9", "#707070", "#009E73", "#004D38"),
        strict=True,
    )
)


def layer_styles(rows: pd.DataFrame) -> dict[str, LineStyle]:
    """Return the style of every series: the colour of the layer, darker for its second implementation."""
    named = rows[["series", "solver"]].drop_duplicates().itertuples(index=False, name=None)
    return styles_by_group(named, LAYER_COLOURS, (0.0, -0.4, 0.4))


def draw_phases(results: RunResults) -> Drawing | Absent:
    """Time to compile, of the forward and of the backward pass, by layer and framework."""
    name, title = "solver-phases", "Compilation, forward and backward pass by layer"
    table = layer_rows(results)
    rows = _fullest(table[table["phase"].isin(PHASES)])
    if rows.empty:
        return Absent(name, title, "the solver study has no times of layers")
    shown = frameworks(rows)
    heights = [rows.loc[rows["framework"] == framework, "series"].nunique() for framework in shown]
    figure = new_figure(0.24 * sum(heights) + 0.5 * len(heights) + 1.0)
    mark_device(figure, rows)
    axes = figure.subplots(len(shown), 1, squeeze=False, sharex=True, height_ratios=[height + 1 for height in heights])
    for axis, framework in zip(axes[:, 0], shown, strict=True):
        _phase_bars(axis, rows[rows["framework"] == framework])
        axis.set_title(framework_title(framework), loc="left")
    log_axis(axes[-1, 0], "x")
    axes[-1, 0].set_xlabel("median time (s)")
    add_legend(figure, axes.flat)
    caption = (
        f"Median time (mark) and quartiles (line) of compilation (first call or ahead of time), forward and backward pass of "
        f"every layer at {instance_name(rows.iloc[0])}, the size with the most layers; the axis is logarithmic, so marks stand in the "
        f"place of bars. {_split_sentence(rows)} {circumstances(rows, layer_cells(results))}"
    )
    return Drawing(name, f"{title} ({devices(rows)})", caption, "Dot plot of times by layer.", SOURCE, figure)


def _fullest(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows at the size and window with the most layers; of equals the largest images, then the smallest window."""
    cases = rows.groupby(["image_size", "kernel_size"])["series"].nunique().reset_index()
    if cases.empty:
        return rows.iloc[:0]
    best = cases.sort_values(["series", "image_size", "kernel_size"], ascending=[False, False, True]).iloc[0]
    same = (rows["image_size"] == best["image_size"]) & (rows["kernel_size"] == best["kernel_size"])
    return rows[same | (rows["role"] == "plugin")]


def _phase_bars(axis: Axes, rows: pd.DataFrame) -> None:
    names = list(dict.fromkeys(rows["series"]))
    for place, series in enumerate(names):
        for offset, phase in zip((-0.24, 0.0, 0.24), PHASES, strict=True):
            part = rows[(rows["series"] == series) & (rows["phase"] == phase)]
            for row in part.to_dict("records"):
                colour = PHASE_COLOURS[phase]
                axis.plot([row["q25_s"], row["q75_s"]], [place + offset] * 2, linewidth=2.6, alpha=0.45, color=colour)
                axis.plot(row["median_s"], place + offset, "o", markersize=4.5, label=phase, color=colour)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)


def _split_sentence(rows: pd.DataFrame) -> str:
    times = rows.groupby(["framework", "series", "phase"])["median_s"].median().unstack()
    said = []
    for framework in frameworks(rows):
        part = times.loc[framework]
        if {"forward", "backward"} <= set(part.columns):
            ratios = (part["backward"] / part["forward"]).dropna()
            text = f"{framework_title(framework)}: backward over forward {_span(ratios)}"
            if "compile" in part:
                calls = (part["compile"] / part["forward"]).dropna()
                text += f", compilation as long as {_span(calls)} forward passes" if len(calls) else ""
            said.append(text)
    return f"By layer (smallest to largest): {'; '.join(said)}." if said else ""


def _span(values: pd.Series) -> str:
    return f"{number(float(f'{values.min():.3g}'))} to {number(float(f'{values.max():.3g}'))}" if len(values) else "—"


def draw_layer_ratios(results: RunResults) -> Drawing | Absent:
    """Cost of every layer over that of a depthwise convolution, beside convolution and pooling."""
    name, title = "solver-layers", "Layers beside convolution and pooling"
    rows = layer_ratios(results)
    rows = rows[rows["ratio"].notna() & (rows["solver"] != PEER)]
    if rows.empty:
        return Absent(name, title, "the solver study has no layer beside a depthwise convolution")
    shown, kernels = frameworks(rows), sorted(set(rows["kernel_size"].dropna())) or [np.nan]
    names = {framework: list(dict.fromkeys(rows.loc[rows["framework"] == framework, "series"])) for framework in shown}
    heights = [len(names[framework]) + 1 for framework in shown]
    figure = new_figure(0.22 * sum(heights) + 0.35 * len(heights) + 1.1)
    mark_device(figure, rows)
    axes = figure.subplots(len(shown), len(kernels), squeeze=False, sharex=True, sharey="row", height_ratios=heights)
    for line, framework in zip(axes, shown, strict=True):
        for axis, kernel in zip(line, kernels, strict=True):
            same = rows["kernel_size"].isna() if kernel != kernel else rows["kernel_size"] == kernel
            mine = rows[(rows["framework"] == framework) & same]
            axis.set_visible(len(mine) > 0)
            _ratio_dots(axis, mine, names[framework])
            window = f", window {kernel:.0f}×{kernel:.0f}" if kernel == kernel else ""
            axis.set_title(f"{framework_title(framework)}{window}", loc="left")
    for axis in axes[-1]:
        log_axis(axis, "x")
        axis.set_xlabel("time over a depthwise convolution")
    add_legend(figure, axes.flat)
    sizes = sorted(set(rows["image_size"].dropna()))
    caption = (
        "Time of a layer over that of a depthwise convolution on the same images in the same framework: geometric mean "
        f"over {count(len(sizes), 'image size')} (mark), smallest to largest (line); the vertical line is the "
        f"depthwise convolution itself. {_ratio_sentence(rows)} {circumstances(rows, layer_cells(results))}"
    )
    return Drawing(name, f"{title} ({devices(rows)})", caption, "Dot plot of ratios by layer.", SOURCE, figure)


def _ratio_dots(axis: Axes, rows: pd.DataFrame, names: list[str]) -> None:
    axis.axvline(1.0, color="#1b1b1b", linewidth=0.9)
    for place, series in enumerate(names):
        for offset, phase in ((-0.15, "forward"), (0.15, "backward")):
            ratios = rows.loc[(rows["series"] == series) & (rows["phase"] == phase), "ratio"]
            if len(ratios):
                colour = PHASE_COLOURS[phase]
                axis.plot([ratios.min(), ratios.max()], [place + offset] * 2, linewidth=2.4, alpha=0.45, color=colour)
                axis.plot(np.exp(np.log(ratios).mean()), place + offset, "o", markersize=4.5, label=phase, color=colour)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)


def _ratio_sentence(rows: pd.DataFrame) -> str:
    own = rows[rows["solver"] == "variational-dilation"]
    means = np.exp(np.log(own["ratio"]).groupby([own["framework"], own["series"], own["phase"]]).mean())
    said = [
        f"{series} ({framework_title(framework)}, {phase}) {number(value)}"
        for (framework, series, phase), value in means.items()
    ]
    return f"Geometric means over sizes and windows: {'; '.join(said)}." if said else ""
