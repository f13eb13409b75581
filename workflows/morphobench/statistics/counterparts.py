"""Methods that are the same network in two frameworks: how far their trials differ, in score and in time."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from morphobench.statistics.inference import bootstrap_interval
from morphobench.statistics.tables import primary_scores

__all__ = ["COUNTERPARTS", "compare_counterparts", "counted_once", "read_counterparts"]

COUNTERPARTS = [
    *["dataset", "task", "method", "variant", "framework", "counterpart", "counterpart_framework", "metric", "seeds"],
    *["difference", "low", "high", "interval", "fit_s", "counterpart_fit_s", "fit_ratio", "predict_ratio", "compile_s"],
]


def read_counterparts(folders: Iterable[Path]) -> dict[str, str]:
    """Return the counterpart of each method that has one, from the manifests (``<method>.json``) of check-plugin."""
    found: dict[str, str] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.json")):
            manifest = json.loads(path.read_text(encoding="utf-8"))
            if manifest.get("counterpart"):
                found.setdefault(manifest["name"], manifest["counterpart"])
    return found


def counted_once(scores: pd.DataFrame, counterparts: Mapping[str, str], baseline: str | None) -> pd.DataFrame:
    """Leave out the scores of methods whose counterpart was run as well: one network counts once in ranks and tests.

    The method of ``baseline`` (``method`` or ``method/variant``) stays whatever it is.
    """
    there = set(scores["method"])
    kept = (baseline or "").split("/")[0]
    twice = [method for method, other in counterparts.items() if other in there and method != kept]
    return scores[~scores["method"].isin(twice)]


def compare_counterparts(
    scores: pd.DataFrame, trials: pd.DataFrame, counterparts: Mapping[str, str], alpha: float = 0.05
) -> pd.DataFrame:
    """Compare each method with its counterpart on the primary test metric, in training and in prediction time.

    Parameters
    ----------
    scores, trials : DataFrame
        The tables of these names.
    counterparts : mapping
        Method -> the same network in another framework.
    alpha : float
        The intervals of the differences have level 1 - alpha.

    Returns
    -------
    DataFrame
        One row a data set and variant that both have scores on; differences are paired by seed, ratios (method over
        counterpart) are medians over these pairs, ``fit_s`` medians, ``compile_s`` the largest.
    """
    primary = primary_scores(scores)
    primary = primary[primary["status"] == "ok"]
    key = ["dataset", "variant", "seed"]
    table = primary.merge(trials[[*key, "method", "fit_s", "predict_s", "compile_s"]], on=[*key, "method"])
    rows: list[dict[str, Any]] = []
    for method, other in sorted(counterparts.items()):
        pairs = table[table["method"] == method].merge(
            table[table["method"] == other], on=[*key, "task", "metric"], suffixes=("", "_other")
        )
        for (dataset, variant), group in pairs.groupby(["dataset", "variant"], sort=True):
            row = {"dataset": dataset, "method": method, "variant": variant, "counterpart": other}
            rows.append(row | _compare(group.sort_values("seed"), alpha, f"{dataset}/{method}/{variant}"))
    return pd.DataFrame(rows, columns=COUNTERPARTS)


def _compare(pairs: pd.DataFrame, alpha: float, name: str) -> dict[str, Any]:
    difference = (pairs["value"] - pairs["value_other"]).to_numpy(float)
    interval = bootstrap_interval(difference, 1 - alpha, name)
    numbers = {column: pd.to_numeric(pairs[column]) for column in pairs.columns if "_s" in column}
    compiled = numbers["compile_s"].max()
    return {
        "task": pairs["task"].iloc[0],
        "metric": pairs["metric"].iloc[0],
        "framework": pairs["framework"].iloc[0],
        "counterpart_framework": pairs["framework_other"].iloc[0],
        "seeds": len(pairs),
        "difference": difference.mean(),
        "low": interval.low,
        "high": interval.high,
        "interval": interval.reason,
        "fit_s": numbers["fit_s"].median(),
        "counterpart_fit_s": numbers["fit_s_other"].median(),
        "fit_ratio": (numbers["fit_s"] / numbers["fit_s_other"]).median(),
        "predict_ratio": (numbers["predict_s"] / numbers["predict_s_other"]).median(),
        "compile_s": math.nan if pd.isna(compiled) else float(compiled),
    }
