"""Solvers of the coupled operators: iterations and time to an accuracy, over size and coupling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from morphobench.report.formatting import count, number, power_label, sentence_list
from morphobench.report.measurements import circumstances, devices, families, family_title, frameworks
from morphobench.report.panels import add_legend, framework_handles, framework_style, mark_device
from morphobench.report.results import RunResults
from morphobench.report.solvers.rows import (
    OURS,
    SOLVER_TITLES,
    SOURCE,
    coupled_cells,
    coupled_rows,
    own_solvers,
    solver_table,
    solver_title,
)
from morphobench.report.solvers.text import fastest_sentence
from morphobench.report.style import MARKERS, SERIES, Absent, Drawing, LineStyle, log_axis, new_figure, shade

__all__ = ["draw_accuracy", "draw_iterations", "solver_styles"]

MOST_COUPLINGS = 3
MISSED: dict[str, Any] = {"linestyle": "", "marker": "x", "color": "#1b1b1b", "markersize": 6, "zorder": 4}


def solver_styles(results: RunResults) -> dict[str, LineStyle]:
    """Return the style of every solver and peer, the same in all figures; own solvers first."""
    table = solver_table(results)
    own = own_solvers(table)
    peers = set(table.loc[table["role"] == "peer", "solver"]) - {*own, OURS}
    places = {name: place for place, name in enumerate(SOLVER_TITLES)}
    found = {}
    for place, name in enumerate([*own, *sorted(peers)]):
        fixed = places.get(name, len(SOLVER_TITLES) + place)
        colour = SERIES[fixed % len(SERIES)] if name in own else shade("#404040", 0.15 * (place % 4))
        found[name] = LineStyle(colour, MARKERS[fixed % len(MARKERS)])
    return found


def _most_varied(rows: pd.DataFrame, fixed: str, varied: str) -> pd.DataFrame:
    """Rows at the value of ``fixed`` that has the most values of ``varied`` (of equals the largest)."""
    values = rows.groupby(fixed)[varied].nunique()
    return rows[rows[fixed] == values[values == values.max()].index.max()] if len(values) else rows.iloc[:0]


def draw_iterations(results: RunResults) -> Drawing | Absent:
    """Iterations over the size and over the coupling at the tightest tolerance, by solver."""
    name, title = "solver-iterations", "Iterations of the solvers of coupled operators"
    rows = coupled_rows(results)
    rows = rows[(rows["iterations"] > 0) & rows["tolerance"].notna()]
    if rows.empty:
        return Absent(name, title, "the solver study has no iterations of coupled operators")
    rows = rows[rows["tolerance"] == rows["tolerance"].min()]
    spread = rows.groupby("family")[["image_size", "coupling"]].nunique().max(axis=1)
    drawn = [name for name in families(rows) if spread[name] > 1] or families(rows)
    left = sentence_list(family_title(name) for name in families(rows) if name not in drawn)
    styles = solver_styles(results)
    figure = new_figure(1.9 * len(drawn) + 1.0)
    mark_device(figure, rows)
    axes = figure.subplots(len(drawn), 2, squeeze=False, sharey="row")
    for pair, family in zip(axes, drawn, strict=True):
        for axis, (varied, fixed) in zip(pair, (("image_size", "coupling"), ("coupling", "image_size")), strict=True):
            chosen = _most_varied(rows[rows["family"] == family], fixed, varied)
            _iteration_lines(axis, chosen, varied, styles)
            axis.set_title(f"{family_title(family)}, {_place(chosen, fixed)}".strip(", "))
    add_legend(figure, axes.flat, [*framework_handles(rows), *_missed(rows)])
    one_place = f" ({left}, measured at one place, in the table)" if left else ""
    caption = (
        f"Iterations to an error of {power_label(rows['tolerance'].min())} over the image side (left) and the coupling "
        f"(right), the other one held fixed{one_place}; {count(rows['instance'].nunique(), 'instance')}. A cross: the error "
        f"was not reached after so many iterations. {_growth_sentence(rows)} {circumstances(rows, coupled_cells(results))}"
    )
    return Drawing(name, f"{title} ({devices(rows)})", caption, "Line plots of iterations.", SOURCE, figure)


def _place(rows: pd.DataFrame, fixed: str) -> str:
    if rows.empty:
        return ""
    value = rows[fixed].iloc[0]
    if value != value:
        return ""
    return f"λ = {value:g}" if fixed == "coupling" else f"{value:.0f}×{value:.0f}"


def _iteration_lines(axis: Axes, rows: pd.DataFrame, varied: str, styles: Mapping[str, LineStyle]) -> None:
    for framework in frameworks(rows):
        for solver, style in styles.items():
            part = rows[(rows["framework"] == framework) & (rows["solver"] == solver)]
            line = part.groupby(varied)["iterations"].median()
            if len(line):
                drawn = framework_style(framework, style.colour)
                axis.plot(line.index, line, marker=style.marker, label=solver_title(solver), **drawn)
            lost = part[part["reached"] == 0]
            axis.plot(lost[varied], lost["iterations"], **MISSED)
    axis.set_xlabel({"image_size": "image side (pixels)", "coupling": "coupling λ"}[varied])
    axis.set_ylabel("iterations")
    log_axis(axis, "y")
    ticks = sorted(set(rows.loc[rows[varied] > 0, varied]))
    if ticks:
        axis.set_xscale("log")
        axis.set_xticks(ticks, [power_label(tick) for tick in ticks])
        axis.minorticks_off()


def _missed(rows: pd.DataFrame) -> list[Line2D]:
    return [Line2D([], [], label="tolerance not reached", **MISSED)] if (rows["reached"] == 0).any() else []


def _growth_sentence(rows: pd.DataFrame) -> str:
    """Fewest and most iterations of each solver."""
    groups = {str(name): group["iterations"] for name, group in rows.groupby("solver")}
    told = [
        f"{solver_title(name)} {number(groups[name].min())} to {number(groups[name].max())}"
        for name in own_solvers(rows)
    ]
    return f"Fewest and most iterations: {'; '.join(told)}."


def draw_accuracy(results: RunResults) -> Drawing | Absent:
    """Time against the error that was reached, by solver; one row of panels a family, one column a coupling."""
    name, title = "solver-accuracy", "Time to an accuracy by solver"
    rows = coupled_rows(results, peers=True)
    rows = rows[(rows["median_s"] > 0) & rows["error"].notna()]
    if rows.empty:
        return Absent(name, title, "the solver study has no errors of coupled operators")
    drawn, styles = families(rows), solver_styles(results)
    chosen = {family: _couplings(rows[rows["family"] == family]) for family in drawn}
    columns = max(map(len, chosen.values()))
    figure = new_figure(2.3 * len(drawn) + 1.0)
    mark_device(figure, rows)
    axes = figure.subplots(len(drawn), columns, squeeze=False, sharex=True, sharey=True)
    for line, family in zip(axes, drawn, strict=True):
        for axis in line[len(chosen[family]) :]:
            axis.set_visible(False)
        for axis, part in zip(line, chosen[family], strict=False):
            _accuracy_lines(axis, part, styles)
            axis.set_title(", ".join(_place(part, fixed) for fixed in ("coupling", "image_size")).strip(", "))
            axis.tick_params(labelbottom=True)
    for axis in filter(Axes.get_visible, axes.flat):
        axis.set_xlabel("forward time (s)")
        log_axis(axis, "x")
        log_axis(axis, "y")
    for axis, family in zip(axes[:, 0], drawn, strict=True):
        axis.set_ylabel(f"{family_title(family)}\nerror reached")
    add_legend(figure, axes.flat, [*framework_handles(rows), *_missed(rows)])
    caption = (
        "Relative error of the solution against the float64 reference (of the range, in the maximum norm) over the time "
        f"of the forward solve; a mark is one tolerance asked, a cross one that was not reached. "
        f"{fastest_sentence(results)} {circumstances(rows, coupled_cells(results))}"
    )
    return Drawing(name, f"{title} ({devices(rows)})", caption, "Line plots of error against time.", SOURCE, figure)


def _couplings(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Rows at the size with the most couplings, split by up to three couplings: smallest, middle and largest."""
    rows = rows.assign(coupling=rows["coupling"].fillna(float("inf")), image_size=rows["image_size"].fillna(0))
    rows = _most_varied(rows, "image_size", "coupling")
    values = sorted(set(rows["coupling"]))
    if len(values) > MOST_COUPLINGS:
        values = [values[0], values[len(values) // 2], values[-1]]
    parts = [rows[rows["coupling"] == value] for value in values]
    return [part.replace({"coupling": float("inf"), "image_size": 0.0}, float("nan")) for part in parts]


def _accuracy_lines(axis: Axes, rows: pd.DataFrame, styles: Mapping[str, LineStyle]) -> None:
    for framework in frameworks(rows):
        for solver, style in styles.items():
            part = rows[(rows["framework"] == framework) & (rows["solver"] == solver)]
            if part.empty:
                continue
            part = part.assign(error=part["error"].clip(lower=1e-17))
            line = part.groupby("tolerance", dropna=False)[["median_s", "error"]].median().sort_index(ascending=False)
            drawn = framework_style(framework, style.colour)
            axis.plot(line["median_s"], line["error"], marker=style.marker, label=solver_title(solver), **drawn)
            lost = part[part["reached"] == 0]
            axis.plot(lost["median_s"], lost["error"], **MISSED)
