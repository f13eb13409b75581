"""What counts as a tie between edges, and when the search for a minimiser ends, in every computation alike."""

from __future__ import annotations

__all__ = ["SAFE_STEPS", "tie_tolerance"]

# The most steps of a search in a bracket: bisection alone would need as many as the mantissa has bits.
SAFE_STEPS = 200


def tie_tolerance(double: bool) -> float:
    """How far from 0 the derivative of an energy may lie and still count as 0, in parts of min(tau, 1 - tau) sum w.

    double : whether numbers have double precision.
    """
    return 1e-12 if double else 1e-5
