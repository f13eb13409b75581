"""What whole layers cost: compilation, forward and backward pass, throughput, and the ratio to a convolution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from morphobench.figures.canvas import LINES, MARKERS, SERIES, Absent, Drawing, log_axis, new_figure, shade
from morphobench.figures.coupled_solvers import SOLVER_SOURCE, solver_title
from morphobench.figures.evidence import Evidence
from morphobench.figures.studies import (
    BACKEND_TITLES,
    FRAMEWORK_TITLES,
    add_legend,
    circumstances,
    devices,
    instance_name,
    mark_device,
    measured,
)
from morphobench.figures.wording import count, number, scientific

__all__ = [
    "PHASES",
    "bandwidths",
    "draw_layer_ratios",
    "draw_phases",
    "draw_throughput",
    "layer_ratios",
    "layer_rows",
]

PHASES = ("compile", "forward", "backward")
PHASE_COLOURS = dict(zip(PHASES, (SERIES[6], SERIES[0], SERIES[1]), strict=True))
LAYER_COLOURS = {
    "variational-dilation": "#D55E00",
    "regularised-dilation": "#AA4499",
    "joint-opening": "#882255",
    "reconstruction": "#B8860B",
    "max-plus-dilation": "#0072B2",
    "flat-dilation": "#56B4E9",
    "max-pooling": "#707070",
    "depthwise-convolution": "#009E73",
    "convolution": "#004D38",
}
PLAIN = ("", "tensor", "torch", "jax")  # written with the framework's own operations: not said
PEER = "depthwise-convolution"
CASE = ["framework", "device", "dtype", "image_size", "batch", "channels", "kernel_size"]
PIXEL_BYTES = {"float32": 8, "float64": 16}  # one value read and one written


def layer_rows(evidence: Evidence) -> pd.DataFrame:
    """Measured times of layers and of methods' own operators, with their ``series``: the layer, and how it is written."""
    table = measured(evidence.solvers)
    table = table[table["role"].isin(["layer", "plugin"]) & (table["median_s"] > 0)]
    names = table["solver"].map(solver_title).astype(str)
    backends = table["backend"].map(lambda backend: "" if backend in PLAIN else BACKEND_TITLES.get(backend, backend))
    series = names.where(backends == "", names + ", " + backends.astype(str))
    order = {name: place for place, name in enumerate(LAYER_COLOURS)}
    places = table["solver"].map(lambda solver: order.get(solver, len(order)))
    return table.assign(series=series, place=places).sort_values(["place", "series"], kind="stable")


class Pen(NamedTuple):
    """Colour, line and marker of a layer."""

    colour: str
    line: Any
    marker: str


def layer_pens(rows: pd.DataFrame) -> dict[str, Pen]:
    """Return the pen of every series: the colour of the layer, darker for its second implementation."""
    found: dict[str, Pen] = {}
    used: dict[str, int] = {}
    for series, solver in rows[["series", "solver"]].drop_duplicates().itertuples(index=False):
        place = used.get(solver, 0)
        used[solver] = place + 1
        colour = shade(LAYER_COLOURS.get(solver, "#404040"), (0.0, -0.4, 0.4)[place % 3])
        found[series] = Pen(colour, LINES[place % len(LINES)], MARKERS[len(found) % len(MARKERS)])
    return found


def _frameworks(rows: pd.DataFrame) -> list[str]:
    found = set(rows["framework"])
    return [name for name in FRAMEWORK_TITLES if name in found] + sorted(found - set(FRAMEWORK_TITLES))


def _largest(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the largest image with the smallest window."""
    rows = rows[rows["image_size"].fillna(0) == rows["image_size"].fillna(0).max()]
    return rows[rows["kernel_size"].isna() | (rows["kernel_size"] == rows["kernel_size"].min())]


def draw_phases(evidence: Evidence) -> Drawing | Absent:
    """Time to compile, of the forward and of the backward pass, by layer and framework."""
    name, title = "solver-phases", "Compilation, forward and backward pass by layer"
    table = layer_rows(evidence)
    rows = _largest(table[table["phase"].isin(PHASES)])
    if rows.empty:
        return Absent(name, title, "the solver study has no times of layers")
    frameworks = _frameworks(rows)
    heights = [rows.loc[rows["framework"] == framework, "series"].nunique() for framework in frameworks]
    figure = new_figure(0.24 * sum(heights) + 0.5 * len(heights) + 1.0)
    mark_device(figure, rows)
    axes = figure.subplots(
        len(frameworks), 1, squeeze=False, sharex=True, height_ratios=[height + 1 for height in heights]
    )
    for axis, framework in zip(axes[:, 0], frameworks, strict=True):
        _phase_bars(axis, rows[rows["framework"] == framework])
        axis.set_title(FRAMEWORK_TITLES.get(framework, framework), loc="left")
    log_axis(axes[-1, 0], "x")
    axes[-1, 0].set_xlabel("median time (s)")
    add_legend(figure, axes.flat)
    caption = (
        f"Median time (mark) and quartiles (line) of compilation (first call or ahead of time), forward and backward pass of "
        f"every layer at the largest size, {instance_name(rows.iloc[0])}; the axis is logarithmic, so marks stand in the "
        f"place of bars. {_split_sentence(rows)} {circumstances(rows, _layers_of(evidence))}"
    )
    return Drawing(name, f"{title} ({devices(rows)})", caption, "Dot plot of times by layer.", SOLVER_SOURCE, figure)


def _phase_bars(axis: Axes, rows: pd.DataFrame) -> None:
    names = list(dict.fromkeys(rows["series"]))
    for place, series in enumerate(names):
        for offset, phase in zip((-0.24, 0.0, 0.24), PHASES, strict=True):
            part = rows[(rows["series"] == series) & (rows["phase"] == phase)]
            for row in part.to_dict("records"):
                look: dict[str, Any] = {"color": PHASE_COLOURS[phase]}
                axis.plot([row["q25_s"], row["q75_s"]], [place + offset] * 2, linewidth=2.6, alpha=0.45, **look)
                axis.plot(row["median_s"], place + offset, "o", markersize=4.5, label=phase, **look)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)


def _split_sentence(rows: pd.DataFrame) -> str:
    times = rows.groupby(["framework", "series", "phase"])["median_s"].median().unstack()
    said = []
    for framework in _frameworks(rows):
        part = times.loc[framework]
        if {"forward", "backward"} <= set(part.columns):
            ratios = (part["backward"] / part["forward"]).dropna()
            text = f"{FRAMEWORK_TITLES.get(framework, framework)}: backward over forward {_span(ratios)}"
            if "compile" in part:
                calls = (part["compile"] / part["forward"]).dropna()
                text += f", compilation as long as {_span(calls)} forward passes" if len(calls) else ""
            said.append(text)
    return f"By layer (smallest to largest): {'; '.join(said)}." if said else ""


def _span(values: pd.Series) -> str:
    return f"{number(float(f'{values.min():.3g}'))} to {number(float(f'{values.max():.3g}'))}" if len(values) else "—"


def _layers_of(evidence: Evidence) -> pd.DataFrame:
    return evidence.solvers[evidence.solvers["role"].isin(["layer", "plugin", "copy"])]


def bandwidths(evidence: Evidence) -> dict[str, float]:
    """Bytes a second that a copy reads and writes, by framework: the largest measured."""
    table = measured(evidence.solvers)
    table = table[(table["role"] == "copy") & (table["bytes_per_s"] > 0)]
    return {str(name): float(value) for name, value in table.groupby("framework")["bytes_per_s"].max().items()}


def draw_throughput(evidence: Evidence) -> Drawing | Absent:
    """Pixels a second over the size of the image, beside what the memory of this machine could do."""
    name, title = "solver-throughput", "Throughput of layers against size"
    table = layer_rows(evidence)
    table = table[(table["pixels_per_s"] > 0) & (table["image_size"] > 0) & table["phase"].isin(PHASES[1:])]
    rows = table[table["kernel_size"].isna() | (table["kernel_size"] == table["kernel_size"].min())]
    if rows.empty:
        return Absent(name, title, "the solver study has no throughput")
    frameworks, pen, copied = _frameworks(rows), layer_pens(layer_rows(evidence)), bandwidths(evidence)
    figure = new_figure(2.8 * len(frameworks) + 1.2)
    mark_device(figure, rows)
    axes = figure.subplots(len(frameworks), 2, squeeze=False, sharex=True, sharey=True)
    for line, framework in zip(axes, frameworks, strict=True):
        for axis, phase in zip(line, PHASES[1:], strict=True):
            part = rows[(rows["framework"] == framework) & (rows["phase"] == phase)]
            _throughput_lines(axis, part, pen)
            for dtype in sorted(set(part["dtype"]) & set(PIXEL_BYTES)):
                if framework in copied:
                    limit = copied[framework] / PIXEL_BYTES[dtype]
                    axis.axhline(
                        limit, color="#1b1b1b", linestyle=(0, (6, 2)), linewidth=1.1, label=f"memory bandwidth, {dtype}"
                    )
            axis.set_title(f"{FRAMEWORK_TITLES.get(framework, framework)}, {phase}")
            log_axis(axis, "y")
            axis.set_xscale("log")
            ticks = sorted(set(rows["image_size"]))
            axis.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
            axis.minorticks_off()
        line[0].set_ylabel("pixels per second")
    for axis in axes[-1]:
        axis.set_xlabel("image side (pixels)")
    add_legend(figure, axes.flat)
    kernel = rows["kernel_size"].min()
    window = f", window {kernel:.0f}×{kernel:.0f}" if kernel == kernel else ""
    caption = (
        f"Output pixels of all images and channels per second over the side of the image{window}. Dashed: what an operator "
        "could do that reads and writes every pixel once at the speed of a copy measured in the same process; images that stay in the caches can exceed it. "
        f"{throughput_sentence(evidence)} {circumstances(rows, _layers_of(evidence))}"
    )
    alt = "Line plots of throughput against image size."
    return Drawing(name, f"{title} ({devices(rows)})", caption, alt, SOLVER_SOURCE, figure)


def _throughput_lines(axis: Axes, rows: pd.DataFrame, pen: Mapping[str, Pen]) -> None:
    for series, style in pen.items():
        line = rows[rows["series"] == series].groupby("image_size")["pixels_per_s"].median()
        if len(line):
            axis.plot(
                line.index, line, color=style.colour, linestyle=style.line, marker=style.marker, markersize=4.5,
                linewidth=1.2, label=series,
            )  # fmt: skip


def throughput_sentence(evidence: Evidence) -> str:
    """Highest throughput of the variational dilation, as a share of what the copy allows."""
    rows, copied = layer_rows(evidence), bandwidths(evidence)
    rows = rows[(rows["solver"] == "variational-dilation") & (rows["phase"] == "forward") & (rows["pixels_per_s"] > 0)]
    said = []
    for framework in _frameworks(rows):
        best = max(rows[rows["framework"] == framework].to_dict("records"), key=lambda row: row["pixels_per_s"])
        text = f"{FRAMEWORK_TITLES.get(framework, framework)} {scientific(best['pixels_per_s'])} ({best['series']})"
        if framework in copied and best["dtype"] in PIXEL_BYTES:
            share = best["pixels_per_s"] * PIXEL_BYTES[best["dtype"]] / copied[framework]
            text += f", {100 * share:.2g} % of the bandwidth line ({copied[framework] / 1e9:.3g} GB/s)"
        said.append(text)
    return (
        f"Highest forward throughput of the variational dilation in pixels per second: {'; '.join(said)}."
        if said
        else ""
    )


def layer_ratios(evidence: Evidence) -> pd.DataFrame:
    """Rows of layers with their ``ratio``: the time over that of a depthwise convolution on the same case and phase."""
    rows = layer_rows(evidence)
    rows = rows[rows["phase"].isin(PHASES[1:])]
    keys = [*CASE, "phase"]
    peer = rows[rows["solver"] == PEER].groupby(keys, dropna=False)["median_s"].min().rename("peer_s").reset_index()
    joined = rows.merge(peer, on=keys, how="left").set_index(rows.index)
    return joined.assign(ratio=joined["median_s"] / joined["peer_s"])


def draw_layer_ratios(evidence: Evidence) -> Drawing | Absent:
    """Cost of every layer over that of a depthwise convolution, beside convolution and pooling."""
    name, title = "solver-layers", "Layers beside convolution and pooling"
    rows = layer_ratios(evidence)
    rows = rows[rows["ratio"].notna() & (rows["solver"] != PEER)]
    if rows.empty:
        return Absent(name, title, "the solver study has no layer beside a depthwise convolution")
    frameworks, kernels = _frameworks(rows), sorted(set(rows["kernel_size"].dropna())) or [np.nan]
    names = {
        framework: list(dict.fromkeys(rows.loc[rows["framework"] == framework, "series"])) for framework in frameworks
    }
    heights = [len(names[framework]) + 1 for framework in frameworks]
    figure = new_figure(0.22 * sum(heights) + 0.35 * len(heights) + 1.1)
    mark_device(figure, rows)
    axes = figure.subplots(
        len(frameworks), len(kernels), squeeze=False, sharex=True, sharey="row", height_ratios=heights
    )
    for line, framework in zip(axes, frameworks, strict=True):
        for axis, kernel in zip(line, kernels, strict=True):
            same = rows["kernel_size"].isna() if kernel != kernel else rows["kernel_size"] == kernel
            _ratio_dots(axis, rows[(rows["framework"] == framework) & same], names[framework])
            window = f", window {kernel:.0f}×{kernel:.0f}" if kernel == kernel else ""
            axis.set_title(f"{FRAMEWORK_TITLES.get(framework, framework)}{window}", loc="left")
    for axis in axes[-1]:
        log_axis(axis, "x")
        axis.set_xlabel("time over a depthwise convolution")
    add_legend(figure, axes.flat)
    sizes = sorted(set(rows["image_size"].dropna()))
    caption = (
        "Time of a layer over that of a depthwise convolution on the same images in the same framework: geometric mean "
        f"over {count(len(sizes), 'image size')} (mark), smallest to largest (line); the vertical line is the "
        f"depthwise convolution itself. {_ratio_sentence(rows)} {circumstances(rows, _layers_of(evidence))}"
    )
    return Drawing(name, f"{title} ({devices(rows)})", caption, "Dot plot of ratios by layer.", SOLVER_SOURCE, figure)


def _ratio_dots(axis: Axes, rows: pd.DataFrame, names: list[str]) -> None:
    axis.axvline(1.0, color="#1b1b1b", linewidth=0.9)
    for place, series in enumerate(names):
        for offset, phase in ((-0.15, "forward"), (0.15, "backward")):
            ratios = rows.loc[(rows["series"] == series) & (rows["phase"] == phase), "ratio"]
            if len(ratios):
                look: dict[str, Any] = {"color": PHASE_COLOURS[phase]}
                axis.plot([ratios.min(), ratios.max()], [place + offset] * 2, linewidth=2.4, alpha=0.45, **look)
                axis.plot(np.exp(np.log(ratios).mean()), place + offset, "o", markersize=4.5, label=phase, **look)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)


def _ratio_sentence(rows: pd.DataFrame) -> str:
    own = rows[rows["solver"] == "variational-dilation"]
    means = np.exp(np.log(own["ratio"]).groupby([own["framework"], own["series"], own["phase"]]).mean())
    said = [
        f"{series} ({FRAMEWORK_TITLES.get(framework, framework)}, {phase}) {number(value)}"
        for (framework, series, phase), value in means.items()
    ]
    return f"Geometric means over sizes and windows: {'; '.join(said)}." if said else ""
