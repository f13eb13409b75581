"""Which rows of the gradient study say something about a derivative, and what they are called."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from morphobench.report.formatting import in_order, power_label
from morphobench.report.measurements import backend_title, measured
from morphobench.report.results import RunResults
from morphobench.studies.gradients.study import COLUMN_TYPES

__all__ = [
    "DIFFERENCES",
    "MODE_TITLES",
    "PARAMETER_TITLES",
    "clean_gradients",
    "gradient_table",
    "instance_costs",
    "kink_series",
    "mode_rows",
    "parameter_title",
    "parameters",
    "precise",
    "series_title",
    "setting_text",
]

PARAMETER_TITLES = {
    "x": "image x",
    "bias": "structuring function b",
    "weight": "weight w",
    "logit_level": "logit of the level τ",
    "coupling": "coupling λ",
    "ridge": "ridge",
    "edge_smoothing": "edge smoothing μ",
    "marker": "marker",
    "mask": "mask",
    "logit_levels": "logits of the levels",
    "eta": "coupling η",
}
MODE_TITLES = {
    "implicit": "implicit",
    "one-step": "one step",
    "unrolled": "unrolled",
    "truncated": "truncated",
    "neumann": "Neumann series",
    "finite-differences": "finite differences",
    "richardson": "Richardson's extrapolation",
    "own": "the operator's own",
}
DIFFERENCES = ("finite-differences", "richardson")
ITERATED = ("one-step", "unrolled", "truncated")  # their setting begins with the algorithm
ALGORITHMS = {"newton": "Newton"}


def series_title(mode: str, setting: str, backend: str = "") -> str:
    """Name of the series a row belongs to: the mode and its algorithm, without the number that is swept.

    Examples
    --------
    >>> series_title("unrolled", "gradient-descent 5"), series_title("implicit", "1e-06", "cpu")
    ('unrolled, gradient descent', 'implicit, compiled kernel')
    >>> series_title("implicit", "forward 1e-04"), series_title("finite-differences", "h=1e-03")
    ('implicit', 'finite differences')
    """
    word = re.match(r"[a-z]+(-[a-z]+)*", setting) if mode in ITERATED else None
    algorithm = ALGORITHMS.get(word.group(), word.group().replace("-", " ")) if word else ""
    kernel = backend_title(backend) if mode == "implicit" else ""
    return ", ".join(filter(None, (MODE_TITLES.get(mode, mode), algorithm, kernel)))


def kink_series(mode: str, setting: str, backend: str) -> str:
    """Name of the series of a row at a kink; one of mode "hull" names the mode that it tests in its setting.

    Examples
    --------
    >>> kink_series("hull", "one-step newton", "tensor"), kink_series("implicit", "kernels", "cpu")
    ('one step, Newton', 'implicit, compiled kernel')
    """
    if mode != "hull":
        return series_title(mode, setting, backend)
    tested = next((name for name in MODE_TITLES if setting.startswith(name)), "implicit")
    return series_title(tested, setting.removeprefix(tested).strip(" -"), backend)


def setting_text(row: Any) -> str:
    """What a row adds to the name of its series: tolerance, iterations or step.

    Examples
    --------
    >>> setting_text({"mode": "unrolled", "setting": "newton 8", "value": 8.0, "forward_tolerance": float("nan")})
    '8'
    """
    if row["forward_tolerance"] == row["forward_tolerance"]:
        return f"forward {power_label(row['forward_tolerance'])}"
    return power_label(row["value"]) if row["value"] > 0 else ""


def gradient_table(results: RunResults) -> pd.DataFrame:
    """Rows of the study, also of cells that failed."""
    return results.study("gradients", COLUMN_TYPES)


def mode_rows(results: RunResults) -> pd.DataFrame:
    """Rows of measured gradients with their columns ``series`` and ``error``; the error at a kink is NaN.

    Of finite differences the error is over the coordinates without a kink.
    """
    table = measured(gradient_table(results))
    table = table[table["mode"].isin(MODE_TITLES)]
    error = table["relative_error"].where(table["kink"] != 1)
    differences = table["mode"].isin(DIFFERENCES) & (table["data"] != "ties")
    error = error.mask(differences & table["relative_error_smooth"].notna(), table["relative_error_smooth"])
    cosine = table["cosine"].where(table["kink"] != 1)
    names = table[["mode", "setting", "backend"]].itertuples(index=False)
    series = pd.Series([series_title(*row) for row in names], index=table.index, dtype=object)
    return table.assign(series=series, error=error.replace(np.inf, np.nan), cosine=cosine)


def clean_gradients(results: RunResults) -> pd.DataFrame:
    """Return the rows of `mode_rows` that say something about a derivative: those with an error."""
    table = mode_rows(results)
    return table[table["error"].notna()]


def precise(table: pd.DataFrame) -> pd.DataFrame:
    """Rows in float64, or all where there are none; those that vary the forward tolerance are left out."""
    table = table[table["forward_tolerance"].isna()]
    double = table["dtype"] == "float64"
    return table[double] if double.any() else table


def parameters(table: pd.DataFrame) -> list[str]:
    """Parameter groups of the table, in the order of the operators' arguments."""
    return in_order(set(table["parameter"]) - {""}, PARAMETER_TITLES)


def parameter_title(parameter: str) -> str:
    """Title of a parameter group."""
    return PARAMETER_TITLES.get(parameter, parameter)


def instance_costs(table: pd.DataFrame) -> pd.DataFrame:
    """Error (largest over parameter groups), time and memory of the gradient of one instance, by series and setting.

    Automatic differentiation gives all parameter groups at once; finite differences take them one after the other, so
    their times are added. A setting with a group that has no error (a kink) is left out.
    """
    keys = ["family", "framework", "dtype", "mode", "series", "setting", "value", "instance"]
    table = table.assign(error=table["error"].fillna(np.inf))
    groups = table.groupby(keys, sort=False, dropna=False)
    found = groups.agg(error=("error", "max"), seconds=("median_s", "median"), peak_bytes=("peak_bytes", "max"))
    one_by_one = found.index.get_level_values("mode").isin(DIFFERENCES)
    found["seconds"] = found["seconds"].where(~one_by_one, groups["median_s"].sum(min_count=1))
    found = found.reset_index()
    return found[np.isfinite(found["error"])]
