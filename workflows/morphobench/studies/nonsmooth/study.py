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

from morphobench.project.files import write_json
from morphobench.studies.cells import Cell, CellRecord, OpenInstance, Row

__all__ = ["COLUMNS", "DEFAULTS", "LAYERS", "WAYS", "cells", "check", "collect", "failed_rows", "open_instance"]

LAYERS = ("lasso", "total-variation", "pathological")
WAYS = ("implicit", "smoothed", "unrolled", "finite-differences")
CASES = {"split-identity-0": 0.0, "split-identity-0.5": 0.5, "collinear": None}  # pathological: x of the split identity
SELECTIONS = (0.0, 0.25, 0.5, 1.0)  # of relu'(0)
ONE_SIDED = 1e-5  # step of the one-sided derivatives at a kink

DEFAULTS: dict[str, Any] = {
    "frameworks": ["torch"],
    "layers": list(LAYERS),
    "seeds": 2,
    "distances": [1e-1, 1e-2, 1e-3, 0.0],  # of x from the kink; 0 is the kink
    "smoothings": [1e-1, 1e-2, 1e-3, 1e-4],  # lasso: sqrt(z^2 + s^2) for |z|
    "factors": [4.0, 2.0, 1.1, 1.01],  # total variation: of the edge smoothing
    "unrolled": [1, 10, 100],
    "steps": [1e-2, 1e-4, 1e-6],
    "repeats": 1,
    "cell_s": 0.0,
    "timeout_s": 120.0,
}

# The columns of the table `nonsmooth`; the last six are filled in by what runs the cells.
#   value: smoothing, factor, steps, step, or relu'(0). position: generic, kink or pathological. margin: distance of the active set to
#   a change, relative. relative_error, cosine: of the gradient by `parameter`, at generic positions alone. derivative: along the line
#   through the kink, empty where infinite; left, right: the one-sided ones; hull_violation: how far the derivative lies outside of them. singular: as the
#   certificate has it. seconds: of this one gradient.
COLUMNS = [
    *["cell", "instance", "layer", "seed", "distance", "position", "margin", "way", "value", "parameter"],
    *["relative_error", "cosine", "derivative", "left", "right", "hull_violation", "singular", "seconds"],
    *["framework", "device", "threads", "load", "status", "message"],
]


def check(settings: Mapping[str, Any]) -> None:
    """Raise ValueError, which names key, found and expected, for settings that do not fit."""
    if settings["frameworks"] not in (["torch"], []):
        raise ValueError(f"studies.nonsmooth.frameworks: found {settings['frameworks']}, expected [torch]")
    for name in settings["layers"]:
        if name not in LAYERS:
            raise ValueError(f"studies.nonsmooth.layers: found {name!r}, expected entries of {', '.join(LAYERS)}")
    for key in ("smoothings", "unrolled", "steps"):
        if any(value <= 0 for value in settings[key]):
            raise ValueError(f"studies.nonsmooth.{key}: found {settings[key]}, expected numbers > 0")
    if any(value < 1 for value in settings["factors"]):
        raise ValueError(f"studies.nonsmooth.factors: found {settings['factors']}, expected numbers >= 1")
    if any(value < 0 for value in settings["distances"]):
        raise ValueError(f"studies.nonsmooth.distances: found {settings['distances']}, expected numbers >= 0")


def cells(settings: Mapping[str, Any], framework: str) -> list[Cell]:
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


def open_instance(
    instance: str, settings: Mapping[str, Any], framework: str, device: str, threads: int
) -> OpenInstance:
    """Open a layer at a distance from its kink."""
    import torch

    from morphobench.studies.nonsmooth.rows import Place

    torch.set_num_threads(threads)
    return Place(settings)


def values_of(layer: str, way: str, settings: Mapping[str, Any]) -> Sequence[float]:
    """List the settings of a way: one for implicit differentiation, but the selections of relu'(0) where it is pathological."""
    if way == "implicit":
        return SELECTIONS if layer == "split-identity" else (float("nan"),)
    names = {"unrolled": "unrolled", "finite-differences": "steps"}
    smoothing = "factors" if layer == "total-variation" else "smoothings"
    return settings[names.get(way, smoothing)]


def about(cell: Cell) -> Row:
    """What the settings of a cell say of its rows."""
    given = cell.settings
    pathological = given["layer"] == "pathological"
    position = "pathological" if pathological else "kink" if given["distance"] == 0 else "generic"
    return {
        "layer": given.get("case", given["layer"]),
        "seed": given.get("seed"),
        "distance": given.get("distance"),
        "position": position,
        "way": given["way"],
    }


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
