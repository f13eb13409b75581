"""Tables of operator recovery: all cases, and the form in which they are committed."""

from __future__ import annotations

import pandas as pd

from morphobench.report.measurements import failed_cells
from morphobench.report.recovery.rows import CASE, operator_names, operator_title, recovery_runs, recovery_table
from morphobench.report.results import RunResults
from morphobench.report.table import Cell, ReportTable, number_cell
from morphobench.statistics.inference import proportion_interval

__all__ = ["expected", "recovered_elements", "recovery", "tables"]


def tables(results: RunResults) -> list[ReportTable]:
    """Return all cases, and the cells without a measurement."""
    return [recovery(results), failed_cells(recovery_table(results), "recovery-failures", "recovery.csv")]


def expected(results: RunResults) -> dict[str, pd.DataFrame]:
    """Return what is committed: how often each element was recovered."""
    return {"elements": recovered_elements(results)}


def recovery(results: RunResults) -> ReportTable:
    """Every case: how often it was recovered, the errors, the steps it took, how much of the window received gradient."""
    runs = recovery_runs(results)
    rows = []
    order = {name: place for place, name in enumerate(operator_names(runs))}
    for key, group in runs.groupby([*CASE, "operator"], sort=False):
        good, tried = int(group["success"].sum()), len(group)
        low, high = proportion_interval(good, tried, results.level)
        source, operation, element, start, operator = map(str, key)
        rows.append(
            [
                Cell(operation),
                Cell(element),
                Cell(source),
                Cell(start),
                Cell(operator_title(operator), order[operator]),
                Cell(f"{good} of {tried}", good / tried, detail=f"[{low:.2f}, {high:.2f}]"),
                *(
                    number_cell(group[name].mean(), lambda value: f"{value:.3f}")
                    for name in ("element_error", "dice", "depth_error", "output_error")
                ),
                number_cell(group["steps_to_success"].median()),
                number_cell(group["gradient_share"].mean(), lambda share: f"{100 * share:.0f} %"),
                number_cell(group["learning_rate"].iloc[0]),
            ]
        )
    columns = [
        *("Operation", "Element", "Images", "Start", "Operator", "Recovered", "Element error", "Dice", "Depth error"),
        *("Output error", "Steps to success", "Window with gradient", "Learning rate"),
    ]
    caption = (
        "Operator recovery: runs whose element was right at the end (score interval below), means over seeds of the errors, "
        "median over the seeds that succeeded of the first step at which the element was right"
    )
    return ReportTable("recovery", caption, columns, rows, "recovery.csv", frozenset(range(5, len(columns))))


def recovered_elements(results: RunResults) -> pd.DataFrame:
    """Every case and operator in the form of a committed table: how many of how many runs recovered the element, and how."""
    groups = recovery_runs(results).groupby([*CASE, "operator", "learning_rate", "steps"], sort=False)
    found = groups.agg(
        recovered=("success", "sum"),
        runs=("success", "size"),
        element_error=("element_error", "mean"),
        valid_error=("valid_error", "mean"),
        output_error=("output_error", "mean"),
        steps_to_success=("steps_to_success", "median"),
        gradient_share=("gradient_share", "mean"),
    )
    return found.reset_index().round(4).astype({"steps": int, "recovered": int})
