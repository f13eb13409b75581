"""Nonsmooth differentiation: the error of each way against the distance to the nearest change of the active set."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from morphobench.report.formatting import count
from morphobench.report.measurements import failure_sentence
from morphobench.report.nonsmooth.rows import WAY_TITLES, layer_title, nonsmooth_rows, nonsmooth_table, setting_title
from morphobench.report.results import RunResults
from morphobench.report.style import MARKERS, SERIES, Absent, Drawing, log_axis, new_figure

__all__ = ["FIGURES", "draw_nonsmooth"]

FLOOR = 1e-16  # errors below are drawn here
STYLES = {"implicit": "-", "smoothed": "--", "unrolled": ":", "finite-differences": "-."}


def draw_nonsmooth(results: RunResults) -> Drawing | Absent:
    """A panel a layer: error of the gradient by x against the distance of x from the kink, a line a way and setting."""
    name, title = "nonsmooth", "Differentiating near a kink"
    rows = nonsmooth_rows(results, "generic")
    rows = rows[rows["parameter"] == "x"]
    if rows.empty:
        return Absent(name, title, "this run has no study of nonsmooth differentiation")
    layers = list(dict.fromkeys(rows["layer"]))
    figure = new_figure(4.6)
    axes = figure.subplots(1, len(layers), squeeze=False, sharey=True)[0]
    for axis, layer in zip(axes, layers, strict=True):
        _panel(axis, rows[rows["layer"] == layer], layer)
    axes[0].set_ylabel("relative error of the gradient by x, median over seeds")
    caption = (
        f"x moves on a line towards the first change of the active set; {count(int(rows['seed'].nunique()), 'seed')}. A finite "
        f"difference is right while its step is below the distance, the smoothed lasso while its smoothing is far below the margin. Errors below "
        f"10⁻¹⁶ are drawn there. {failure_sentence(nonsmooth_table(results))}"
    ).strip()
    alt = f"{count(len(layers), 'panel')} with the error of the gradient against the distance from the kink."
    return Drawing(name, title, caption, alt, "studies/nonsmooth.csv", figure)


def _panel(axis: Axes, rows: pd.DataFrame, layer: str) -> None:
    for place, way in enumerate(WAY_TITLES):
        mine = rows[rows["way"] == way]
        for step, (value, group) in enumerate(mine.groupby("value", dropna=False)):
            errors = group.groupby("distance")["relative_error"].median().clip(lower=FLOOR)
            label = ", ".join(filter(None, (WAY_TITLES[way], setting_title(way, float(str(value)), layer))))
            axis.plot(
                errors.index,
                errors,
                linestyle=STYLES[way],
                color=SERIES[place],
                marker=MARKERS[step % len(MARKERS)],
                markersize=4,
                label=label,
            )
    axis.set_title(layer_title(layer))
    axis.set_xlabel("distance of x from the kink")
    log_axis(axis, "x")
    log_axis(axis, "y")
    axis.set_ylim(FLOOR / 3, max(3.0, float(np.nanmax(rows["relative_error"])) * 2))
    axis.legend(fontsize=6.5, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)


FIGURES = (draw_nonsmooth,)
