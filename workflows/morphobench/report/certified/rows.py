"""Certified, attacked and clean accuracy: means over seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from morphobench.evaluation.certification import COLUMNS
from morphobench.report.results import RunResults

__all__ = ["KINDS", "certified_means", "certified_table", "faults", "untried"]

KINDS = ("clean", "certified", "attacked")


def certified_table(results: RunResults) -> pd.DataFrame:
    """One row a seed and epsilon; without rows if no model was tried."""
    return results.tables.get("certified", pd.DataFrame(columns=COLUMNS))


def faults(results: RunResults) -> pd.DataFrame:
    """Rows of proofs that do not hold."""
    table = certified_table(results)
    return table[(table["status"] == "error") & table["epsilon"].notna()]


def untried(results: RunResults) -> pd.DataFrame:
    """One row for each method and data set with a seed whose model was not to be had."""
    table = certified_table(results)
    return table[(table["status"] != "ok") & table["epsilon"].isna()].drop_duplicates(["dataset", "method", "variant"])


def certified_means(results: RunResults) -> pd.DataFrame:
    """Mean, smallest and largest share over seeds, by data set, method, variant and epsilon.

    Columns: these, ``seeds``, ``proofs_attacked`` (sum), and for each of `KINDS` the mean and ``_min``, ``_max``. A method with a
    false proof is left out: none of its proofs is worth anything.
    """
    table = certified_table(results)
    wrong = set(faults(results)[["method", "variant"]].itertuples(index=False, name=None))
    table = table[table["epsilon"].notna()]
    table = table[
        np.array([pair not in wrong for pair in zip(table["method"], table["variant"], strict=True)], dtype=bool)
    ]
    numbers = dict.fromkeys(["epsilon", *KINDS, "proofs_attacked", "images"], "float64")
    groups = table.astype(numbers).groupby(["dataset", "method", "variant", "epsilon"], sort=False)
    parts = {
        "seeds": groups["seed"].nunique(),
        "proofs_attacked": groups["proofs_attacked"].sum(),
        "images": groups["images"].max(),
    }
    for kind in KINDS:
        parts |= {kind: groups[kind].mean(), f"{kind}_min": groups[kind].min(), f"{kind}_max": groups[kind].max()}
    return pd.DataFrame(parts).reset_index()
