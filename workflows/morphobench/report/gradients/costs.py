"""Error of the gradients against what they cost: time and memory, one line a mode."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from morphobench.report.formatting import count, power_label, scientific, sentence_list
from morphobench.report.gradients.rows import DIFFERENCES, gradient_table, instance_costs, mode_rows, precise
from morphobench.report.gradients.styles import FLOOR, SOURCE, mode_styles
from morphobench.report.gradients.text import cost_comparison
from morphobench.report.measurements import circumstances, devices, families, family_title, frameworks
from morphobench.report.panels import add_legend, framework_handles, framework_style, label_rows, mark_device
from morphobench.report.results import RunResults
from morphobench.report.style import Absent, Drawing, LineStyle, log_axis, panels

__all__ = ["draw_gradient_memory", "draw_gradient_time"]


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
    drawn, styles = families(costs), mode_styles(results)
    rows = rows[rows["family"].isin(drawn)]
    figure, axes = panels(len(drawn), sharey=True)
    mark_device(figure, rows)
    for axis, family in zip(axes, drawn, strict=True):
        _family(axis, costs[costs["family"] == family], column, styles)
        axis.set(title=family_title(family), xlabel=label)
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
        f"{cost_comparison(results, column, 'unrolled')} {circumstances(rows, gradient_table(results))}"
    ).replace("  ", " ")
    alt = f"Line plots of error against {label}."
    return Drawing(name, f"{title} ({devices(rows)})", caption, alt, SOURCE, figure)


def _family(axis: Axes, costs: pd.DataFrame, column: str, styles: Mapping[str, LineStyle]) -> None:
    axis.set_xscale("log")
    axis.margins(x=0.18)  # room for the names of the settings
    for series, style in styles.items():
        for framework in frameworks(costs):
            rows = costs[(costs["series"] == series) & (costs["framework"] == framework)]
            if rows.empty:
                continue
            middle = (
                rows.assign(order=rows["value"].fillna(0)).groupby(["order", "setting"])[[column, "error"]].median()
            )
            x, y = middle[column].to_numpy(), middle["error"].clip(lower=FLOOR).to_numpy()
            first = framework == frameworks(costs)[0]
            drawn = framework_style(framework, style.colour)
            axis.plot(x, y, marker=style.marker, label=series if first else None, **drawn)
            if first and len(x) > 1 and rows["mode"].iloc[0] not in DIFFERENCES:
                last = float(middle.index.get_level_values("order")[-1 if rows["mode"].iloc[0] != "implicit" else 0])
                _name_tightest(axis, middle, column, last, style.colour, left=rows["mode"].iloc[0] == "implicit")


def _name_tightest(axis: Axes, middle: pd.DataFrame, column: str, value: float, colour: str, *, left: bool) -> None:
    """Write the tightest setting beside its mark; that of the implicit mode to the left, away from the others."""
    row = middle.xs(value, level="order").iloc[0]
    axis.annotate(
        power_label(value), (row[column], max(row["error"], FLOOR)), xytext=(-5 if left else 5, -2),
        textcoords="offset points", ha="right" if left else "left", va="top", fontsize=6.5, color=colour,
    )  # fmt: skip
