"""Numbers of problems (N, C), beside unknowns z (N, C, ...)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

__all__ = ["dot", "flat", "power_of_two", "spread_over"]

Array = Any  # of either framework


def spread_over(per_problem: Array, z: Array) -> Array:
    """Give numbers of problems (N, C) the dimensions of z."""
    return per_problem.reshape(*per_problem.shape, *(1,) * (z.ndim - 2))


def flat(z: Array) -> Array:
    """All unknowns of a problem in one dimension: (N, C, unknowns)."""
    return z.reshape(*z.shape[:2], math.prod(z.shape[2:]))


def dot(a: Array, b: Array) -> Array:
    """Inner product of each problem: (N, C, 1, ...), to multiply z with."""
    return (a * b).sum(axis=tuple(range(2, a.ndim)), keepdims=True)


def power_of_two(xp: Any, a: Array, axes: Sequence[int]) -> Array:
    """Power of two nearest below the greatest size over some axes, which keep length 1; 1 where that is 0 or not finite.

    Numbers divided by it keep all their digits, and their squares neither overflow nor vanish.
    """
    size = xp.amax(xp.abs(a), tuple(axes), keepdims=True)
    usable = (size > 0) & xp.isfinite(size)
    size = xp.where(usable, xp.maximum(size, float(xp.finfo(a.dtype).tiny)), 1.0)
    return size / (2 * xp.frexp(size)[0])
