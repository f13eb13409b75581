"""Pixels a second of whole layers, beside what the memory of the machine allows."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from morphobench.report.measurements import circumstances, devices, framework_title, frameworks
from morphobench.report.panels import add_legend, mark_device
from morphobench.report.results import RunResults
from morphobench.report.solvers.layers import layer_styles
from morphobench.report.solvers.rows import PASSES, PIXEL_BYTES, SOURCE, bandwidths, layer_cells, layer_rows
from morphobench.report.solvers.text import throughput_sentence
from morphobench.report.style import Absent, Drawing, LineStyle, log_axis, new_figure

__all__ = ["draw_throughput"]


def draw_throughput(results: RunResults) -> Drawing | Absent:
    """Pixels a second over the size of the image, beside what the memory of this machine could do."""
    name, title = "solver-throughput", "Throughput of layers against size"
    table = layer_rows(results)
    table = table[(table["pixels_per_s"] > 0) & (table["image_size"] > 0) & table["phase"].isin(PASSES)]
    rows = table[table["kernel_size"].isna() | (table["kernel_size"] == table["kernel_size"].min())]
    if rows.empty:
        return Absent(name, title, "the solver study has no throughput")
    shown, styles, copied = frameworks(rows), layer_styles(layer_rows(results)), bandwidths(results)
    figure = new_figure(2.8 * len(shown) + 1.2)
    mark_device(figure, rows)
    axes = figure.subplots(len(shown), 2, squeeze=False, sharex=True, sharey=True)
    for line, framework in zip(axes, shown, strict=True):
        for axis, phase in zip(line, PASSES, strict=True):
            part = rows[(rows["framework"] == framework) & (rows["phase"] == phase)]
            _throughput_lines(axis, part, styles)
            for dtype in sorted(set(part["dtype"]) & set(PIXEL_BYTES)):
                if framework in copied:
                    limit = copied[framework] / PIXEL_BYTES[dtype]
                    axis.axhline(
                        limit, color="#1b1b1b", linestyle=(0, (6, 2)), linewidth=1.1, label=f"memory bandwidth, {dtype}"
                    )
            axis.set_title(f"{framework_title(framework)}, {phase}")
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
    return Drawing(name, f"{title} ({devices(rows)})", caption, alt, SOURCE, figure)


def _throughput_lines(axis: Axes, rows: pd.DataFrame, styles: Mapping[str, LineStyle]) -> None:
    for series, style in styles.items():
        line = rows[rows["series"] == series].groupby("image_size")["pixels_per_s"].median()
        if len(line):
            axis.plot(
                line.index, line, color=style.colour, linestyle=style.line, marker=style.marker, markersize=4.5,
                linewidth=1.2, label=series,
            )  # fmt: skip
