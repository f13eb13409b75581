"""What the scores say of the methods: means with intervals, paired differences, rankings.

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
from morphobench.statistics.tables import ENTRY, parse_entry, primary_scores, read_scores, read_trials

__all__ = ["DIFFERENCES", "MEANS", "compare_methods", "mean_scores", "paired_differences"]

MEANS = [
    *["dataset", "task", *ENTRY, "framework", "split", "metric", "primary", "seeds", "failed"],
    *["mean", "low", "high", "std", "minimum", "maximum", "interval"],
]
DIFFERENCES = [
    *["dataset", "task", *ENTRY, "baseline", "metric", "seeds", "difference", "low", "high", "interval"],
    *["comparisons", "seeds_needed", "p", "p_holm", "claim"],
]


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
