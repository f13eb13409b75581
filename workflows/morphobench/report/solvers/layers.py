"""Which rows of the solver study are about whole layers, what they are called and in which colour they are drawn."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd

from morphobench.report.results import RunResults
from morphobench.report.solvers.coupled_solvers import solver_title
from morphobench.report.study_rows import FRAMEWORK_TITLES, backend_title, measured
from morphobench.report.style import LINES, MARKERS, SERIES, shade

__all__ = [
    "PEER",
    "PHASES",
    "PHASE_COLOURS",
    "LineStyle",
    "frameworks_of",
    "layer_cells",
    "layer_ratios",
    "layer_rows",
    "layer_styles",
]

PHASES = ("compile", "forward", "backward")
PHASE_COLOURS = dict(zip(PHASES, (SERIES[6], SERIES[0], SERIES[1]), strict=True))
LAYER_COLOURS = {
    "variational-dilation": "#D55E00",
    "regularised-dilation": "#AA4499",
    "joint-opening": "#882255",
    "reconstruction": "#B8860B",
    "max-plus-dilation": "#0072B2",
    "flat-dilation": "#56B4E9",
    "max-pooling": "#707070",
    "depthwise-convolution": "#009E73",
    "convolution": "#004D38",
}
PEER = "depthwise-convolution"
CASE = ["framework", "device", "dtype", "image_size", "batch", "channels", "kernel_size"]


def layer_rows(results: RunResults) -> pd.DataFrame:
    """Measured times of layers and of methods' own operators, with their ``series``: the layer, and how it is written."""
    table = measured(results.solvers)
    table = table[table["role"].isin(["layer", "plugin"]) & (table["median_s"] > 0)]
    names = table["solver"].map(solver_title).astype(str)
    backends = table["backend"].map(backend_title)
    series = names.where(backends == "", names + ", " + backends.astype(str))
    order = {name: place for place, name in enumerate(LAYER_COLOURS)}
    places = table["solver"].map(lambda solver: order.get(solver, len(order)))
    return table.assign(series=series, place=places).sort_values(["place", "series"], kind="stable")


class LineStyle(NamedTuple):
    """Colour, line and marker of a layer."""

    colour: str
    line: Any
    marker: str


def layer_styles(rows: pd.DataFrame) -> dict[str, LineStyle]:
    """Return the pen of every series: the colour of the layer, darker for its second implementation."""
    found: dict[str, LineStyle] = {}
    used: dict[str, int] = {}
    for series, solver in rows[["series", "solver"]].drop_duplicates().itertuples(index=False):
        place = used.get(solver, 0)
        used[solver] = place + 1
        colour = shade(LAYER_COLOURS.get(solver, "#404040"), (0.0, -0.4, 0.4)[place % 3])
        found[series] = LineStyle(colour, LINES[place % len(LINES)], MARKERS[len(found) % len(MARKERS)])
    return found


def frameworks_of(rows: pd.DataFrame) -> list[str]:
    """Frameworks in the table, PyTorch first."""
    found = set(rows["framework"])
    return [name for name in FRAMEWORK_TITLES if name in found] + sorted(found - set(FRAMEWORK_TITLES))


def layer_ratios(results: RunResults) -> pd.DataFrame:
    """Rows of layers with their ``ratio``: the time over that of a depthwise convolution on the same case and phase."""
    rows = layer_rows(results)
    rows = rows[rows["phase"].isin(PHASES[1:])]
    keys = [*CASE, "phase"]
    peer = rows[rows["solver"] == PEER].groupby(keys, dropna=False)["median_s"].min().rename("peer_s").reset_index()
    joined = rows.merge(peer, on=keys, how="left").set_index(rows.index)
    return joined.assign(ratio=joined["median_s"] / joined["peer_s"])


def layer_cells(results: RunResults) -> pd.DataFrame:
    """Every row of the layers and of the copy, also of cells that failed."""
    return results.solvers[results.solvers["role"].isin(["layer", "plugin", "copy"])]
