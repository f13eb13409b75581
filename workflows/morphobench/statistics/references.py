"""Scores beside numbers that are known: published ones, and the committed ones of a run of the same name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from morphobench.project.files import write_table
from morphobench.statistics.comparisons import mean_scores
from morphobench.statistics.tables import ENTRY, read_scores, read_table

__all__ = ["PUBLISHED", "REFERENCE", "check_published", "compare_reference", "expected_numbers"]

PUBLISHED = [
    *["dataset", *ENTRY, "metric", "published", "tolerance", "found", "low", "high", "seeds"],
    *["difference", "within", "source"],
]
LARGEST_DRIFT = 3.0  # standard errors of a difference of means
REFERENCE = ["dataset", *ENTRY, "metric", "expected", "found", "tolerance", "drift"]
PUBLISHED_INPUT = ["dataset", "method", "metric", "value", "tolerance", "source"]
REFERENCE_INPUT = ["dataset", *ENTRY, "metric", "expected"]


def check_published(tables: Path, datasets: Path, out: Path) -> None:
    """Compare test means with ``datasets/*/published.csv`` and write ``published`` into the folder ``out``.

    Rows of published values whose trials did not run are left out.
    """
    means = mean_scores(read_scores(tables))
    keys = ["dataset", *ENTRY, "metric"]
    found_by_key = {tuple(row[key] for key in keys): row for row in means[means["split"] == "test"].to_dict("records")}
    rows: list[dict[str, Any]] = []
    for path in sorted(datasets.glob("[!_.]*/published.csv")):
        for row in read_table(path, PUBLISHED_INPUT).to_dict("records"):
            variant = row.get("variant", "default")
            key = (row["dataset"], row["method"], variant if isinstance(variant, str) else "default", row["metric"])
            if key not in found_by_key:
                continue
            found = found_by_key[key]
            difference = found["mean"] - row["value"]
            rows.append(
                dict(zip(keys, key, strict=True))
                | {"published": row["value"], "tolerance": row["tolerance"], "found": found["mean"]}
                | {"low": found["low"], "high": found["high"], "seeds": found["seeds"]}
                | {"difference": difference, "within": bool(abs(difference) <= row["tolerance"])}
                | {"source": row["source"]}
            )
    write_table(out / "published", pd.DataFrame(rows, columns=PUBLISHED))


def expected_numbers(tables: Path) -> pd.DataFrame:
    """Test means in the form of a reference file: dataset, method, variant, metric, expected."""
    means = _test_values(tables).mean()
    return means.dropna().rename("expected").reset_index()[REFERENCE_INPUT]


def _test_values(tables: Path) -> Any:
    """Test values of the seeds that succeeded, by data set, entry and metric."""
    scores = read_scores(tables)
    scores = scores[(scores["status"] == "ok") & (scores["split"] == "test")]
    return scores.groupby(["dataset", *ENTRY, "metric"], sort=True)["value"]


def compare_reference(tables: Path, reference: Path, out: Path, tolerances: Mapping[str, float]) -> pd.DataFrame:
    """Compare test means with a reference file, write ``reference`` into the folder ``out`` and return it.

    Parameters
    ----------
    reference : Path
        CSV with the columns dataset, method, variant, metric, expected; no file means nothing to compare.
    tolerances : mapping
        Metric -> largest absolute difference; metrics that are not named are not compared. It is widened to `LARGEST_DRIFT`
        standard errors of the difference of two means over as many seeds: training amplifies rounding, so that on another
        processor a seed gives another draw. A number that is expected and not found is drift.
    """
    values = _test_values(tables)
    error = values.std() * np.sqrt(2 / values.count())
    found = pd.DataFrame({"found": values.mean(), "error": error}).reset_index()
    table = read_table(reference, REFERENCE_INPUT)[REFERENCE_INPUT]
    table = table[table["metric"].isin(list(tolerances))].merge(found, on=REFERENCE_INPUT[:-1], how="left")
    errors = table["error"].astype(float).fillna(0.0)
    limit = np.maximum(table["metric"].map(dict(tolerances)).astype(float), LARGEST_DRIFT * errors)
    # an equal number may come back from CSV with another last digit
    difference = (table["found"].astype(float) - table["expected"].astype(float)).abs()
    table = table.assign(tolerance=limit, drift=~(difference <= limit + 1e-12))[REFERENCE]
    write_table(out / "reference", table)
    return table
