"""Rows of operator recovery: runs, what the operators are called, and how often each recovered the element."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from morphobench.report.formatting import in_order
from morphobench.report.measurements import measured
from morphobench.report.results import RunResults
from morphobench.studies.recovery.study import COLUMN_TYPES

__all__ = ["CASE", "operator_names", "operator_title", "recovery_runs", "recovery_table", "success_counts"]

CASE = ["source", "operation", "element", "initialisation"]
# In this order in figures and tables; operators of other plugins follow by name.
OPERATOR_TITLES = {
    "max-plus": "max-plus",
    "smorph": "SMorph",
    "lmorph": "LMorph",
    "smorph-annealed": "SMorph, annealed",
    "variational-learned": "variational, level learned",
    "variational-annealed": "variational, level annealed",
}


def recovery_table(results: RunResults) -> pd.DataFrame:
    """Rows of the study, also of cells that failed."""
    return results.study("recovery", COLUMN_TYPES)


def operator_title(operator: str) -> str:
    """Title of an operator of the study."""
    return OPERATOR_TITLES.get(operator, operator)


def recovery_runs(results: RunResults) -> pd.DataFrame:
    """Rows of the runs that ended, one a seed; ``place`` is where `recovery_functions.npz` keeps what it learned."""
    runs = measured(recovery_table(results))
    return runs.assign(place=runs.groupby(["cell", "operator"], sort=False).cumcount())


def operator_names(runs: pd.DataFrame) -> list[str]:
    """The operators of the table in their order."""
    return in_order(runs["operator"], OPERATOR_TITLES)


def success_counts(runs: pd.DataFrame, keys: Sequence[str]) -> dict[tuple[str, ...], tuple[int, int]]:
    """Number of successes and of runs by ``keys``."""
    found = runs.groupby(list(keys), sort=False)["success"].agg(["sum", "count"])
    return {
        tuple(str(part) for part in (key if isinstance(key, tuple) else (key,))): (int(good), int(tried))
        for key, good, tried in found.itertuples()
    }
