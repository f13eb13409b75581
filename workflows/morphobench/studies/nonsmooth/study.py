"""Where nonsmooth implicit differentiation differs from smoothing, from unrolling and from finite differences, and where it fails.

A layer is differentiated at given distances from a kink in every way, and compared with the float64 gradient on the active set. At
the kink itself nothing is averaged: the row says which directional derivative a way returns, and the two one-sided ones. The
pathological cases (`pathologies`) are those whose equation is not invertible for some selection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from morphobench.plugins.discovery import Plugins
from morphobench.project.files import write_json
from morphobench.settings.records import CellRecord
from morphobench.studies.cells import Cell, OpenInstance, Row
from morphobench.studies.nonsmooth.problems import CASES, WAYS, about

__all__ = [
    "COLUMNS",
    "COLUMN_TYPES",
    "OUTPUTS",
    "WAYS",
    "cells",
    "collect",
    "failed_rows",
    "open_instance",
    "plugin_folders",
]


# The columns of the table `nonsmooth`; the last six are filled in by what runs the cells.
#   value: smoothing, factor, steps, step, or relu'(0). position: generic, kink or pathological. margin: distance of the active set to
#   a change, relative. relative_error, cosine: of the gradient by `parameter`, at generic positions alone. derivative: along the line
#   through the kink, empty where infinite; left, right: the one-sided ones; hull_violation: how far the derivative lies outside of them. singular: as the
#   certificate has it. seconds: of this one gradient.
COLUMN_TYPES: dict[str, type] = {
    **dict.fromkeys(["cell", "instance", "layer"], str),
    **dict.fromkeys(["seed", "distance"], float),
    "position": str,
    "margin": float,
    "way": str,
    "value": float,
    "parameter": str,
    **dict.fromkeys(["relative_error", "cosine", "derivative", "left", "right", "hull_violation"], float),
    "singular": bool,
    "seconds": float,
    **dict.fromkeys(["framework", "device"], str),
    **dict.fromkeys(["threads", "load"], float),
    **dict.fromkeys(["status", "message"], str),
}
COLUMNS = list(COLUMN_TYPES)
OUTPUTS = ["nonsmooth.json"]


def cells(settings: Mapping[str, Any], framework: str, plugins: Plugins) -> list[Cell]:
    """List the cells: every way at every distance of every layer and seed, and at the pathological cases."""
    found = []
    for layer in settings["layers"]:
        if layer == "pathological":
            places: list[dict[str, Any]] = [{"case": case} for case in CASES]
        else:
            seeds, distances = range(settings["seeds"]), settings["distances"]
            places = [{"seed": seed, "distance": distance} for seed in seeds for distance in distances]
        for place in places:
            instance = "-".join([layer, *(f"{value:g}" if value != str(value) else value for value in place.values())])
            found += [Cell(f"{instance}-{way}", instance, {"layer": layer, **place, "way": way}) for way in WAYS]
    return found


def plugin_folders(settings: Mapping[str, Any], framework: str, plugins: Plugins) -> list[Path]:
    """Return no folder: the layers are those of the library."""
    return []


def open_instance(
    instance: str, settings: Mapping[str, Any], framework: str, device: str, threads: int
) -> OpenInstance:
    """Open a layer at a distance from its kink."""
    import torch

    from morphobench.studies.nonsmooth.rows import Place

    torch.set_num_threads(threads)
    return Place(settings)


def failed_rows(cell: Cell) -> list[Row]:
    """Say what is known of a cell that gave nothing."""
    return [about(cell)]


def collect(table: Any, records: Sequence[CellRecord], out: Path) -> None:
    """Write ``nonsmooth.json``: how many cells there are, which failed, and the worst implicit error by layer."""
    worst: dict[str, float] = {}
    if len(table):
        generic = table[(table["position"] == "generic") & (table["way"] == "implicit")]
        errors = generic.assign(relative_error=generic["relative_error"].astype(np.float64))
        worst = {str(k): float(v) for k, v in errors.groupby("layer")["relative_error"].max().items()}
    failed = [record.cell for record in records if record.status != "ok"]
    write_json(out / "nonsmooth.json", {"cells": len(records), "failed": failed, "implicit_error": worst})
