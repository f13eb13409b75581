"""Rows of the study of nonsmooth differentiation, and what layers, ways and their settings are called."""

from __future__ import annotations

import pandas as pd

from morphobench.report.formatting import count, number
from morphobench.report.measurements import measured
from morphobench.report.results import RunResults
from morphobench.studies.nonsmooth.study import COLUMN_TYPES

__all__ = ["WAY_TITLES", "layer_title", "nonsmooth_rows", "nonsmooth_table", "setting_title", "way_title"]

WAY_TITLES = {
    "implicit": "implicit, conservative",
    "smoothed": "smoothed",
    "unrolled": "unrolled",
    "finite-differences": "finite differences",
}
LAYER_TITLES = {
    "lasso": "lasso",
    "total-variation": "total variation",
    "split-identity-0": "split identity at 0",
    "split-identity-0.5": "split identity at 0.5",
    "collinear": "lasso, collinear atoms",
}


def nonsmooth_table(results: RunResults) -> pd.DataFrame:
    """Rows of the study, also of cells that failed."""
    return results.study("nonsmooth", COLUMN_TYPES)


def nonsmooth_rows(results: RunResults, position: str) -> pd.DataFrame:
    """Rows that were measured at a position: generic, kink or pathological."""
    rows = measured(nonsmooth_table(results))
    return rows[rows["position"] == position]


def layer_title(layer: str) -> str:
    """Title of a layer."""
    return LAYER_TITLES.get(layer, layer)


def way_title(way: str) -> str:
    """Title of a way of differentiating."""
    return WAY_TITLES.get(way, way)


def setting_title(way: str, value: float, layer: str = "") -> str:
    """What the setting of a way is called, empty where it has none.

    Examples
    --------
    >>> setting_title("unrolled", 10.0), setting_title("implicit", float("nan"))
    ('10 steps', '')
    """
    if value != value:
        return ""
    if way == "unrolled":
        return count(int(value), "step")
    if way == "implicit":
        return f"relu'(0) = {number(value)}"
    if way == "smoothed" and layer == "total-variation":
        return f"smoothing × {number(value)}"
    return f"smoothing {number(value)}" if way == "smoothed" else f"h = {number(value)}"
