"""Solvers of the coupled operators: iterations and time to an accuracy, over size and coupling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from morphobench.report.formatting import count, number, sentence_list
from morphobench.report.results import RunResults
from morphobench.report.study_rows import (
    FAMILY_TITLES,
    FRAMEWORK_TITLES,
    add_legend,
    circumstances,
    devices,
    families,
    framework_handles,
    framework_look,
    mark_device,
    measured,
    ratio_note,
    ratio_text,
)
from morphobench.report.style import MARKERS, SERIES, Absent, Drawing, log_axis, new_figure, power_label, shade

__all__ = [
    "OURS",
    "SOLVER_SOURCE",
    "coupled_rows",
    "draw_accuracy",
    "draw_iterations",
    "fastest_sentence",
    "solver_styles",
    "solver_title",
]

SOLVER_SOURCE = "studies/solvers.csv"
SOLVER_TITLES = {
    "newton": "Newton",
    "fixed-point": "fixed point",
    "anderson": "Anderson",
    "accelerated-gradient": "accelerated gradient",
    "primal-dual": "primal-dual",
    "admm": "ADMM",
    "interior-point": "interior point",
    "max-plus-dilation": "max-plus dilation",
}
OURS = "varmorph"  # the peers' rows hold varmorph on the same instance
MOST_COUPLINGS = 3
MISSED: dict[str, Any] = {"linestyle": "", "marker": "x", "color": "#1b1b1b", "markersize": 6, "zorder": 4}


class LineStyle(NamedTuple):
    """Colour and marker of a solver."""

    colour: str
    marker: str


def solver_title(solver: str) -> str:
    """Title of a solver.

    Examples
    --------
    >>> solver_title("newton"), solver_title("depthwise-convolution")
    ('Newton', 'depthwise convolution')
    """
    return SOLVER_TITLES.get(solver, solver.replace("-", " "))


def solver_styles(results: RunResults) -> dict[str, LineStyle]:
    """Return the pen of every solver and peer, the same in all figures; own solvers first."""
    table = results.solvers
    own = set(table.loc[table["role"] == "coupled", "solver"])
    peers = set(table.loc[table["role"] == "peer", "solver"]) - own - {OURS}
    known = [name for name in SOLVER_TITLES if name in own]
    places = {name: place for place, name in enumerate(SOLVER_TITLES)}
    found = {}
    for place, name in enumerate([*known, *sorted(own - set(known)), *sorted(peers)]):
        fixed = places.get(name, len(SOLVER_TITLES) + place)
        colour = SERIES[fixed % len(SERIES)] if name in own else shade("#404040", 0.15 * (place % 4))
        found[name] = LineStyle(colour, MARKERS[fixed % len(MARKERS)])
    return found


def coupled_rows(results: RunResults, *, peers: bool = False) -> pd.DataFrame:
    """Forward solves that were measured; if wanted, also those of other libraries for operators of the same families."""
    table = measured(results.solvers)
    table = table[table["phase"] == "forward"]
    own = table[table["role"] == "coupled"]
    others = table[(table["role"] == "peer") & (table["solver"] != OURS) & table["family"].isin(set(own["family"]))]
    return pd.concat([own, others]) if peers and len(others) else own


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
    left = sentence_list(FAMILY_TITLES.get(name, name) for name in families(rows) if name not in drawn)
    styles = solver_styles(results)
    figure = new_figure(1.9 * len(drawn) + 1.0)
    mark_device(figure, rows)
    axes = figure.subplots(len(drawn), 2, squeeze=False, sharey="row")
    for pair, family in zip(axes, drawn, strict=True):
        for axis, (varied, fixed) in zip(pair, (("image_size", "coupling"), ("coupling", "image_size")), strict=True):
            chosen = _most_varied(rows[rows["family"] == family], fixed, varied)
            _iteration_lines(axis, chosen, varied, styles)
            axis.set_title(f"{FAMILY_TITLES.get(family, family)}, {_place(chosen, fixed)}".strip(", "))
    add_legend(figure, axes.flat, [*framework_handles(rows), *_missed(rows)])
    one_place = f" ({left}, measured at one place, in the table)" if left else ""
    caption = (
        f"Iterations to an error of {power_label(rows['tolerance'].min())} over the image side (left) and the coupling "
        f"(right), the other one held fixed{one_place}; {count(rows['instance'].nunique(), 'instance')}. A cross: the error "
        f"was not reached after so many iterations. {_growth_sentence(rows)} {circumstances(rows, _cells_of(results))}"
    )
    return Drawing(name, f"{title} ({devices(rows)})", caption, "Line plots of iterations.", SOLVER_SOURCE, figure)


def _cells_of(results: RunResults) -> pd.DataFrame:
    """Every row of the solvers of coupled operators, also of cells that failed."""
    return results.solvers[results.solvers["role"] == "coupled"]


def _place(rows: pd.DataFrame, fixed: str) -> str:
    if rows.empty:
        return ""
    value = rows[fixed].iloc[0]
    if value != value:
        return ""
    return f"λ = {value:g}" if fixed == "coupling" else f"{value:.0f}×{value:.0f}"


def _iteration_lines(axis: Axes, rows: pd.DataFrame, varied: str, styles: Mapping[str, LineStyle]) -> None:
    for framework in FRAMEWORK_TITLES:
        for solver, style in styles.items():
            part = rows[(rows["framework"] == framework) & (rows["solver"] == solver)]
            line = part.groupby(varied)["iterations"].median()
            if len(line):
                look = framework_look(framework, style.colour)
                axis.plot(line.index, line, marker=style.marker, label=solver_title(solver), **look)
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
    order = [name for name in SOLVER_TITLES if name in groups] + sorted(set(groups) - set(SOLVER_TITLES))
    told = [f"{solver_title(name)} {number(groups[name].min())} to {number(groups[name].max())}" for name in order]
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
        axis.set_ylabel(f"{FAMILY_TITLES.get(family, family)}\nerror reached")
    add_legend(figure, axes.flat, [*framework_handles(rows), *_missed(rows)])
    caption = (
        "Relative error of the solution against the float64 reference (of the range, in the maximum norm) over the time "
        f"of the forward solve; a mark is one tolerance asked, a cross one that was not reached. "
        f"{fastest_sentence(results)} {circumstances(rows, _cells_of(results))}"
    )
    return Drawing(
        name, f"{title} ({devices(rows)})", caption, "Line plots of error against time.", SOLVER_SOURCE, figure
    )


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
    for framework in FRAMEWORK_TITLES:
        for solver, style in styles.items():
            part = rows[(rows["framework"] == framework) & (rows["solver"] == solver)]
            if part.empty:
                continue
            part = part.assign(error=part["error"].clip(lower=1e-17))
            line = part.groupby("tolerance", dropna=False)[["median_s", "error"]].median().sort_index(ascending=False)
            look = framework_look(framework, style.colour)
            axis.plot(line["median_s"], line["error"], marker=style.marker, label=solver_title(solver), **look)
            lost = part[part["reached"] == 0]
            axis.plot(lost["median_s"], lost["error"], **MISSED)


def fastest_sentence(results: RunResults) -> str:
    """Which own solver reached the tightest tolerance in the least time, and the others' time over Newton's."""
    rows = coupled_rows(results)
    rows = rows[(rows["median_s"] > 0) & rows["tolerance"].notna()]
    if rows.empty:
        return ""
    tightest = rows["tolerance"].min()
    rows = rows[rows["tolerance"] == tightest]
    keys = ["framework", "family", "instance"]
    times = rows[rows["reached"] == 1].groupby([*keys, "solver"])["median_s"].median().unstack()
    cases = len(rows.groupby(keys))
    text = (
        f"At the tightest tolerance asked, {power_label(tightest)} ({count(cases, 'case')} of instance and framework)"
    )
    if times.empty:
        return f"{text}, no solver reached it."
    wins = times.idxmin(axis=1).value_counts()
    won = sentence_list(f"{solver_title(str(name))} in {times_won}" for name, times_won in wins.items())
    sentences = [f"{text}, the least time was that of {won}."]
    said = []
    for solver in times.columns:
        if solver == "newton" or "newton" not in times:
            continue
        ratios = (times[solver] / times["newton"]).dropna()
        if len(ratios):
            said.append(f"{solver_title(str(solver))} {ratio_text(ratios.to_numpy(), results.level, str(solver))}")
    if said:
        sentences.append(
            f"Time over that of Newton where both reached it ({ratio_note(results.level, 'cases')}): {'; '.join(said)}."
        )
    missed = rows[rows["reached"] == 0].groupby("solver").size()
    if len(missed):
        lost = sentence_list(
            f"{solver_title(str(name))} in {cast('Any', number_of)}" for name, number_of in missed.items()
        )
        sentences.append(f"Not reached: {lost}.")
    return " ".join(sentences)
