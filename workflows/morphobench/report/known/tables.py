"""Tables that compare a run with published values and with the committed numbers of an earlier run."""

from __future__ import annotations

from morphobench.report.formatting import interval, metric_title, score, signed
from morphobench.report.results import RunResults, entry_of
from morphobench.report.table import Cell, ReportTable, number_cell

__all__ = ["published", "reference", "tables"]


def tables(results: RunResults) -> list[ReportTable]:
    """Return the comparisons with published values and with the committed numbers."""
    return [published(results), reference(results)]


def published(results: RunResults) -> ReportTable:
    """Test means beside published values."""
    rows = []
    for row in results.published.to_dict("records"):
        metric, within = row["metric"], bool(row["within"])
        rows.append(
            [
                Cell(results.dataset_title(row["dataset"])),
                Cell(results.title(entry_of(row))),
                Cell(metric_title(metric)),
                Cell(score(row["published"], metric), row["published"]),
                Cell(
                    f"{score(row['found'], metric)} {interval(row['low'], row['high'], metric)}".strip(), row["found"]
                ),
                Cell(signed(row["difference"], metric), row["difference"]),
                Cell(f"{row['tolerance']:g}", row["tolerance"]),
                Cell("within" if within else "outside", kind="ok" if within else "failed"),
                Cell(str(row["source"])),
            ]
        )
    columns = ["Data set", "Method", "Metric", "Published", "Found", "Difference", "Tolerance", "Verdict"]
    columns.append("Published in")
    caption = "Test means of this run minus published values"
    return ReportTable("published", caption, columns, rows, "published.csv", frozenset({3, 4, 5, 6}))


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
