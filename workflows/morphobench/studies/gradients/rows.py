"""From what a mode gave to the rows of the table: errors, shares, times."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from morphobench.studies.cells import Row
from morphobench.studies.instances import Instance
from morphobench.studies.measurement import Quartiles, spread_of_medians

if TYPE_CHECKING:
    from morphobench.studies.reference import Reference

__all__ = [
    "COLUMNS",
    "COLUMN_TYPES",
    "HULL_TOLERANCE",
    "Differentiated",
    "cosine",
    "mode_rows",
    "relative_error",
    "row",
    "timing",
]

# The columns of the table `gradients`; what a row does not have is None.
#   value: the number in `setting`: adjoint tolerance, terms, iterations, step h; of mode taylor the slope of the log
#     remainder over the log step (2 where the derivative is right).
#   median_s ... spread: forward and backward pass for all groups together; finite differences: this group alone.
#   peak_bytes: what autograd keeps between forward and backward pass.
#   iterations: of the forward solver; finite differences: evaluations of the operator.
#   certificate: relative residual of the adjoint system.
#   forward_error: largest distance to the reference solution, relative to its range.
#   active: share of the edges on the same piece as in the reference; finite differences: share of the coordinates whose
#     active set is the same at +h and -h; relative_error_smooth is over those coordinates alone.
#   kink: the row says nothing about a derivative: ties in the instance, or an active set that differs at +h and -h.
#   hull, hull_violation: share of Jacobian entries between their one-sided derivatives, and the farthest outside.
COLUMN_TYPES: dict[str, type] = {
    **dict.fromkeys(["cell", "instance", "family", "operator", "data", "framework", "backend", "dtype", "device"], str),
    **dict.fromkeys(["mode", "setting"], str),
    "value": float,
    "parameter": str,
    **dict.fromkeys(["relative_error", "cosine", "median_s", "q25_s", "q75_s", "spread", "repeats"], float),
    **dict.fromkeys(["peak_bytes", "iterations", "adjoint_iterations", "certificate", "forward_tolerance"], float),
    **dict.fromkeys(["forward_residual", "forward_error", "active"], float),
    "kink": bool,
    **dict.fromkeys(["relative_error_smooth", "coordinates", "hull", "hull_violation", "image_size"], float),
    **dict.fromkeys(["kernel_size", "logit_level", "coupling", "ridge", "edge_smoothing", "threads", "load"], float),
    **dict.fromkeys(["status", "message"], str),
}
COLUMNS = list(COLUMN_TYPES)

HULL_TOLERANCE = {"float64": 1e-6, "float32": 1e-3}  # one-sided differences of curved groups are exact to about 1e-7


@dataclass(frozen=True)
class Differentiated:
    """What a mode gave: solution, gradients by argument, and the certificates of both solves; None: there is none."""

    value: np.ndarray
    unknowns: np.ndarray
    gradients: Mapping[str, np.ndarray]
    iterations: int | None = None
    forward_residual: float | None = None
    adjoint_iterations: int | None = None
    certificate: float | None = None
    peak_bytes: int | None = None


def row(settings: Mapping[str, object], **found: object) -> Row:
    """Return a row with all columns: what the settings of a cell say of it, then what was found."""
    return {**{name: settings.get(name) for name in COLUMNS}, "kink": False, **found}


def timing(seconds: Sequence[float]) -> Row:
    """Summarise repeats."""
    quartiles = Quartiles.of(seconds)
    return {
        "median_s": quartiles.median,
        "q25_s": quartiles.q25,
        "q75_s": quartiles.q75,
        "spread": spread_of_medians(seconds),
        "repeats": len(seconds),
    }


def mode_rows(
    settings: Mapping[str, object],
    instance: Instance,
    reference: Reference,
    found: Differentiated,
    seconds: Sequence[float],
    hulls: Mapping[str, tuple[float, float]],
) -> list[Row]:
    """Return one row a parameter group; ``hulls`` holds share and violation by group at ties."""
    from morphobench.studies.active_sets import pieces  # with the reference; cells are listed without it

    shared = {
        **timing(seconds),
        "peak_bytes": found.peak_bytes,
        "iterations": found.iterations,
        "adjoint_iterations": found.adjoint_iterations,
        "certificate": found.certificate,
        "forward_residual": found.forward_residual,
        "forward_error": reference.distance(found.value),
        "active": reference.share(pieces(instance, found.unknowns)),
        "kink": reference.ties,
    }
    return [
        row(
            settings,
            parameter=name,
            relative_error=relative_error(found.gradients[name], expected),
            cosine=cosine(found.gradients[name], expected),
            coordinates=expected.size,
            hull=hulls.get(name, (None, None))[0],
            hull_violation=hulls.get(name, (None, None))[1],
            **shared,
        )
        for name, expected in reference.gradients.items()
    ]


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Euclidean distance over the length of ``expected``; 0 where both vanish, NaN without entries."""
    if not expected.size:
        return math.nan
    distance, length = float(np.linalg.norm(found - expected)), float(np.linalg.norm(expected))
    return distance / length if length > 0 else (0.0 if distance == 0 else math.inf)


def cosine(found: np.ndarray, expected: np.ndarray) -> float:
    """Cosine of the angle between two gradients; NaN where one vanishes."""
    lengths = float(np.linalg.norm(found) * np.linalg.norm(expected))
    return float(np.vdot(found, expected)) / lengths if lengths > 0 else math.nan
