"""The cosine between gradient and reference, by mode and parameter group."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from morphobench.report.formatting import count, power_label, scientific
from morphobench.report.gradients.rows import (
    DIFFERENCES,
    clean_gradients,
    gradient_table,
    parameter_title,
    parameters,
    precise,
    setting_text,
)
from morphobench.report.gradients.styles import SOURCE, mode_styles
from morphobench.report.measurements import circumstances, devices
from morphobench.report.panels import mark_device
from morphobench.report.results import RunResults
from morphobench.report.style import Absent, Drawing, new_figure

__all__ = ["cosines", "draw_cosines"]

SMALLEST = 1e-16  # of 1 - cosine in float64


def cosines(rows: pd.DataFrame, series: list[str]) -> pd.DataFrame:
    """Smallest cosine over the instances by series with setting (rows) and parameter group (columns).

    Of a mode with a sweep the loosest and the tightest setting are kept, of finite differences the best step.

    Parameters
    ----------
    rows : DataFrame
        Clean rows of the gradient study (`clean_gradients`).
    series : list of str
        The series in the order in which they are wanted.
    """
    kept = []
    for name in series:
        part = rows[(rows["series"] == name) & rows["cosine"].notna()]
        for group in _ends(part):
            text = setting_text(group.iloc[0])
            kept.append(group.assign(label=f"{name}, {text}" if text else name))
    if not kept:
        return pd.DataFrame()
    found = pd.concat(kept).pivot_table(index="label", columns="parameter", values="cosine", aggfunc="min", sort=False)
    return found[[name for name in parameters(rows) if name in found.columns]]


def _ends(rows: pd.DataFrame) -> list[pd.DataFrame]:
    values = rows["value"].dropna()
    if values.empty:
        return [rows] if len(rows) else []
    if rows["mode"].iloc[0] in DIFFERENCES:
        groups = rows.groupby("value")["parameter"].nunique()
        full = rows[rows["value"].isin(groups.index[groups == groups.max()])]  # steps without a kink in most groups
        return [full[full["value"] == full.groupby("value")["error"].median().idxmin()]]
    loose_first = rows["mode"].iloc[0] == "implicit"  # a tolerance, where the others are numbers of iterations
    return [rows[rows["value"] == end] for end in sorted({values.min(), values.max()}, reverse=bool(loose_first))]


def draw_cosines(results: RunResults) -> Drawing | Absent:
    """How far the cosine between gradient and reference is from 1; separable and coupled operators apart."""
    name, title = "gradient-cosines", "Cosine between gradient and reference"
    rows = precise(clean_gradients(results))
    series, separable = list(mode_styles(results)), rows["family"] == "separable"
    parts = {
        "separable operators": rows[separable],
        "coupled operators": rows[~separable & (rows["family"] != "plugin")],
    }
    parts |= {"operators of methods": rows[rows["family"] == "plugin"]}
    tables = {key: table for key, part in parts.items() if not (table := cosines(part, series)).empty}
    if not tables:
        return Absent(name, title, "the gradient study has no cosines away from kinks")
    heights = [len(table) for table in tables.values()]
    figure = new_figure(0.21 * sum(heights) + 0.75 * len(heights) + 0.3)
    figure.set_layout_engine("constrained", rect=(0.02, 0, 0.98, 1))  # small text is wider in the saved file
    mark_device(figure, rows)
    axes = figure.subplots(len(tables), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (key, table) in zip(axes, tables.items(), strict=True):
        _coloured(axis, table)
        axis.set_title(key, loc="left")
    values = np.concatenate([1 - table.to_numpy().ravel() for table in tables.values()])
    caption = (
        f"One minus the cosine between gradient and float64 reference: the largest over the instances "
        f"({rows['instance'].nunique()}) and frameworks, kinks left out; the darker, the larger. Of a mode with a sweep the loosest and the "
        "tightest setting are shown, of finite differences the step of the smallest median error. "
        f"{int((values > 0.01).sum())} of {count(int(np.isfinite(values).sum()), 'value')} exceed 0.01. "
        f"{circumstances(rows, gradient_table(results))}"
    )
    return Drawing(name, f"{title} ({devices(rows)})", caption, "Tables of cosines, coloured.", SOURCE, figure)


def _coloured(axis: Axes, table: pd.DataFrame) -> None:
    distance = (1 - table.to_numpy()).clip(min=0)
    shown = np.ma.masked_invalid(np.log10(np.clip(distance, SMALLEST, 2)))
    axis.pcolormesh(shown, cmap="YlOrRd", vmin=-16, vmax=0.3, edgecolors="white")
    for place, value in np.ndenumerate(distance):
        colour = "white" if value > 1e-4 else "#1b1b1b"
        axis.text(place[1] + 0.5, place[0] + 0.5, _said(value), ha="center", va="center", fontsize=7, color=colour)
    names = [textwrap.fill(parameter_title(key), 11 if table.shape[1] > 6 else 16) for key in table.columns]
    axis.set_xticks(np.arange(table.shape[1]) + 0.5, names, fontsize=7)
    axis.set_yticks(np.arange(len(table)) + 0.5, list(table.index), fontsize=7.5)
    axis.tick_params(length=0)
    axis.invert_yaxis()
    axis.grid(visible=False)


def _said(value: float) -> str:
    if np.isnan(value):
        return "—"
    if value < 10 * SMALLEST:
        return "< 10⁻¹⁵"
    return power_label(value) if value < 1e-3 else f"{value:.1g}" if value < 0.01 else scientific(value)
