"""What every solve is asked for: how far to go, and what happens where it does not get there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = [
    "POLICIES",
    "ConvergenceError",
    "ConvergenceWarning",
    "OnFailure",
    "SolverSettings",
    "check_memory",
    "check_settings",
    "check_share",
    "check_start",
    "failure_message",
    "warning_message",
]

OnFailure = Literal["warn", "raise", "nan"]
POLICIES = ("warn", "raise", "nan")


class ConvergenceWarning(RuntimeWarning):
    """Some samples of a batch have not converged; the certificate says which."""


class ConvergenceError(RuntimeError):
    """Some samples of a batch have not converged, and the failure policy is "raise"."""


def check_settings(tolerance: float | None, on_failure: OnFailure | None) -> None:
    """Require a tolerance >= 0 or None, and a known policy; None for what makes no promise."""
    if tolerance is not None and not tolerance >= 0:
        raise ValueError(f"tolerance must be a number >= 0 or None, found {tolerance!r}")
    if on_failure is not None and on_failure not in POLICIES:
        raise ValueError(f"on_failure must be one of {', '.join(map(repr, POLICIES))}, found {on_failure!r}")


def check_memory(memory: object) -> None:
    """Require a positive number of sweeps to combine."""
    if not isinstance(memory, int) or memory < 1:
        raise ValueError(f"memory must be a positive integer, found {memory!r}")


def check_share(share: float) -> None:
    """Require a share of a step in (0, 1]."""
    if not 0 < share <= 1:
        raise ValueError(f"share must be a number in (0, 1], found {share!r}")


def check_start(start: Any, shape: Sequence[int]) -> None:
    """Require a start of a given shape, an array of either framework, or None."""
    if start is not None and tuple(start.shape) != tuple(shape):
        raise ValueError(f"the start must have shape {tuple(shape)}, found {tuple(start.shape)}")


def warning_message(what: str) -> str:
    """Say that a solve has failed somewhere: one text for one solver, so that Python's filter prints it once."""
    return f"{what} did not converge for some samples; the certificate says which"


def failure_message(what: str, samples: list[int], residuals: list[float]) -> str:
    """Say which samples of a batch a solve has failed for, and what can be done."""
    return (
        f"{what} did not converge for samples {samples}, residuals {residuals};"
        ' raise max_steps or tolerance, or accept it by on_failure="warn" or "nan"'
    )


@dataclass(frozen=True, kw_only=True)
class SolverSettings:
    """What all solvers share.

    Parameters
    ----------
    tolerance : float, optional
        Residual at which a sample is done (see `ForwardCertificate.residual`). Default: 1e-9 in float64, 1e-6 in float32.
    max_steps : int
        Most iterations.
    on_failure : {"warn", "raise", "nan"}
        What happens to samples that are not done by then: a `ConvergenceWarning`, a `ConvergenceError`, or NaN.
    """

    tolerance: float | None = None
    max_steps: int
    on_failure: OnFailure = "warn"

    def __post_init__(self) -> None:
        check_settings(self.tolerance, self.on_failure)
        if not isinstance(self.max_steps, int) or self.max_steps < 0:
            raise ValueError(f"max_steps must be an integer >= 0, found {self.max_steps!r}")

    def resolved_tolerance(self, double: bool) -> float:
        """The tolerance, or its default; double : whether numbers have double precision."""
        if self.tolerance is not None:
            return self.tolerance
        return 1e-9 if double else 1e-6
