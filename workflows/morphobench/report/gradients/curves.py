"""Error of the gradients along the tolerance of the forward solve and along the step of finite differences."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from morphobench.report.formatting import count, power_label, scientific
from morphobench.report.gradients.rows import (
    DIFFERENCES,
    clean_gradients,
    gradient_table,
    mode_rows,
    parameter_title,
    parameters,
    precise,
)
from morphobench.report.gradients.styles import FLOOR, PARAMETER_COLOURS, SOURCE, mode_styles
from morphobench.report.measurements import circumstances, devices, families, family_title, frameworks
from morphobench.report.panels import add_legend, framework_handles, framework_style, label_rows, mark_device
from morphobench.report.results import RunResults
from morphobench.report.style import Absent, Drawing, LineStyle, log_axis, panels

__all__ = ["draw_steps", "draw_tolerances", "identified_at"]

NEARLY = 1 - 1e-12  # a mean over instances of shares that are all 1


def draw_tolerances(results: RunResults) -> Drawing | Absent:
    """Error along the tolerance of the forward solve, with the point where the active set is identified."""
    name, title = "gradient-tolerance", "Gradient error against forward tolerance"
    rows = clean_gradients(results)
    rows = rows[(rows["forward_tolerance"] > 0) & (rows["mode"] == "implicit")]
    if rows.empty:
        return Absent(name, title, "the gradient study does not vary the forward tolerance")
    drawn = families(rows)
    figure, axes = panels(len(drawn), sharey=True)
    mark_device(figure, rows)
    said = []
    for axis, family in zip(axes, drawn, strict=True):
        part = rows[rows["family"] == family]
        _tolerance_lines(axis, part)
        found = identified_at(part)
        where = f"from {power_label(found)} on" if found == found else "at no tolerance tried"
        said.append(f"{family_title(family)} {where}")
        if found == found:
            axis.axvline(found, color="#404040", linestyle=(0, (2, 2)), linewidth=1.0, label="active set identified")
        axis.set(title=family_title(family), xlabel="forward tolerance")
        log_axis(axis, "x")
        log_axis(axis, "y")
        axis.invert_xaxis()
    label_rows(axes, "relative error")
    add_legend(figure, axes, framework_handles(rows))
    caption = (
        "Relative error of the implicit gradient along the tolerance of the forward solve (tighter to the right), by "
        f"parameter group: medians over {count(rows['instance'].nunique(), 'instance')}; grey: relative error of the "
        "forward solution. Vertical line: the loosest tolerance from which on the active set equals that of the "
        f"reference in every instance of the family: {'; '.join(said)}. {circumstances(rows, gradient_table(results))}"
    )
    alt = "Line plots of error against forward tolerance."
    return Drawing(name, f"{title} ({devices(rows)})", caption, alt, SOURCE, figure)


def _tolerance_lines(axis: Axes, rows: pd.DataFrame) -> None:
    for framework in frameworks(rows):
        part = rows[rows["framework"] == framework]
        solution = part.groupby("forward_tolerance")["forward_error"].median().dropna().clip(lower=FLOOR)
        if len(solution):
            axis.plot(solution.index, solution, label="forward solution", **framework_style(framework, "#9A9A9A"))
        for parameter in parameters(part):
            line = part[part["parameter"] == parameter].groupby("forward_tolerance")["error"].median().clip(lower=FLOOR)
            colour = PARAMETER_COLOURS.get(parameter, "#404040")
            label = parameter_title(parameter)
            axis.plot(line.index, line, marker="o", label=label, **framework_style(framework, colour))


def identified_at(rows: pd.DataFrame) -> float:
    """Loosest forward tolerance from which on the active set is that of the reference in every row; NaN if none."""
    worst = rows.groupby("forward_tolerance")["active"].agg(lambda shares: shares.min(skipna=False)).sort_index()
    found = float("nan")
    for tolerance, share in worst.items():
        if not share >= NEARLY:
            break
        found = float(str(tolerance))
    return found


def draw_steps(results: RunResults) -> Drawing | Absent:
    """Error of finite differences along the step (a V), one panel a parameter group, with Richardson's extrapolation."""
    name, title = "gradient-steps", "Finite differences against the step"
    rows = precise(clean_gradients(results))
    sweeps = rows[rows["mode"].isin(DIFFERENCES) & (rows["value"] > 0)]
    if sweeps.empty:
        return Absent(name, title, "the gradient study has no finite differences away from kinks")
    drawn, styles, every = parameters(sweeps), mode_styles(results), precise(mode_rows(results))
    figure, axes = panels(len(drawn), height=2.1, sharey=True)
    mark_device(figure, sweeps)
    for axis, parameter in zip(axes, drawn, strict=True):
        _kinks_included(axis, every[every["parameter"] == parameter])
        _step_lines(axis, rows[rows["parameter"] == parameter], styles)
        axis.set(title=parameter_title(parameter), xlabel="step h")
        log_axis(axis, "x")
        log_axis(axis, "y")
    label_rows(axes, "relative error")
    add_legend(figure, axes, columns=2)
    kinks = gradient_table(results)[
        gradient_table(results)["mode"].isin(DIFFERENCES) & (gradient_table(results)["kink"] == 1)
    ]
    caption = (
        "Relative error of central finite differences against the float64 reference along the step, by the parameter group that the derivative is taken to: single instances "
        f"(thin) and their median (thick), {count(sweeps['instance'].nunique(), 'instance')}. Coordinates whose active "
        f"set differs at ±h are left out ({count(len(kinks), 'row')} with such a kink); dotted: the median with them. "
        f"Dashed: median error of the implicit gradient. Smallest median error and its step: "
        f"{'; '.join(_best_differences(rows))}. {circumstances(sweeps, gradient_table(results))}"
    )
    return Drawing(name, f"{title} ({devices(sweeps)})", caption, "Line plots of error against step.", SOURCE, figure)


def _step_lines(axis: Axes, rows: pd.DataFrame, styles: Mapping[str, LineStyle]) -> None:
    for series in styles:
        part = rows[(rows["series"] == series) & rows["mode"].isin(DIFFERENCES) & (rows["value"] > 0)]
        part = part.assign(error=part["error"].clip(lower=FLOOR))
        for _, single in part.groupby(["instance", "framework"]):
            line = single.groupby("value")["error"].median()
            axis.plot(line.index, line, color=styles[series].colour, alpha=0.15, linewidth=0.7)
        if len(part):
            line = part.groupby("value")["error"].median()
            axis.plot(
                line.index, line, color=styles[series].colour, marker=styles[series].marker, markersize=4, label=series
            )
    implicit = rows[rows["mode"] == "implicit"]
    tightest = implicit[implicit["value"].isna() | (implicit["value"] == implicit["value"].min())]
    if len(tightest):
        level = max(float(tightest["error"].median()), FLOOR)
        colour = styles[str(tightest["series"].iloc[0])].colour
        axis.axhline(level, color=colour, linestyle=(0, (4, 3)), linewidth=1.1, label="implicit, tightest tolerance")


def _kinks_included(axis: Axes, rows: pd.DataFrame) -> None:
    """Median error of finite differences over all coordinates, also those whose active set changes within the step."""
    rows = rows[(rows["mode"] == DIFFERENCES[0]) & (rows["data"] != "ties")]
    line = rows.replace([np.inf], np.nan).groupby("value")["relative_error"].median().dropna().clip(lower=FLOOR)
    if len(line):
        axis.plot(line.index, line, color="#707070", linestyle=":", label="finite differences, kinks included")


def _best_differences(table: pd.DataFrame) -> list[str]:
    """Smallest median error of finite differences and its step, for every parameter group of a clean study."""
    steps = table[table["mode"] == DIFFERENCES[0]]
    said = []
    for parameter in parameters(steps):
        medians = steps[steps["parameter"] == parameter].groupby("value")["error"].median()
        title = parameter_title(parameter)
        if len(medians):
            step = float(np.asarray(medians.index)[medians.argmin()])
            said.append(f"{title} {scientific(medians.min())} at {power_label(step)}")
    return said
