"""Pixels a second of whole layers, beside what the memory of the machine allows."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from morphobench.report.formatting import number, scientific
from morphobench.report.results import RunResults
from morphobench.report.solvers.coupled_solvers import SOLVER_SOURCE
from morphobench.report.solvers.layers import PHASES, LineStyle, frameworks_of, layer_cells, layer_rows, layer_styles
from morphobench.report.study_rows import FRAMEWORK_TITLES, add_legend, circumstances, devices, mark_device, measured
from morphobench.report.style import Absent, Drawing, log_axis, new_figure

__all__ = ["bandwidths", "draw_throughput", "throughput_sentence"]

PIXEL_BYTES = {"float32": 8, "float64": 16}  # one value read and one written


def bandwidths(results: RunResults) -> dict[str, float]:
    """Bytes a second that a copy reads and writes, by framework: the largest measured."""
    table = measured(results.solvers)
    table = table[(table["role"] == "copy") & (table["bytes_per_s"] > 0)]
    return {str(name): float(value) for name, value in table.groupby("framework")["bytes_per_s"].max().items()}


def draw_throughput(results: RunResults) -> Drawing | Absent:
    """Pixels a second over the size of the image, beside what the memory of this machine could do."""
    name, title = "solver-throughput", "Throughput of layers against size"
    table = layer_rows(results)
    table = table[(table["pixels_per_s"] > 0) & (table["image_size"] > 0) & table["phase"].isin(PHASES[1:])]
    rows = table[table["kernel_size"].isna() | (table["kernel_size"] == table["kernel_size"].min())]
    if rows.empty:
        return Absent(name, title, "the solver study has no throughput")
    frameworks, styles, copied = frameworks_of(rows), layer_styles(layer_rows(results)), bandwidths(results)
    figure = new_figure(2.8 * len(frameworks) + 1.2)
    mark_device(figure, rows)
    axes = figure.subplots(len(frameworks), 2, squeeze=False, sharex=True, sharey=True)
    for line, framework in zip(axes, frameworks, strict=True):
        for axis, phase in zip(line, PHASES[1:], strict=True):
            part = rows[(rows["framework"] == framework) & (rows["phase"] == phase)]
            _throughput_lines(axis, part, styles)
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
        f"{throughput_sentence(results)} {circumstances(rows, layer_cells(results))}"
    )
    alt = "Line plots of throughput against image size."
    return Drawing(name, f"{title} ({devices(rows)})", caption, alt, SOLVER_SOURCE, figure)


def _throughput_lines(axis: Axes, rows: pd.DataFrame, styles: Mapping[str, LineStyle]) -> None:
    for series, style in styles.items():
        line = rows[rows["series"] == series].groupby("image_size")["pixels_per_s"].median()
        if len(line):
            axis.plot(
                line.index, line, color=style.colour, linestyle=style.line, marker=style.marker, markersize=4.5,
                linewidth=1.2, label=series,
            )  # fmt: skip


def throughput_sentence(results: RunResults) -> str:
    """Highest throughput of the variational dilation, as a share of what the copy allows."""
    rows, copied = layer_rows(results), bandwidths(results)
    rows = rows[(rows["solver"] == "variational-dilation") & (rows["phase"] == "forward") & (rows["pixels_per_s"] > 0)]
    said = []
    for framework in frameworks_of(rows):
        best = max(rows[rows["framework"] == framework].to_dict("records"), key=lambda row: row["pixels_per_s"])
        text = f"{FRAMEWORK_TITLES.get(framework, framework)} {scientific(best['pixels_per_s'])} ({best['series']})"
        if framework in copied and best["dtype"] in PIXEL_BYTES:
            share = best["pixels_per_s"] * PIXEL_BYTES[best["dtype"]] / copied[framework]
            text += f", {number(100 * share)} % of the bandwidth line ({copied[framework] / 1e9:.3g} GB/s)"
        said.append(text)
    return (
        f"Highest forward throughput of the variational dilation in pixels per second: {'; '.join(said)}."
        if said
        else ""
    )
