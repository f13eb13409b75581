"""Error of the gradients along the forward tolerance and the step, and the cosine by mode and parameter group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from morphobench.figures.canvas import Absent, Drawing, log_axis, new_figure, power_label
from morphobench.figures.evidence import Evidence
from morphobench.figures.gradients import (
    DIFFERENCES,
    FLOOR,
    PARAMETER_COLOURS,
    PARAMETER_TITLES,
    SOURCE,
    Pen,
    best_differences,
    clean_gradients,
    mode_rows,
    parameters,
    pens,
    precise,
    setting_text,
)
from morphobench.figures.studies import (
    FAMILY_TITLES,
    FRAMEWORK_LINES,
    FRAMEWORK_TITLES,
    add_legend,
    circumstances,
    devices,
    families,
    framework_handles,
    mark_device,
    panels,
)
from morphobench.figures.wording import count, scientific

__all__ = ["cosines", "draw_cosines", "draw_steps", "draw_tolerances", "identified_at"]

NEARLY = 1 - 1e-12  # a mean over instances of shares that are all 1


def draw_tolerances(evidence: Evidence) -> Drawing | Absent:
    """Error along the tolerance of the forward solve, with the point where the active set is identified."""
    name, title = "gradient-tolerance", "Gradient error against forward tolerance"
    rows = clean_gradients(evidence)
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
        said.append(f"{FAMILY_TITLES.get(family, family)} {where}")
        if found == found:
            axis.axvline(found, color="#404040", linestyle=(0, (2, 2)), linewidth=1.0, label="active set identified")
        axis.set(title=FAMILY_TITLES.get(family, family), xlabel="forward tolerance", ylabel="relative error")
        log_axis(axis, "x")
        log_axis(axis, "y")
        axis.invert_xaxis()
    add_legend(figure, axes, framework_handles(rows))
    caption = (
        "Relative error of the implicit gradient along the tolerance of the forward solve (tighter to the right), by "
        f"parameter group: medians over {count(rows['instance'].nunique(), 'instance')}; grey: relative error of the "
        "forward solution. Vertical line: the loosest tolerance from which on the active set equals that of the "
        f"reference in every instance of the family: {'; '.join(said)}. {circumstances(rows, evidence.gradients)}"
    )
    alt = "Line plots of error against forward tolerance."
    return Drawing(name, f"{title} ({devices(rows)})", caption, alt, SOURCE, figure)


def _tolerance_lines(axis: Axes, rows: pd.DataFrame) -> None:
    for framework in FRAMEWORK_TITLES:
        part = rows[rows["framework"] == framework]
        look: dict[str, Any] = {"linestyle": FRAMEWORK_LINES[framework], "markersize": 4, "linewidth": 1.1}
        solution = part.groupby("forward_tolerance")["forward_error"].median().dropna().clip(lower=FLOOR)
        if len(solution):
            axis.plot(solution.index, solution, color="#9A9A9A", label="forward solution", **look)
        for parameter in parameters(part):
            line = part[part["parameter"] == parameter].groupby("forward_tolerance")["error"].median().clip(lower=FLOOR)
            colour = PARAMETER_COLOURS.get(parameter, "#404040")
            face, label = colour if framework == "torch" else "white", PARAMETER_TITLES.get(parameter, parameter)
            axis.plot(line.index, line, color=colour, marker="o", markerfacecolor=face, label=label, **look)


def identified_at(rows: pd.DataFrame) -> float:
    """Loosest forward tolerance from which on the active set is that of the reference in every row; NaN if none."""
    worst = rows.groupby("forward_tolerance")["active"].agg(lambda shares: shares.min(skipna=False)).sort_index()
    found = float("nan")
    for tolerance, share in worst.items():
        if not share >= NEARLY:
            break
        found = float(str(tolerance))
    return found


def draw_steps(evidence: Evidence) -> Drawing | Absent:
    """Error of finite differences along the step (a V), one panel a parameter group, with Richardson's extrapolation."""
    name, title = "gradient-steps", "Finite differences against the step"
    rows = precise(clean_gradients(evidence))
    sweeps = rows[rows["mode"].isin(DIFFERENCES) & (rows["value"] > 0)]
    if sweeps.empty:
        return Absent(name, title, "the gradient study has no finite differences away from kinks")
    drawn, pen = parameters(sweeps), pens(evidence)
    figure, axes = panels(len(drawn), height=2.3, sharey=True)
    mark_device(figure, sweeps)
    for axis, parameter in zip(axes, drawn, strict=True):
        _kinks_included(axis, evidence, parameter)
        _step_lines(axis, rows[rows["parameter"] == parameter], pen)
        title_of = PARAMETER_TITLES.get(parameter, parameter)
        axis.set(title=f"with respect to {title_of}", xlabel="step h", ylabel="relative error")
        log_axis(axis, "x")
        log_axis(axis, "y")
    add_legend(figure, axes)
    kinks = evidence.gradients[evidence.gradients["mode"].isin(DIFFERENCES) & (evidence.gradients["kink"] == 1)]
    caption = (
        "Relative error of central finite differences against the float64 reference along the step: single instances "
        f"(thin) and their median (thick), {count(sweeps['instance'].nunique(), 'instance')}. Coordinates whose active "
        f"set differs at ±h are left out ({count(len(kinks), 'row')} with such a kink); dotted: the median with them. "
        f"Dashed: median error of the implicit gradient. Smallest median error and its step: "
        f"{'; '.join(best_differences(rows))}. {circumstances(sweeps, evidence.gradients)}"
    )
    return Drawing(name, f"{title} ({devices(sweeps)})", caption, "Line plots of error against step.", SOURCE, figure)


def _step_lines(axis: Axes, rows: pd.DataFrame, pen: Mapping[str, Pen]) -> None:
    for series in pen:
        part = rows[(rows["series"] == series) & rows["mode"].isin(DIFFERENCES) & (rows["value"] > 0)]
        part = part.assign(error=part["error"].clip(lower=FLOOR))
        for _, single in part.groupby(["instance", "framework"]):
            line = single.groupby("value")["error"].median()
            axis.plot(line.index, line, color=pen[series].colour, alpha=0.15, linewidth=0.7)
        if len(part):
            line = part.groupby("value")["error"].median()
            axis.plot(line.index, line, color=pen[series].colour, marker=pen[series].marker, markersize=4, label=series)
    implicit = rows[rows["mode"] == "implicit"]
    tightest = implicit[implicit["value"].isna() | (implicit["value"] == implicit["value"].min())]
    if len(tightest):
        level = max(float(tightest["error"].median()), FLOOR)
        colour = pen[str(tightest["series"].iloc[0])].colour
        axis.axhline(level, color=colour, linestyle=(0, (4, 3)), linewidth=1.1, label="implicit, tightest tolerance")


def _kinks_included(axis: Axes, evidence: Evidence, parameter: str) -> None:
    """Median error of finite differences over all coordinates, also those whose active set changes within the step."""
    rows = mode_rows(evidence)
    rows = rows[(rows["mode"] == DIFFERENCES[0]) & (rows["parameter"] == parameter) & (rows["data"] != "ties")]
    line = rows.replace([np.inf], np.nan).groupby("value")["relative_error"].median().dropna().clip(lower=FLOOR)
    if len(line):
        axis.plot(line.index, line, color="#707070", linestyle=":", label="finite differences, kinks included")


def cosines(evidence: Evidence) -> pd.DataFrame:
    """Smallest cosine over the instances by series with setting (rows) and parameter group (columns), kinks left out.

    Of a mode with a sweep the loosest and the tightest setting are kept, of finite differences the best step.
    """
    rows = precise(clean_gradients(evidence))
    rows = rows[rows["cosine"].notna()]
    kept = []
    for series in pens(evidence):
        part = rows[rows["series"] == series]
        if part.empty:
            continue
        values = part["value"].dropna()
        if len(values) and part["mode"].iloc[0] in DIFFERENCES:
            ends = [float(part.groupby("value")["error"].median().idxmin())]
        else:
            loose_first = part["mode"].iloc[0] == "implicit"  # a tolerance, where the others are numbers of iterations
            ends = sorted({values.min(), values.max()}, reverse=bool(loose_first)) if len(values) else []
        chosen = [part[part["value"] == end] for end in ends] or [part]
        for group in filter(len, chosen):
            text = setting_text(group.iloc[0])
            kept.append(group.assign(label=f"{series}, {text}" if text else series))
    if not kept:
        return pd.DataFrame()
    table = pd.concat(kept)
    return table.pivot_table(index="label", columns="parameter", values="cosine", aggfunc="min", sort=False)


def draw_cosines(evidence: Evidence) -> Drawing | Absent:
    """How far the cosine between gradient and reference is from 1, by mode and parameter group."""
    name, title = "gradient-cosines", "Cosine between gradient and reference"
    rows = precise(clean_gradients(evidence))
    found = cosines(evidence)
    if found.empty:
        return Absent(name, title, "the gradient study has no cosines away from kinks")
    found = found[parameters(rows[rows["parameter"].isin(found.columns)])]
    distance = (1 - found.to_numpy()).clip(min=0)
    figure = new_figure(0.26 * len(found) + 1.5)
    mark_device(figure, rows)
    axis = figure.subplots()
    shown = np.log10(np.clip(distance, 1e-16, 2))
    picture = axis.pcolormesh(np.ma.masked_invalid(shown), cmap="YlOrRd", vmin=-16, vmax=0.3, edgecolors="white")
    for place, value in np.ndenumerate(distance):
        text = "—" if np.isnan(value) else "< 10⁻¹⁵" if value < 1e-15 else scientific(value)
        colour = "white" if value > 1e-3 else "#1b1b1b"
        axis.text(place[1] + 0.5, place[0] + 0.5, text, ha="center", va="center", fontsize=7.5, color=colour)
    axis.set_xticks(np.arange(found.shape[1]) + 0.5, [PARAMETER_TITLES.get(key, key) for key in found.columns])
    axis.set_yticks(np.arange(len(found)) + 0.5, list(found.index))
    axis.tick_params(length=0)
    axis.tick_params(axis="x", labelrotation=20)
    axis.invert_yaxis()
    axis.grid(visible=False)
    bar = figure.colorbar(picture, ax=axis, ticks=[-16, -12, -8, -4, 0], fraction=0.03, pad=0.01)
    bar.ax.set_yticklabels([power_label(10.0**power) for power in (-16, -12, -8, -4, 0)])
    bar.set_label("1 − cosine")
    below = int((distance > 0.01).sum())
    caption = (
        f"One minus the cosine between gradient and float64 reference: the largest over "
        f"{count(rows['instance'].nunique(), 'instance')} and frameworks, kinks left out. Of a mode with a sweep the "
        f"loosest and the tightest setting are shown, of finite differences the step of the smallest median error. "
        f"{below} of {count(int(np.isfinite(distance).sum()), 'value')} exceed 0.01. {circumstances(rows, evidence.gradients)}"
    )
    return Drawing(name, f"{title} ({devices(rows)})", caption, "Table of cosines, coloured.", SOURCE, figure)
