"""Error of the gradients against what they cost: time and memory, one line a mode."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from morphobench.report.formatting import count, scientific, sentence_list
from morphobench.report.gradients.figures import (
    DIFFERENCES,
    FLOOR,
    SOURCE,
    LineStyle,
    instance_costs,
    line_styles,
    mode_rows,
    precise,
)
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
    label_rows,
    mark_device,
    panels,
    ratio_note,
    ratio_text,
)
from morphobench.report.style import Absent, Drawing, log_axis, power_label

__all__ = ["cost_comparison", "draw_gradient_memory", "draw_gradient_time"]

TARGET = 1e-6  # the accuracy at which modes are compared


def draw_gradient_time(results: RunResults) -> Drawing | Absent:
    """Error against time, one panel a family and one line a mode."""
    note = "Finite differences are those of a sample of coordinates."
    title, label = "Gradient error against time", "time of forward and backward (s)"
    return _draw(results, "seconds", "gradient-time", title, label, note)


def draw_gradient_memory(results: RunResults) -> Drawing | Absent:
    """Error against the bytes that are kept for the backward pass."""
    note = "What keeps no bytes (finite differences), or was not measured, is absent."
    title, label = "Gradient error against memory", "bytes kept for the backward pass"
    return _draw(results, "peak_bytes", "gradient-memory", title, label, note)


def _draw(results: RunResults, column: str, name: str, title: str, label: str, note: str) -> Drawing | Absent:
    rows = precise(mode_rows(results))
    costs = instance_costs(rows)
    costs = costs[costs[column] > 0]
    if costs.empty:
        return Absent(name, title, f"the gradient study has no {label.split(' (')[0]} with an error away from kinks")
    drawn, styles = families(costs), line_styles(results)
    rows = rows[rows["family"].isin(drawn)]
    figure, axes = panels(len(drawn), sharey=True)
    mark_device(figure, rows)
    for axis, family in zip(axes, drawn, strict=True):
        _family(axis, costs[costs["family"] == family], column, styles)
        axis.set(title=FAMILY_TITLES.get(family, family), xlabel=label)
        log_axis(axis, "x")
        log_axis(axis, "y")
    label_rows(axes, "relative error")
    add_legend(figure, axes, framework_handles(costs))
    scope = f"{count(costs['instance'].nunique(), 'instance')}, {sentence_list(sorted(set(costs['dtype'])))}"
    caption = (
        f"Relative error of the gradient (largest over the parameter groups) against the {label}: medians over the "
        f"instances of a family ({scope}). A mark is one setting (tolerance of the adjoint solve, number of iterations "
        f"or terms, step), the tightest is named; a line joins those of a mode. {note} Errors below "
        f"{scientific(FLOOR)} are drawn there; settings with a kink are left out. "
        f"{cost_comparison(results, column, 'unrolled')} {circumstances(rows, results.gradients)}"
    ).replace("  ", " ")
    alt = f"Line plots of error against {label}."
    return Drawing(name, f"{title} ({devices(rows)})", caption, alt, SOURCE, figure)


def _family(axis: Axes, costs: pd.DataFrame, column: str, styles: Mapping[str, LineStyle]) -> None:
    axis.set_xscale("log")
    axis.margins(x=0.18)  # room for the names of the settings
    for series, style in styles.items():
        for framework in FRAMEWORK_TITLES:
            rows = costs[(costs["series"] == series) & (costs["framework"] == framework)]
            if rows.empty:
                continue
            middle = (
                rows.assign(order=rows["value"].fillna(0)).groupby(["order", "setting"])[[column, "error"]].median()
            )
            x, y = middle[column].to_numpy(), middle["error"].clip(lower=FLOOR).to_numpy()
            first = framework == _first(costs)
            look = framework_look(framework, style.colour)
            axis.plot(x, y, marker=style.marker, label=series if first else None, **look)
            if first and len(x) > 1 and rows["mode"].iloc[0] not in DIFFERENCES:
                last = float(middle.index.get_level_values("order")[-1 if rows["mode"].iloc[0] != "implicit" else 0])
                _name_tightest(axis, middle, column, last, style.colour, left=rows["mode"].iloc[0] == "implicit")


def _first(costs: pd.DataFrame) -> str:
    return next(name for name in FRAMEWORK_TITLES if name in set(costs["framework"]))


def _name_tightest(axis: Axes, middle: pd.DataFrame, column: str, value: float, colour: str, *, left: bool) -> None:
    """Write the tightest setting beside its mark; that of the implicit mode to the left, away from the others."""
    row = middle.xs(value, level="order").iloc[0]
    axis.annotate(
        power_label(value), (row[column], max(row["error"], FLOOR)), xytext=(-5 if left else 5, -2),
        textcoords="offset points", ha="right" if left else "left", va="top", fontsize=6.5, color=colour,
    )  # fmt: skip


def cost_comparison(results: RunResults, column: str, other: str, target: float = TARGET) -> str:
    """Cost of a mode over that of implicit differentiation to the same accuracy, by family and framework; "" if none.

    Of each mode the setting counts that reaches the accuracy in every parameter group at the lowest cost.
    """
    costs = instance_costs(precise(mode_rows(results)))
    costs = costs[costs[column] > 0]
    said, missed = [], []
    for framework in FRAMEWORK_TITLES:
        parts = []
        for family in families(costs):
            rows = costs[(costs["family"] == family) & (costs["framework"] == framework)]
            both, least = _least(rows, column, other, target)
            if len(least):
                ratios = (least[other] / least["implicit"]).to_numpy()
                told = ratio_text(ratios, results.level, f"{column}-{other}-{family}-{framework}")
                parts.append(f"{FAMILY_TITLES.get(family, family)} {told}")
            if both > len(least):
                place = f"{FAMILY_TITLES.get(family, family)}, {FRAMEWORK_TITLES[framework]}"
                missed.append(f"{both - len(least)} of {both} ({place})")
        said += [f"{FRAMEWORK_TITLES[framework]}: {', '.join(parts)}"] if parts else []
    what = {"seconds": "time", "peak_bytes": "bytes kept"}[column]
    modes = {"unrolled": "unrolling", "finite-differences": "finite differences"}.get(other, other)
    text = (
        f"To a relative error of {power_label(target)} in every parameter group, {what} of {modes} over {what} of implicit "
        f"differentiation ({ratio_note(results.level)}): {'; '.join(said)}."
    )
    if said and other == "finite-differences":
        text += " Finite differences are those of a sample of coordinates alone: all of them take longer in proportion."
    lost = f"Not reached by both: {'; '.join(missed)}."
    return " ".join([text] * bool(said) + [lost] * bool(missed))


def _least(rows: pd.DataFrame, column: str, other: str, target: float) -> tuple[int, pd.DataFrame]:
    """How many instances have both modes, and the least cost of each that reaches the accuracy."""
    names = [set(rows.loc[rows["mode"] == mode, "instance"]) for mode in (other, "implicit")]
    both = names[0] & names[1]
    reached = rows[(rows["error"] <= target) & rows["instance"].isin(both)]
    least = reached.groupby(["instance", "mode"])[column].min().unstack().reindex(columns=[other, "implicit"])
    return len(both), least.dropna()
