"""What the scores say: means with intervals, paired differences, rankings, and comparisons with known numbers.

Seeds are averaged first; data sets are the blocks. Nothing is called significant that the number of seeds cannot show.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from morphobench.contract import PRIMARY_METRIC
from morphobench.project.files import write_table
from morphobench.statistics.counterparts import compare_counterparts, counted_once
from morphobench.statistics.inference import bootstrap_interval, holm, seeds_needed, sign_flip_p
from morphobench.statistics.ranking import friedman, rank_methods

__all__ = [
    "check_published",
    "compare_methods",
    "compare_reference",
    "expected_numbers",
    "mean_scores",
    "paired_differences",
    "read_table",
    "run_tables",
]

ENTRY = ["method", "variant"]

MEANS = [
    *["dataset", "task", *ENTRY, "framework", "split", "metric", "primary", "seeds", "failed"],
    *["mean", "low", "high", "std", "minimum", "maximum", "interval"],
]
DIFFERENCES = [
    *["dataset", "task", *ENTRY, "baseline", "metric", "seeds", "difference", "low", "high", "interval"],
    *["comparisons", "seeds_needed", "p", "p_holm", "claim"],
]
PUBLISHED = [
    *["dataset", *ENTRY, "metric", "published", "tolerance", "found", "low", "high", "seeds"],
    *["difference", "within", "source"],
]
LARGEST_DRIFT = 3.0  # standard errors of a difference of means
REFERENCE = ["dataset", *ENTRY, "metric", "expected", "found", "tolerance", "drift"]
PUBLISHED_INPUT = ["dataset", "method", "metric", "value", "tolerance", "source"]
REFERENCE_INPUT = ["dataset", *ENTRY, "metric", "expected"]


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a CSV table; a missing or empty file gives an empty table with ``columns``.

    Raises
    ------
    ValueError
        If the file lacks one of ``columns``.
    """
    if not path.is_file() or path.stat().st_size == 0:
        return pd.DataFrame(columns=list(columns))
    # "NA", "None" or "null" may be the name of a method; only an empty field is missing
    table = pd.read_csv(path, keep_default_na=False, na_values=["", "nan", "NaN"])
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(f"{path}: columns {', '.join(missing)} are missing; found {', '.join(table.columns)}")
    return table


def run_tables(tables: Path, include: Sequence[str] = ()) -> list[Path]:
    """Return ``tables`` and the table folders of the runs ``include`` that lie beside its run."""
    return [tables, *(tables.parent.parent / name / "tables" for name in include)]


def merge_tables(folders: Sequence[Path], name: str, columns: Sequence[str], key: Sequence[str]) -> pd.DataFrame:
    """Concatenate one table of several runs; of rows with equal ``key`` in two runs those of the first run stay."""
    # the folder says which run it is: results that were copied under another name stay together
    parts = [read_table(folder / f"{name}.csv", columns).assign(run=folder.parent.name) for folder in folders]
    parts = [part for part in parts if len(part)]
    if not parts:
        return pd.DataFrame(columns=list(columns))
    table = pd.concat(parts, ignore_index=True)
    first = table.groupby(list(key), dropna=False)["run"].transform("first")
    return table[table["run"] == first].reset_index(drop=True)


SCORES = ["run", "dataset", "task", *ENTRY, "framework", "seed", "status", "split", "metric", "value"]
TRIALS = [
    *["run", "dataset", "task", *ENTRY, "family", "framework", "seed", "status", "message", "device", "threads"],
    *["fit_s", "predict_s", "compile_s", "peak_rss_mb", "peak_device_mb", "parameters", "epochs", "learning_rate"],
]
TRIAL_KEY = ["dataset", *ENTRY, "seed"]


def read_scores(tables: Path, include: Sequence[str] = ()) -> pd.DataFrame:
    """Scores of the run and of the included runs (see `merge_tables` on duplicates)."""
    return merge_tables(run_tables(tables, include), "scores", SCORES, TRIAL_KEY)


def read_trials(tables: Path, include: Sequence[str] = ()) -> pd.DataFrame:
    """Trials of the run and of the included runs (see `merge_tables` on duplicates)."""
    return merge_tables(run_tables(tables, include), "trials", TRIALS, TRIAL_KEY)


def _groups(table: pd.DataFrame, keys: list[str]) -> Iterator[tuple[tuple[str, ...], pd.DataFrame]]:
    """Groups of rows with equal ``keys``, sorted by them."""
    for key, group in table.groupby(keys, sort=True):
        yield tuple(str(part) for part in cast("tuple[Hashable, ...]", key)), group


def mean_scores(scores: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Mean over seeds of every data set, method, variant, split and metric, with its interval."""
    failed = scores[scores["status"] != "ok"].groupby(["dataset", *ENTRY])["seed"].nunique()
    rows: list[dict[str, Any]] = []
    scored = scores[(scores["status"] == "ok") & scores["value"].notna()]
    keys = ["dataset", "task", *ENTRY, "framework", "split", "metric"]
    for key, group in _groups(scored, keys):
        row: dict[str, Any] = dict(zip(keys, key, strict=True))
        values = group.sort_values("seed")["value"].to_numpy(float)
        interval = bootstrap_interval(values, level, "/".join(key))
        rows.append(
            row
            | {
                "primary": row["metric"] == PRIMARY_METRIC[row["task"]],
                "seeds": len(values),
                "failed": int(failed.get((row["dataset"], row["method"], row["variant"]), 0)),
                "mean": values.mean(),
                "low": interval.low,
                "high": interval.high,
                "std": values.std(ddof=1) if len(values) > 1 else math.nan,
                "minimum": values.min(),
                "maximum": values.max(),
                "interval": interval.reason,
            }
        )
    return pd.DataFrame(rows, columns=MEANS)


def primary_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Test scores of each task's primary metric; failed trials have an empty value."""
    wanted = scores["task"].map(PRIMARY_METRIC)
    table = scores[(scores["metric"] == wanted) & ((scores["split"] == "test") | (scores["status"] != "ok"))]
    return table.drop_duplicates([*TRIAL_KEY])


def parse_entry(name: str, scores: pd.DataFrame) -> tuple[str, str]:
    """Split ``method`` or ``method/variant``; a bare method means its variant "default", else its first one."""
    method, _, variant = name.partition("/")
    variants = sorted(scores.loc[scores["method"] == method, "variant"].unique())
    if not variant:
        variant = "default" if "default" in variants or not variants else variants[0]
    return method, variant


def paired_differences(
    scores: pd.DataFrame, baseline: str, alpha: float = 0.05, controls: Sequence[str] = ()
) -> pd.DataFrame:
    """Differences to ``baseline`` on the primary test metric, paired by seed.

    Parameters
    ----------
    scores : DataFrame
        The table ``scores``.
    baseline : str
        ``method`` or ``method/variant``.
    alpha : float
        Family-wise error of the comparisons within one data set; the intervals have level 1 - alpha.
    controls : sequence of str
        Methods that get a difference but are not part of the family of tests.
    """
    base = parse_entry(baseline, scores)
    rows: list[dict[str, Any]] = []
    primary = primary_scores(scores)
    for dataset, group in primary[primary["status"] == "ok"].groupby("dataset", sort=True):
        by_entry = {key: part.set_index("seed")["value"] for key, part in _groups(group, ENTRY)}
        if base not in by_entry:
            continue
        family: list[dict[str, Any]] = []
        tested = [key for key in by_entry if key != base and key[0] not in controls]
        for key, values in by_entry.items():
            if key == base:
                continue
            paired = (values - by_entry[base]).dropna().sort_index().to_numpy(float)
            row = {"dataset": dataset, "task": group["task"].iloc[0], "method": key[0], "variant": key[1]}
            row |= {"baseline": "/".join(base), "metric": group["metric"].iloc[0]}
            row |= _difference(paired, alpha, len(tested) if key in tested else 0, f"{dataset}/{'/'.join(key)}")
            family.append(row)
        _claim(family, alpha)
        rows += family
    return pd.DataFrame(rows, columns=DIFFERENCES)


def _difference(paired: np.ndarray, alpha: float, comparisons: int, name: str) -> dict[str, Any]:
    interval = bootstrap_interval(paired, 1 - alpha, name)
    needed = seeds_needed(comparisons, alpha) if comparisons else math.nan
    enough = comparisons > 0 and len(paired) >= needed
    return {
        "seeds": len(paired),
        "difference": paired.mean() if len(paired) else math.nan,
        "low": interval.low,
        "high": interval.high,
        "interval": interval.reason,
        "comparisons": comparisons,
        "seeds_needed": needed,
        "p": sign_flip_p(paired, name) if enough else math.nan,
    }


def _claim(family: list[dict[str, Any]], alpha: float) -> None:
    """Add ``p_holm`` and ``claim`` to the rows of one data set."""
    tested = [row for row in family if row["comparisons"]]
    for row, p in zip(tested, holm([row["p"] for row in tested]), strict=True):
        row["p_holm"] = p
        if math.isnan(p):
            row["claim"] = f"not tested: {row['seeds']} of {row['seeds_needed']} seeds"
        elif p <= alpha:
            row["claim"] = "higher" if row["difference"] > 0 else "lower"
        else:
            row["claim"] = "none"
    for row in family:
        if not row["comparisons"]:
            row |= {"p_holm": math.nan, "claim": "not tested: control"}


def compare_methods(
    tables: Path, out: Path, config: Mapping[str, Any], counterparts: Mapping[str, str] | None = None
) -> None:
    """Write ``means``, ``differences``, ``ranking``, ``friedman`` and ``counterparts`` (CSV and Parquet) into ``out``.

    Parameters
    ----------
    tables : Path
        Folder of ``scores.csv`` and ``trials.csv``; the runs of ``report.include`` lie beside its run.
    config : mapping
        The resolved configuration; ``statistics.baseline`` and ``statistics.alpha`` are read.
    counterparts : mapping
        Method -> the same network in another framework; where both were run, the first has no rank and no test.
    """
    settings = config.get("statistics", {})
    include = config.get("report", {}).get("include", [])
    alpha = float(settings.get("alpha", 0.05))
    scores, trials = read_scores(tables, include), read_trials(tables, include)
    controls = sorted(trials.loc[trials["family"] == "control", "method"].unique())
    write_table(out / "means", mean_scores(scores, 1 - alpha))
    baseline = settings.get("baseline")
    write_table(out / "counterparts", compare_counterparts(scores, trials, counterparts or {}, alpha))
    scores = counted_once(scores, counterparts or {}, baseline)
    primary = primary_scores(scores)
    differences = (
        paired_differences(scores, baseline, alpha, controls) if baseline else pd.DataFrame(columns=DIFFERENCES)
    )
    write_table(out / "differences", differences)
    write_table(out / "ranking", rank_methods(primary, controls))
    write_table(out / "friedman", friedman(primary, controls))


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
