"""Rows of the solver study from repeated seconds, the same for every framework."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from morphobench.studies.cells import Row
from morphobench.studies.measurement import Quartiles, Repeated, spread_of_medians

__all__ = ["Found", "about_solve", "accurate", "named", "rows_of", "rows_of_parts", "search", "seconds_of_parts"]

MARGIN = 0.5  # a solver's own tolerance is lowered as if the error fell with it, to this share of what is wanted
TRIES = 4


@dataclass
class Found:
    """What is known of a cell besides the seconds of its repeats; seconds and bytes by phase."""

    about: Row
    pixels: int | None = None
    copied_bytes: int | None = None
    compile_s: float | None = None
    cold_s: dict[str, float] = field(default_factory=dict)
    peak: dict[str, float] = field(default_factory=dict)


def rows_of(found: Found, repeated: Repeated) -> list[Row]:
    """Return one row a phase: compilation where it was timed, then what was repeated."""
    rows = []
    if found.compile_s is not None:
        rows.append({**found.about, "phase": "compile", "median_s": found.compile_s, "repeats": 1})
    for phase, seconds in repeated.seconds.items():
        quartiles = Quartiles.of(seconds)
        row = {
            **found.about,
            "phase": phase,
            "median_s": quartiles.median,
            "q25_s": quartiles.q25,
            "q75_s": quartiles.q75,
        }
        row |= {"spread": spread_of_medians(seconds), "repeats": len(seconds)}
        row |= {"peak_bytes": found.peak.get(phase), "cold_s": found.cold_s.get(phase)}
        if found.pixels is not None and quartiles.median > 0:
            row["pixels_per_s"] = found.pixels / quartiles.median
        if found.copied_bytes is not None and quartiles.median > 0:
            row["bytes_per_s"] = found.copied_bytes / quartiles.median
        rows.append(row)
    return rows


def seconds_of_parts(once: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Join the seconds by phase of the parts of a cell; `rows_of_parts` takes them apart again."""
    return {f"{place} {phase}": value for place, seconds in enumerate(once) for phase, value in seconds.items()}


def rows_of_parts(found: Sequence[Found], repeated: Repeated) -> list[Row]:
    """Return the rows of all parts of a cell."""
    rows = []
    for place, part in enumerate(found):
        own = {key.split()[1]: value for key, value in repeated.seconds.items() if key.split()[0] == str(place)}
        rows += rows_of(part, Repeated(own))
    return rows


def accurate(value: np.ndarray, reference: np.ndarray) -> float:
    """Greatest distance to the reference over the reference's range; infinite where the value is not finite."""
    distance = float(np.abs(value - reference).max())
    return distance / float(np.ptp(reference)) if math.isfinite(distance) else math.inf


def search(tolerance: float, attempt: Callable[[float], tuple[float, Any]]) -> tuple[float, Any, bool]:
    """Lower a solver's own tolerance until its error is at most ``tolerance``.

    Its residual is not the error, and how they go together depends on the solver and the instance: times to a residual
    would compare different accuracies.

    Parameters
    ----------
    tolerance : float
        Error to be reached.
    attempt : callable
        Takes the solver's own tolerance; gives the error and whatever is to be kept of the attempt.

    Returns
    -------
    error : float
    kept : object
        Of the last attempt.
    reached : bool
    """
    own, error, kept = tolerance, math.inf, None
    for _ in range(TRIES):
        error, kept = attempt(own)
        if error <= tolerance:
            return error, kept, True
        own *= max(MARGIN * tolerance / error, 1e-3)
    return error, kept, False


def about_solve(wanted: Mapping[str, Any], error: float, reached: bool, certificate: Any, bias: np.ndarray) -> Row:
    """Say what a solve to an error was and came to; ``certificate`` is that of the forward solve, of either framework."""
    said = {"backend": "auto", "dtype": "float64", "error": error, "reached": reached, "batch": 1, "channels": 1}
    said |= {"iterations": int(certificate.iterations.max()), "residual": float(certificate.residual.max())}
    return said | named(wanted, "tolerance", "image_size", "coupling") | {"kernel_size": bias.shape[-1]}


def named(settings: Mapping[str, Any], *names: str) -> Row:
    """Pick the settings of a cell that are columns of the table."""
    return {name: settings[name] for name in names if name in settings}
