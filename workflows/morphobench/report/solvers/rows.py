"""Rows of the solver study and of the operator benchmarks: whole layers, solvers of coupled operators, ratios to peers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from morphobench.report.formatting import in_order
from morphobench.report.measurements import backend_title, measured
from morphobench.report.results import RunResults
from morphobench.studies import benchmarks
from morphobench.studies.solvers.study import COLUMN_TYPES

__all__ = [
    "LAYERS",
    "OURS",
    "PASSES",
    "PEER",
    "PIXEL_BYTES",
    "SOLVER_TITLES",
    "SOURCE",
    "bandwidths",
    "benchmark_table",
    "case_title",
    "coupled_cells",
    "coupled_rows",
    "growth_ratios",
    "is_variational",
    "layer_cells",
    "layer_ratios",
    "layer_rows",
    "own_solvers",
    "peer_ratios",
    "ratio_table",
    "solver_table",
    "solver_title",
    "within",
]

SOURCE = "studies/solvers.csv"
OURS = "varmorph"  # the peers' rows hold varmorph on the same instance
PEER = "depthwise-convolution"
PASSES = ("forward", "backward")
PIXEL_BYTES = {"float32": 8, "float64": 16}  # one value read and one written
SMALLEST = "3 x 3"  # the peer of a larger window of the same operator
# In the order of tables and figures.
LAYERS = (
    "variational-dilation",
    "regularised-dilation",
    "joint-opening",
    "reconstruction",
    "max-plus-dilation",
    "flat-dilation",
    "max-pooling",
    "depthwise-convolution",
    "convolution",
)
CASE = ["framework", "device", "dtype", "image_size", "batch", "channels", "kernel_size"]
SOLVER_TITLES = {
    "newton": "Newton",
    "fixed-point": "fixed point",
    "anderson": "Anderson",
    "accelerated-gradient": "accelerated gradient",
    "primal-dual": "primal-dual",
    "admm": "ADMM",
    "interior-point": "interior point",
    "max-plus-dilation": "max-plus dilation",
}


def solver_table(results: RunResults) -> pd.DataFrame:
    """Rows of the solver study, also of cells that failed."""
    return results.study("solvers", COLUMN_TYPES)


def benchmark_table(results: RunResults) -> pd.DataFrame:
    """Times of operators and of other libraries, taken in one process."""
    return results.study("benchmarks", benchmarks.COLUMN_TYPES)


def ratio_table(results: RunResults) -> pd.DataFrame:
    """Ratios of what was timed in turn."""
    table = results.study("ratios", benchmarks.RATIO_TYPES)
    return table[table["ratio"] > 0]


def solver_title(solver: str) -> str:
    """Title of a solver.

    Examples
    --------
    >>> solver_title("newton"), solver_title("depthwise-convolution")
    ('Newton', 'depthwise convolution')
    """
    return SOLVER_TITLES.get(solver, solver.replace("-", " "))


def own_solvers(table: pd.DataFrame) -> list[str]:
    """The project's solvers of coupled operators in the table, in their order."""
    return in_order(table.loc[table["role"] == "coupled", "solver"], SOLVER_TITLES)


def coupled_rows(results: RunResults, *, peers: bool = False) -> pd.DataFrame:
    """Forward solves that were measured; if wanted, also those of other libraries for operators of the same families."""
    table = measured(solver_table(results))
    table = table[table["phase"] == "forward"]
    own = table[table["role"] == "coupled"]
    others = table[(table["role"] == "peer") & (table["solver"] != OURS) & table["family"].isin(set(own["family"]))]
    return pd.concat([own, others]) if peers and len(others) else own


def coupled_cells(results: RunResults) -> pd.DataFrame:
    """Every row of the solvers of coupled operators, also of cells that failed."""
    table = solver_table(results)
    return table[table["role"] == "coupled"]


def layer_rows(results: RunResults) -> pd.DataFrame:
    """Measured times of layers and of methods' own operators, with their ``series``: the layer, and how it is written."""
    table = measured(solver_table(results))
    table = table[table["role"].isin(["layer", "plugin"]) & (table["median_s"] > 0)]
    names = table["solver"].map(solver_title).astype(str)
    backends = table["backend"].map(backend_title)
    series = names.where(backends == "", names + ", " + backends.astype(str))
    order = {name: place for place, name in enumerate(LAYERS)}
    places = table["solver"].map(lambda solver: order.get(solver, len(order)))
    return table.assign(series=series, place=places).sort_values(["place", "series"], kind="stable")


def layer_ratios(results: RunResults) -> pd.DataFrame:
    """Rows of layers with their ``ratio``: the time over that of a depthwise convolution on the same case and phase."""
    rows = layer_rows(results)
    rows = rows[rows["phase"].isin(PASSES)]
    keys = [*CASE, "phase"]
    peer = rows[rows["solver"] == PEER].groupby(keys, dropna=False)["median_s"].min().rename("peer_s").reset_index()
    joined = rows.merge(peer, on=keys, how="left").set_index(rows.index)
    return joined.assign(ratio=joined["median_s"] / joined["peer_s"])


def layer_cells(results: RunResults) -> pd.DataFrame:
    """Every row of the layers and of the copy, also of cells that failed."""
    table = solver_table(results)
    return table[table["role"].isin(["layer", "plugin", "copy"])]


def bandwidths(results: RunResults) -> dict[str, float]:
    """Bytes a second that a copy reads and writes, by framework: the largest measured."""
    table = measured(solver_table(results))
    table = table[(table["role"] == "copy") & (table["bytes_per_s"] > 0)]
    return {str(name): float(value) for name, value in table.groupby("framework")["bytes_per_s"].max().items()}


def peer_ratios(results: RunResults) -> pd.DataFrame:
    """Ratios to what the operators replace."""
    table = ratio_table(results)
    return table[table["peer"] != SMALLEST]


def growth_ratios(results: RunResults) -> pd.DataFrame:
    """Ratios to the same operator with the smallest window; ``elements`` is the number of window elements."""
    table = ratio_table(results)
    table = table[table["peer"] == SMALLEST]
    sizes = [math.prod(map(int, window.split("x"))) for window in table["window"]]
    return table.assign(elements=sizes).sort_values("elements", kind="stable")


def within(table: pd.DataFrame) -> int:
    """How many of the ratios are within their bar."""
    return int((table["ratio"] <= table["bar"]).sum())


def case_title(row: Mapping[Any, Any]) -> str:
    """Operator and window of a ratio.

    Examples
    --------
    >>> case_title({"operator": "variational_dilation", "window": "3x3"})
    'variational dilation 3×3'
    """
    return f"{str(row['operator']).replace('_', ' ')} {str(row['window']).replace('x', '×')}"


def is_variational(operator: str) -> bool:
    """Whether an operator minimises a variational energy; the others are max-plus."""
    return operator.startswith(("variational", "regularised"))
