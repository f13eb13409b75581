"""Scores on corrupted test images: means over seeds, and how much each corruption takes away."""

from __future__ import annotations

from typing import Any

import pandas as pd

from morphobench.evaluation.robustness import COLUMNS
from morphobench.report.results import RunResults

__all__ = ["NOISES", "TITLES", "Loss", "corrupted_means", "losses", "robustness_table"]

TITLES = {
    "salt-and-pepper": "salt and pepper",
    "gaussian-noise": "Gaussian noise",
    "blur": "blur",
    "contrast": "low contrast",
}
NOISES = {"uniform-noise": "uniform noise", "normal-noise": "normal noise"}

Loss = dict[str, Any]


def robustness_table(results: RunResults) -> pd.DataFrame:
    """One row a seed, corruption and severity; without rows if no image was corrupted."""
    return results.tables.get("robustness", pd.DataFrame(columns=COLUMNS))


def corrupted_means(results: RunResults) -> pd.DataFrame:
    """Mean, smallest and largest value over seeds by data set, method, variant, corruption and severity; controls left out."""
    table = robustness_table(results)
    table = table[table["status"] == "ok"].astype({"value": "float64", "severity": "int64", "strength": "float64"})
    keys = ["dataset", "method", "variant", "corruption", "severity", "strength"]
    found = table.groupby(keys)["value"].agg(["mean", "min", "max", "count"]).reset_index()
    controls = {entry.method for entry in results.entries if results.is_control(entry)}
    return found[~found["method"].isin(controls)]


def losses(results: RunResults) -> list[Loss]:
    """Clean score, and mean loss over severities by corruption, by noise, and over all corruptions, one a data set and entry."""
    means = corrupted_means(results)
    found: list[Loss] = []
    for (dataset, method, variant), rows in means.groupby(["dataset", "method", "variant"], sort=False):
        clean = float(rows.loc[rows["severity"] == 0, "mean"].iloc[0])
        by_name = {str(name): clean - float(group.mean()) for name, group in rows.groupby("corruption")["mean"]}
        corruptions = [by_name[name] for name in TITLES if name in by_name]
        if corruptions:
            entry = {"dataset": dataset, "method": method, "variant": variant, "clean": clean}
            found.append({**entry, **by_name, "all": sum(corruptions) / len(corruptions)})
    order = {name: place for place, name in enumerate(results.dataset_names)}
    return sorted(found, key=lambda loss: (order[loss["dataset"]], loss["all"]))
