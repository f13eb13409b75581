"""What every solve is asked for: how far to go, and what happens where it does not get there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "POLICIES",
    "ConvergenceError",
    "ConvergenceWarning",
    "OnFailure",
    "SolverSettings",
    "check_settings",
    "check_start",
    "failure_message",
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


def check_start(found: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Require the shape of a start."""
    if tuple(found) != tuple(expected):
        raise ValueError(f"the start must have shape {tuple(expected)}, found {tuple(found)}")


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

    def goal(self, double: bool) -> float:
        """The tolerance, or its default; double : whether numbers have double precision."""
        if self.tolerance is not None:
            return self.tolerance
        return 1e-9 if double else 1e-6
