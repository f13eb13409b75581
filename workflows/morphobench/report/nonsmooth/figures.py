"""Nonsmooth differentiation: the error of each way against the distance to the nearest change of the active set."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from morphobench.report.formatting import count, number
from morphobench.report.results import RunResults
from morphobench.report.study_rows import failure_sentence, measured
from morphobench.report.style import MARKERS, SERIES, Absent, Drawing, log_axis, new_figure

__all__ = ["LAYER_TITLES", "WAY_TITLES", "draw_nonsmooth", "nonsmooth_rows", "setting_title"]

WAY_TITLES = {
    "implicit": "implicit, conservative",
    "smoothed": "smoothed",
    "unrolled": "unrolled",
    "finite-differences": "finite differences",
}
LAYER_TITLES = {
    "lasso": "lasso",
    "total-variation": "total variation",
    "split-identity-0": "split identity at 0",
    "split-identity-0.5": "split identity at 0.5",
    "collinear": "lasso, collinear atoms",
}
FLOOR = 1e-16  # errors below are drawn here
STYLES = {"implicit": "-", "smoothed": "--", "unrolled": ":", "finite-differences": "-."}


def nonsmooth_rows(results: RunResults, position: str) -> pd.DataFrame:
    """Rows that were measured at a position: generic, kink or pathological."""
    rows = measured(results.nonsmooth)
    return rows[rows["position"] == position]


def setting_title(way: str, value: float, layer: str = "") -> str:
    """What the setting of a way is called, empty where it has none.

    Examples
    --------
    >>> setting_title("unrolled", 10.0), setting_title("implicit", float("nan"))
    ('10 steps', '')
    """
    if value != value:
        return ""
    if way == "unrolled":
        return count(int(value), "step")
    if way == "implicit":
        return f"relu'(0) = {number(value)}"
    if way == "smoothed" and layer == "total-variation":
        return f"smoothing × {number(value)}"
    return f"smoothing {number(value)}" if way == "smoothed" else f"h = {number(value)}"


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
        f"10⁻¹⁶ are drawn there. {failure_sentence(results.nonsmooth)}"
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
    axis.set_title(LAYER_TITLES.get(layer, layer))
    axis.set_xlabel("distance of x from the kink")
    log_axis(axis, "x")
    log_axis(axis, "y")
    axis.set_ylim(FLOOR / 3, max(3.0, float(np.nanmax(rows["relative_error"])) * 2))
    axis.legend(fontsize=6.5, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
