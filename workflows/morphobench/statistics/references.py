"""Scores beside numbers that are known: published ones, and the committed ones of a run of the same name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from morphobench.project.errors import UserError
from morphobench.project.files import write_table
from morphobench.statistics.comparisons import mean_scores
from morphobench.statistics.tables import ENTRY, read_scores, read_table

__all__ = ["PUBLISHED", "REFERENCE", "check_published", "compare_reference", "expected_numbers"]

PUBLISHED = [
    *["dataset", *ENTRY, "metric", "published", "lowest", "highest", "tolerance", "found", "low", "high", "seeds"],
    *["beyond", "within", "source"],
]
LARGEST_DRIFT = 3.0  # standard errors of a difference of means
REFERENCE = ["dataset", *ENTRY, "metric", "expected", "found", "tolerance", "drift"]
PUBLISHED_INPUT = ["dataset", "method", "metric", "value", "deviation", "tolerance", "reference", "source"]
REFERENCE_INPUT = ["dataset", *ENTRY, "metric", "expected"]


def check_published(tables: Path, datasets: Path, out: Path) -> None:
    """Compare test means with ``datasets/*/published.csv`` and write ``published`` into the folder ``out``.

    A score may have several references, one a row of these files. Their spread reaches from the lowest to the highest value, each
    less and plus the standard deviation that was published with it, if any; ``beyond`` is how far the mean found lies above (+) or
    below (-) it, 0 inside, and ``within`` whether that is within the tolerance. Scores whose trials did not run are left out.

    Raises
    ------
    UserError
        If a reference stands twice at a score, or a number is none.
    """
    means = mean_scores(read_scores(tables))
    keys = ["dataset", *ENTRY, "metric"]
    found = {tuple(row[key] for key in keys): row for row in means[means["split"] == "test"].to_dict("records")}
    rows: list[dict[str, Any]] = []
    for path in sorted(datasets.glob("[!_.]*/published.csv")):
        for key, references in _published_values(path).groupby(keys, sort=False):
            if key in found:
                rows.append(dict(zip(keys, key, strict=True)) | _beside(found[key], references))
    write_table(out / "published", pd.DataFrame(rows, columns=PUBLISHED))


def _published_values(path: Path) -> pd.DataFrame:
    """Read one file of published values: a row a reference, deviation 0 where none was published."""
    table = read_table(path, PUBLISHED_INPUT)
    variant = table["variant"].fillna("default") if "variant" in table else "default"
    table = table.assign(variant=variant, deviation=table["deviation"].fillna(0.0))
    for column in ("value", "deviation", "tolerance"):
        table[column] = pd.to_numeric(table[column], errors="coerce")
        if not np.isfinite(table[column]).all():
            line = int((~np.isfinite(table[column])).to_numpy().argmax()) + 2
            raise UserError(f"{path}, line {line}: column {column}: expected a finite number")
    twice = table.duplicated(["dataset", *ENTRY, "metric", "reference"])
    if twice.any():
        row = table[twice].iloc[0]
        raise UserError(
            f"{path}: {row['reference']} stands twice at {row['metric']} of {row['method']} on {row['dataset']}"
        )
    return table


def _beside(found: Mapping[Any, Any], references: pd.DataFrame) -> dict[str, Any]:
    """Return how a mean lies to the spread of its references, each of them named."""
    lowest = float((references["value"] - references["deviation"]).min())
    highest = float((references["value"] + references["deviation"]).max())
    mean, tolerance = float(found["mean"]), float(references["tolerance"].max())
    beyond = round(max(mean - highest, 0.0) + min(mean - lowest, 0.0), 12)  # equal numbers differ in their last digit
    named = [
        f"{row['reference']}: {row['value']:g}" + (f" ± {row['deviation']:g}" if row["deviation"] else "")
        for row in references.to_dict("records")
    ]
    return (
        {"published": "; ".join(named), "lowest": lowest, "highest": highest, "tolerance": tolerance}
        | {"found": mean, "low": found["low"], "high": found["high"], "seeds": found["seeds"]}
        | {"beyond": beyond, "within": bool(abs(beyond) <= tolerance)}
        | {"source": "; ".join(references["source"])}
    )


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
