"""Tables that compare a run with published values and with the committed numbers of an earlier run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from morphobench.report.formatting import interval, metric_title, score, signed
from morphobench.report.results import RunResults, entry_of
from morphobench.report.table import Cell, ReportTable, number_cell

__all__ = ["published", "reference", "tables", "verdict"]


def tables(results: RunResults) -> list[ReportTable]:
    """Return the comparisons with published values and with the committed numbers."""
    return [published(results), reference(results)]


def published(results: RunResults) -> ReportTable:
    """Test means beside the spread of the values that others have published."""
    rows = []
    for row in results.published.to_dict("records"):
        metric = row["metric"]
        rows.append(
            [
                Cell(results.dataset_title(row["dataset"])),
                Cell(results.title(entry_of(row))),
                Cell(metric_title(metric)),
                Cell(str(row["published"]), row["lowest"]),
                Cell(
                    f"{score(row['found'], metric)} {interval(row['low'], row['high'], metric)}".strip(), row["found"]
                ),
                Cell(signed(row["beyond"], metric), row["beyond"]),
                Cell(f"{row['tolerance']:g}", row["tolerance"]),
                Cell(verdict(row), kind="ok" if row["within"] else "failed"),
                Cell(str(row["source"])),
            ]
        )
    columns = ["Data set", "Method", "Metric", "Published", "Found", "Beyond", "Tolerance", "Verdict", "Published in"]
    caption = (
        "Test means of this run beside the spread of published values: from the lowest to the highest, each less and plus the "
        "standard deviation it was published with"
    )
    return ReportTable("published", caption, columns, rows, "published.csv", frozenset({4, 5, 6}))


def verdict(row: Mapping[Any, Any]) -> str:
    """Say whether a mean lies within the spread of published values, or by how much not.

    Examples
    --------
    >>> verdict({"beyond": 0.0, "within": True, "metric": "auc"})
    'within the spread of published values'
    >>> verdict({"beyond": -0.0123, "within": True, "metric": "auc"})
    '0.0123 below the spread of published values, within the tolerance'
    >>> verdict({"beyond": 0.05, "within": False, "metric": "auc"})
    '0.0500 above the spread of published values'
    """
    if row["beyond"] == 0:
        return "within the spread of published values"
    side = "above" if row["beyond"] > 0 else "below"
    distance = signed(abs(row["beyond"]), row["metric"]).lstrip("+")
    return f"{distance} {side} the spread of published values" + ", within the tolerance" * bool(row["within"])


def reference(results: RunResults) -> ReportTable:
    """Test means beside the committed numbers of an earlier run."""
    rows = []
    for row in results.reference.to_dict("records"):
        metric, drift = row["metric"], bool(row["drift"])
        rows.append(
            [
                Cell(results.dataset_title(row["dataset"])),
                Cell(results.title(entry_of(row))),
                Cell(metric_title(metric)),
                Cell(score(row["expected"], metric), row["expected"]),
                number_cell(row["found"], lambda value, metric=metric: score(value, metric)),  # type: ignore[misc]
                Cell(f"{row['tolerance']:g}", row["tolerance"]),
                Cell("drift" if drift else "within", kind="failed" if drift else "ok"),
            ]
        )
    columns = ["Data set", "Method", "Metric", "Expected", "Found", "Tolerance", "Verdict"]
    caption = "Test means of this run beside the committed numbers (results/reference)"
    return ReportTable("reference", caption, columns, rows, "reference.csv", frozenset({3, 4, 5}))
