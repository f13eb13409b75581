"""What the study differentiates and in which ways, as names and numbers: imports no framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from morphobench.studies.cells import Cell, Row

__all__ = ["CASES", "WAYS", "about", "values_of"]

WAYS = ("implicit", "smoothed", "unrolled", "finite-differences")
CASES = {"split-identity-0": 0.0, "split-identity-0.5": 0.5, "collinear": None}  # pathological: x of the split identity
SELECTIONS = (0.0, 0.25, 0.5, 1.0)  # of relu'(0)


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
