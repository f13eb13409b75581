"""Conjugate gradients preconditioned by the diagonal, for a matrix that the caller applies. Sums are float64 sums of short ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from varmorph.kernels.compilation import part, plus

__all__ = ["STRETCH", "begin", "inner", "invert", "power_of_two", "proceed"]

STRETCH = 1024  # lanes taken at once


@part
def invert(numbers: Any) -> None:
    """Replace what is positive by its inverse, the rest by 0."""
    zero, one = numbers.dtype.type(0), numbers.dtype.type(1)
    for j in range(numbers.size):
        number = numbers[j]
        safe = number if number > zero else one
        numbers[j] = one / safe if number > zero else zero


@part
def _inner(a: Any, b: Any, lanes: int) -> Any:
    total = a.dtype.type(0)
    for j in range(lanes):
        total = plus(total, a[j] * b[j])
    return total


@part
def inner(a: Any, b: Any) -> float:
    """Return the inner product."""
    total = 0.0
    for s in range(0, a.size, STRETCH):
        total += _inner(a[s:], b[s:], min(STRETCH, a.size - s))
    return total


@part
def power_of_two(a: Any) -> float:
    """Power of two nearest below the greatest size of numbers, 1 where that is 0 or infinite; NaN counts as nothing."""
    size = 0.0
    for j in range(a.size):
        size = max(size, float(abs(a[j])) if a[j] == a[j] else 0.0)
    return math.ldexp(1.0, math.frexp(size)[1] - 1) if 0 < size < np.inf else 1.0


@part
def _advance(value: Any, residual: Any, lanes: int, direction: Any, image: Any, inverse: Any, length: Any) -> Any:
    """Walk along the direction; return the inner products of the residual with the preconditioned one and with itself."""
    product = norm = value.dtype.type(0)
    for j in range(lanes):
        value[j] += length * direction[j]
        r = residual[j] - length * image[j]
        residual[j] = r
        product = plus(product, r * inverse[j] * r)
        norm = plus(norm, r * r)
    return product, norm


@part
def _turn(direction: Any, lanes: int, inverse: Any, residual: Any, share: Any) -> None:
    for j in range(lanes):
        direction[j] = inverse[j] * residual[j] + share * direction[j]


@part
def begin(right: Any, diagonal: Any, residual: Any, direction: Any) -> tuple[float, float, float, float]:
    """Begin conjugate gradients preconditioned by the diagonal, which is inverted, with a right side of norm 1.

    Return the norm of the right side as two factors, the second a power of two, since its square may overflow or vanish; the
    inner product of the residual with the preconditioned one; and its norm.
    """
    invert(diagonal)
    unit = power_of_two(right)
    one = right.dtype.type(unit)
    for j in range(right.size):
        residual[j] = right[j] / one
    size = np.sqrt(inner(residual, residual))
    size = size if size > 0 else 1.0
    scale = right.dtype.type(size)
    for j in range(right.size):
        residual[j] /= scale
        direction[j] = diagonal[j] * residual[j]
    return size, unit, inner(residual, direction), np.sqrt(inner(residual, residual))


@part
def proceed(
    value: Any, residual: Any, direction: Any, image: Any, inverse: Any, curvature: float, ahead: float
) -> tuple[float, float]:
    """Take one step, given the image of the direction and the inner product of both; return as `begin`, without size."""
    kind = value.dtype.type
    length = kind(ahead / curvature if curvature > 0 else 0.0)
    product = norm = 0.0
    for s in range(0, value.size, STRETCH):
        lanes = min(STRETCH, value.size - s)
        sums = _advance(value[s:], residual[s:], lanes, direction[s:], image[s:], inverse[s:], length)
        product += sums[0]
        norm += sums[1]
    _turn(direction, value.size, inverse, residual, kind(product / ahead if ahead > 0 else 0.0))
    return product, np.sqrt(norm)
