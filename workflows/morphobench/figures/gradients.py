"""How exact the gradients are, and what the exactness costs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from morphobench.figures.canvas import LINES, MARKERS, SERIES, Absent, Drawing, log_axis, new_figure, power_label, shade
from morphobench.figures.evidence import Evidence
from morphobench.figures.wording import count, scientific, seconds

__all__ = [
    "best_differences",
    "clean_gradients",
    "draw_cost",
    "draw_iterations",
    "draw_steps",
    "instance_costs",
    "series_title",
    "setting_value",
]

SOURCE = "studies/gradients.csv"
FLOOR = 1e-17  # a logarithmic axis has no place for an error of 0
PARAMETER_TITLES = {
    "x": "image x",
    "bias": "structuring function b",
    "weight": "weight w",
    "logit_level": "logit of the level τ",
}
MODE_TITLES = {
    "implicit": "implicit",
    "one-step": "one step",
    "unrolled": "unrolled",
    "truncated": "truncated",
    "neumann": "Neumann series",
    "finite-differences": "finite differences",
    "richardson": "finite differences, Richardson",
}
MODE_COLOURS = dict(
    zip(MODE_TITLES, (SERIES[0], SERIES[4], SERIES[1], SERIES[5], SERIES[3], SERIES[2], SERIES[7]), strict=True)
)
DIFFERENCES = ("finite-differences", "richardson")
ITERATED = ("unrolled", "truncated", "neumann")


def setting_value(setting: object) -> float:
    """Number at the end of a setting: a step, a number of iterations, a tolerance; NaN if there is none.

    Examples
    --------
    >>> setting_value("h=1e-03"), setting_value("newton-5"), setting_value("tensor-float64")
    (0.001, 5.0, nan)
    """
    found = re.search(r"(?:^|[\s=_-])(\d+\.?\d*(?:[eE][-+]?\d+)?)$", str(setting))
    return float(found.group(1)) if found else float("nan")


def series_title(mode: str, setting: object) -> str:
    """Name of the series a row belongs to: the mode and its setting without the number that is swept.

    Examples
    --------
    >>> series_title("unrolled", "gradient-descent-5"), series_title("implicit", "cpu-float64")
    ('unrolled, gradient descent', 'implicit, float64')
    """
    text = "" if setting != setting else str(setting)
    found = re.search(r"float\d+", text)
    kind = found.group() if found else re.sub(r"(?:^|[\s=_-])(?:h=?)?\d+\.?\d*(?:[eE][-+]?\d+)?$", "", text)
    kind = (
        ""
        if kind in ("h", "step", "k", "steps")
        else kind.replace("-", " ").replace("_", " ").replace("newton", "Newton").strip()
    )
    return MODE_TITLES.get(mode, mode) + (f", {kind}" if kind else "")


def clean_gradients(evidence: Evidence) -> pd.DataFrame:
    """Return the rows of the gradient study that say something about a derivative.

    Adds the columns ``series``, ``value`` (the number in ``setting``) and ``error``. Rows at kinks are left out, but of
    finite differences the error over the coordinates without a kink is kept where the study states it.
    """
    table = evidence.gradients
    if table.empty:
        return table.assign(value=[], series=[], error=[])
    table = table.assign(mode=table["mode"].astype(str).str.lower().str.replace("_", "-").str.replace(" ", "-"))
    kink = table["kink"].astype(str).str.lower().isin(["true", "1", "1.0"])
    error = table["relative_error"].astype(float).where(~kink)
    if "relative_error_smooth" in table:
        differences = table["mode"].isin(DIFFERENCES)
        error = error.where(~differences, table["relative_error_smooth"].astype(float))
    series = [series_title(*pair) for pair in zip(table["mode"], table["setting"], strict=True)]
    table = table.assign(error=error, series=series, value=table["setting"].map(setting_value).astype(float))
    return table[np.isfinite(table["error"])]


class Pen(NamedTuple):
    """Colour (of the mode), line and marker of a series."""

    colour: str
    line: Any
    marker: str


def pens(table: pd.DataFrame) -> dict[str, Pen]:
    """Return the pen of every series of the study."""
    found: dict[str, Pen] = {}
    order = {mode: place for place, mode in enumerate(MODE_TITLES)}
    rows = table[["mode", "series"]].drop_duplicates().to_dict("records")
    used: dict[str, int] = {}
    for row in sorted(rows, key=lambda row: (order.get(row["mode"], len(order)), row["series"])):
        place = used.get(row["mode"], 0)
        used[row["mode"]] = place + 1
        marker = MARKERS[len(found) % len(MARKERS)]
        colour = shade(MODE_COLOURS.get(row["mode"], "#404040"), (0.0, -0.4, 0.35)[place % 3])
        found[row["series"]] = Pen(colour, LINES[place % len(LINES)], marker)
    return found


def _parameters(table: pd.DataFrame) -> list[str]:
    known = [name for name in PARAMETER_TITLES if name in set(table["parameter"])]
    return known + sorted(set(table["parameter"]) - set(known))


def _panels(parameters: list[str]) -> tuple[Figure, list[Axes]]:
    columns = 2 if len(parameters) > 1 else 1
    rows = -(-len(parameters) // columns)
    figure = new_figure(2.45 * rows + 0.5, 8.0 if columns > 1 else 5.0)
    axes = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
    for axis, parameter in zip(axes, parameters, strict=False):
        axis.set_title(f"with respect to the {PARAMETER_TITLES.get(parameter, parameter)}")
        axis.set_ylabel("relative error")
    for axis in axes[len(parameters) :]:
        axis.set_visible(False)
    return figure, axes[: len(parameters)]


def _level_lines(axis: Axes, table: pd.DataFrame, modes: Sequence[str], pen: Mapping[str, Pen]) -> None:
    """Horizontal lines at the median errors of the series that have no sweep."""
    groups = table[table["mode"].isin(modes)].groupby("series")
    for place, (series, rows) in enumerate(groups):
        style = pen[str(series)]
        median = max(float(rows["error"].median()), FLOOR)
        axis.axhline(
            median, color=style.colour, linestyle=(3 * place, (3, 3)), label=str(series)
        )  # equal errors: both dashes show


def _sweeps(
    axis: Axes, table: pd.DataFrame, modes: Sequence[str], pen: Mapping[str, Pen], *, instances: bool = False
) -> None:
    """Median error over instances along the setting, with single instances (thin) or their quartiles (band)."""
    table = table[table["mode"].isin(modes) & (table["value"] > 0)]
    table = table.assign(error=table["error"].clip(lower=FLOOR))
    for series, rows in table.groupby("series"):
        style, grouped = pen[str(series)], rows.groupby("value")["error"]
        median = grouped.median()
        if instances:
            for _, single in rows.groupby("instance"):
                line = single.groupby("value")["error"].median()
                axis.plot(line.index, line, color=style.colour, alpha=0.2, linewidth=0.8)
        else:
            low, high = grouped.quantile(0.25), grouped.quantile(0.75)
            axis.fill_between(median.index, low, high, color=style.colour, alpha=0.15, linewidth=0)
        axis.plot(median.index, median, color=style.colour, marker=style.marker, label=str(series))


def _kinks_included(axis: Axes, gradients: pd.DataFrame, parameter: str) -> None:
    """Median error of finite differences over all coordinates, also those whose active set changes within the step."""
    rows = gradients[(gradients["mode"] == DIFFERENCES[0]) & (gradients["parameter"] == parameter)]
    rows = rows.assign(value=rows["setting"].map(setting_value)).replace([np.inf], np.nan)
    median = rows.groupby("value")["relative_error"].median().dropna().clip(lower=FLOOR)
    axis.plot(median.index, median, color="#707070", linestyle=":", label="finite differences, kinks included")


def _finish(figure: Figure, axes: list[Axes]) -> None:
    """Make both axes logarithmic and put one legend below all panels."""
    for axis in axes:
        log_axis(axis, "x")
        log_axis(axis, "y")
    labelled: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            labelled.setdefault(label, handle)
    figure.legend(list(labelled.values()), list(labelled), loc="outside lower center", ncols=3)


def draw_steps(evidence: Evidence) -> Drawing | Absent:
    """Error of finite differences along the step, one panel a parameter."""
    name, title = "gradient-steps", "Finite differences against the step"
    table = clean_gradients(evidence)
    sweeps = table[table["mode"].isin(DIFFERENCES)] if len(table) else table
    if sweeps.empty:
        return Absent(name, title, "the gradient study has no finite differences away from kinks")
    parameters, pen = _parameters(sweeps), pens(table)
    figure, axes = _panels(parameters)
    for axis, parameter in zip(axes, parameters, strict=True):
        part = table[table["parameter"] == parameter]
        _kinks_included(axis, evidence.gradients, parameter)
        _sweeps(axis, part, DIFFERENCES, pen, instances=True)
        _level_lines(axis, part, ["implicit"], pen)
        axis.set_xlabel("finite-difference step h")
    _finish(figure, axes)
    caption = (
        "Relative error of finite differences against the float64 reference along the step: single instances (thin) "
        f"and their median (thick), {count(sweeps['instance'].nunique(), 'instance')}. Coordinates whose active set "
        "differs within the step (kinks) are left out; dotted: the median with them. Dashed: median error of the "
        f"implicit gradient. Smallest median error and its step: {'; '.join(best_differences(table))}."
    )
    return Drawing(name, title, caption, "Line plots of error against step.", SOURCE, figure)


def draw_iterations(evidence: Evidence) -> Drawing | Absent:
    """Error of unrolled differentiation along the iterations, against the implicit gradient."""
    name, title = "gradient-iterations", "Unrolled against implicit differentiation"
    table = clean_gradients(evidence)
    sweeps = table[table["mode"].isin(ITERATED)] if len(table) else table
    if sweeps.empty:
        return Absent(name, title, "the gradient study has no unrolled gradients away from kinks")
    parameters, pen = _parameters(sweeps), pens(table)
    figure, axes = _panels(parameters)
    for axis, parameter in zip(axes, parameters, strict=True):
        part = table[table["parameter"] == parameter]
        _sweeps(axis, part, ITERATED, pen)
        _level_lines(axis, part, ["implicit", "one-step"], pen)
        axis.set_xlabel("iterations differentiated through")
    _finish(figure, axes)
    fixed = table[table["mode"].isin(["implicit", "one-step"])].groupby("series")["error"].median()
    said = [f"{series} {scientific(error)}" for series, error in fixed.items()]
    for series, rows in sweeps.groupby("series"):
        medians = rows.groupby("value")["error"].median()
        said.append(f"{series} {scientific(medians.iloc[0])} with {medians.index[0]:g}")
        said[-1] += f" and {scientific(medians.iloc[-1])} with {medians.index[-1]:g} iterations"
    caption = (
        "Relative error against the float64 reference by the number of iterations that are differentiated through: "
        "median over instances (line) and quartiles (band); dashed: median of a mode without "
        f"iterations. Medians over instances and parameters: {'; '.join(said)}. Errors below "
        f"{scientific(FLOOR)} are drawn there."
    )
    return Drawing(name, title, caption, "Line plots of error against iterations.", SOURCE, figure)


def instance_costs(table: pd.DataFrame) -> pd.DataFrame:
    """Error (median over parameter groups), time and memory of the gradient of one instance, by series and setting.

    Automatic differentiation gives all parameter groups at once; finite differences take them one after the other, so
    their times are added.
    """
    numbers = table.assign(**{key: pd.to_numeric(table[key]) for key in ("seconds", "peak_bytes")})
    groups = numbers.groupby(["mode", "series", "setting", "instance"], sort=False)
    found = groups.agg(error=("error", "median"), seconds=("seconds", "mean"), peak_bytes=("peak_bytes", "max"))
    found["value"] = groups["value"].first().fillna(0)
    one_by_one = found.index.get_level_values("mode").isin(DIFFERENCES)
    found["seconds"] = found["seconds"].where(~one_by_one, groups["seconds"].sum(min_count=1))
    return found.reset_index()


def draw_cost(evidence: Evidence) -> Drawing | Absent:
    """Error against time and memory, one point a series and setting."""
    name, title = "gradient-cost", "Gradient error against time and memory"
    table = clean_gradients(evidence)
    costs = [
        ("seconds", "time of all gradients of an instance (s)"),
        ("peak_bytes", "bytes kept for the backward pass"),
    ]
    costs = [(key, label) for key, label in costs if len(table) and pd.to_numeric(table[key]).gt(0).any()]
    if not costs:
        return Absent(name, title, "the gradient study has no times and no memory")
    figure, pen, found = new_figure(3.7), pens(table), instance_costs(table)
    axes = list(figure.subplots(1, len(costs), squeeze=False, sharey=True)[0])
    for axis, (key, label) in zip(axes, costs, strict=True):
        for series, style in pen.items():
            rows = found[(found["series"] == series) & found[key].gt(0)]
            middle = rows.groupby(["value", "setting"])[[key, "error"]].median()
            middle["error"] = middle["error"].clip(lower=FLOOR)
            axis.plot(middle[key], middle["error"], color=style.colour, linewidth=0.7, alpha=0.6)
            axis.plot(*middle.to_numpy().T, style.marker, color=style.colour, label=series)
        axis.set_xlabel(label)
        axis.set_ylabel("relative error")
    _finish(figure, axes)
    said = "; ".join(
        f"{series} {seconds(time)}" for series, time in found.groupby("series")["seconds"].median().items()
    )
    caption = (
        "Each mark is one way to differentiate with one setting (those of a series are joined): medians over "
        "instances, the error also over parameter groups. Finite differences keep no bytes and are taken of a sample "
        f"of the pixels alone. Median time: {said}."
    )
    return Drawing(name, title, caption, "Scatter plots of error against time and memory.", SOURCE, figure)


def best_differences(table: pd.DataFrame) -> list[str]:
    """Smallest median error of finite differences and its step, for every parameter group of a clean study."""
    steps = table[table["mode"].isin(DIFFERENCES)]
    said = []
    for parameter in _parameters(steps):
        medians = steps[steps["parameter"] == parameter].groupby("value")["error"].median()
        title = PARAMETER_TITLES.get(parameter, parameter)
        said.append(
            f"{title} {scientific(medians.min())} at {power_label(float(np.asarray(medians.index)[medians.argmin()]))}"
        )
    return said
