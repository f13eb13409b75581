"""Table of paired differences to the baseline."""

from __future__ import annotations

import math

from morphobench.report.formatting import interval, metric_title, signed
from morphobench.report.results import RunResults, entry_of
from morphobench.report.table import Cell, ReportTable, number_cell, row_link

__all__ = ["differences", "tables"]


def tables(results: RunResults) -> list[ReportTable]:
    """Return the differences."""
    return [differences(results)]


def differences(results: RunResults) -> ReportTable:
    """Paired differences to the baseline, in the order of the data sets and methods."""
    datasets, entries = results.dataset_names, results.entries
    found = list(enumerate(results.differences.to_dict("records")))
    rows = []
    for position, row in sorted(found, key=lambda f: (datasets.index(f[1]["dataset"]), entries.index(entry_of(f[1])))):
        low, high, metric = row["low"], row["high"], row["metric"]
        kind = "" if math.isnan(low) else "higher" if low > 0 else "lower" if high < 0 else ""
        bounds = interval(low, high, metric, difference=True) or f"({row['interval']})"
        rows.append(
            [
                Cell(results.dataset_title(row["dataset"])),
                Cell(results.title(entry_of(row))),
                Cell(metric_title(metric)),
                Cell(signed(row["difference"], metric), float(row["difference"]), kind, detail=bounds),
                Cell(str(row["seeds"]), int(row["seeds"])),
                number_cell(row["p_holm"], lambda p: f"{p:.3g}"),
                Cell(str(row["claim"])),
                row_link("differences.csv", position),
            ]
        )
    columns = ["Data set", "Method", "Metric", "Difference", "Pairs", "p (Holm)", "Claim", "Source"]
    baseline = results.title(results.baseline) if results.baseline else "no baseline"
    caption = (
        f"Test score minus that of “{baseline}”, paired by seed [interval]; coloured where the interval excludes zero"
    )
    return ReportTable("differences", caption, columns, rows, "differences.csv", frozenset({3, 4, 5}))
