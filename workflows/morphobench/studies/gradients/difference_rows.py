"""The rows of finite differences: one a step, one an extrapolation, and the Taylor slope."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from morphobench.studies.cells import Row
from morphobench.studies.gradients.finite_differences import Differences, Solve, Sweep, extrapolated, taylor_slope
from morphobench.studies.gradients.rows import cosine, relative_error, row, timing
from morphobench.studies.instances import Instance
from morphobench.studies.measurement import Clock, Repeated
from morphobench.studies.reference import Reference

__all__ = ["DifferenceRows"]


class DifferenceRows:
    """Finite differences of one parameter group of an instance.

    Parameters
    ----------
    settings : mapping
        Of the cell: `parameter` and `steps`.
    limit : int
        Most coordinates.
    """

    def __init__(
        self, settings: Mapping[str, Any], instance: Instance, reference: Reference, limit: int, solve: Solve
    ) -> None:
        self.steps = sorted(settings["steps"], reverse=True)
        self.sweep = Sweep(instance, reference, settings["parameter"], limit, solve)
        self.found: list[Differences] = []
        self.slope = taylor_slope(instance, reference, settings["parameter"], solve)

    def measure(self, clock: Clock) -> dict[str, float]:
        """Difference with each step, and say how long the solves took."""
        self.found = [self.sweep.at(step, clock) for step in self.steps]
        return {str(found.step): found.seconds for found in self.found}

    def rows(self, settings: Mapping[str, Any], repeated: Repeated) -> list[Row]:
        """Return the rows; an extrapolation takes the time of both of its steps."""
        seconds = [repeated.seconds.get(str(step), []) for step in self.steps]
        found = [
            self._row(settings, "finite-differences", differences, times)
            for differences, times in zip(self.found, seconds, strict=True)
        ]
        for (coarse, slow), (fine, quick) in pairwise(zip(self.found, seconds, strict=True)):
            both = [a + b for a, b in zip(slow, quick, strict=True)]
            found.append(self._row(settings, "richardson", extrapolated(fine, coarse), both))
        slope, why = self.slope
        taylor = row(settings, mode="taylor", setting="slope", value=slope, status="ok", message=why)
        return [*found, taylor]

    def _row(self, settings: Mapping[str, Any], mode: str, found: Differences, seconds: list[float]) -> Row:
        smooth, expected = found.smooth, self.sweep.expected
        return row(
            settings,
            mode=mode,
            setting=f"{found.step:.0e}",
            value=found.step,
            relative_error=relative_error(found.gradient, expected),
            cosine=cosine(found.gradient, expected),
            **timing(seconds),
            peak_bytes=0,
            iterations=found.evaluations,
            active=float(smooth.mean()) if smooth.size else math.nan,
            kink=not smooth.all(),
            relative_error_smooth=relative_error(found.gradient[smooth], expected[smooth]),
            coordinates=len(expected),
        )
