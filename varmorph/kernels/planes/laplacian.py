"""The graph Laplacian of one image plane, and conjugate gradients with it.

Lanes are the cells of a plane in memory order, rows of length `pitch`. A matrix is given by three conductances at each
lane: to known values, to the pixel at the right, to the pixel below; the last two are 0 where there is no such pixel.
Arrays that are read at neighbours are *framed*: `frame(pitch)` lanes in front of the first and behind the last hold 0,
so that every lane has four neighbours and the loops need no case for a border. All sums are float64 sums of short ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import part, plus
from varmorph.kernels.conjugate_gradients import STRETCH, begin, inner, invert, power_of_two, proceed
from varmorph.kernels.padded_plane import rounded

__all__ = [
    "conjugate_gradients",
    "frame",
    "framed",
    "neumann_series",
    "reaches_known",
]


@part
def frame(pitch: int) -> int:
    """Give the lanes in front of a framed array."""
    return rounded(pitch + 1)


@part
def framed(lanes: int, pitch: int, dtype: Any) -> Any:
    """Make a framed array of zeros."""
    return np.zeros(lanes + 2 * frame(pitch), dtype)


@part
def _product(
    image: Any,
    lanes: int,
    here: Any,
    left: Any,
    right: Any,
    above: Any,
    below: Any,
    known: Any,
    to_left: Any,
    to_right: Any,
    to_above: Any,
    to_below: Any,
) -> Any:
    total = image.dtype.type(0)
    for j in range(lanes):
        v = here[j]
        flow = to_left[j] * (v - left[j]) + to_right[j] * (v - right[j])
        flow += to_above[j] * (v - above[j]) + to_below[j] * (v - below[j])
        flow += known[j] * v
        image[j] = flow
        total = plus(total, v * flow)
    return total


@part
def product(image: Any, v: Any, known: Any, across: Any, down: Any, pitch: int) -> float:
    """Write the product of the matrix with v, and return the inner product of both; v, across and down are framed."""
    total = 0.0
    for s in range(0, image.size, STRETCH):
        lanes = min(STRETCH, image.size - s)
        at = frame(pitch) + s
        total += _product(
            image[s:],
            lanes,
            v[at:],
            v[at - 1 :],
            v[at + 1 :],
            v[at - pitch :],
            v[at + pitch :],
            known[s:],
            across[at - 1 :],
            across[at:],
            down[at - pitch :],
            down[at:],
        )
    return total


@part
def degrees(diagonal: Any, known: Any, across: Any, down: Any, pitch: int) -> None:
    """Write the diagonal of the matrix."""
    at = frame(pitch)
    left, right, above, below = across[at - 1 :], across[at:], down[at - pitch :], down[at:]
    for j in range(diagonal.size):
        diagonal[j] = known[j] + left[j] + right[j] + above[j] + below[j]


@part
def conjugate_gradients(
    value: Any, right: Any, known: Any, across: Any, down: Any, pitch: int, tolerance: float, max_steps: int
) -> tuple[int, float]:
    """Solve the system of the matrix; return the steps and the relative residual.

    As `varmorph.torch.energy.conjugate_gradients` does for one problem.
    """
    lanes, at = right.size, frame(pitch)
    inverse, residual, image = np.empty_like(right), np.empty_like(right), np.empty_like(right)
    framed_direction = framed(lanes, pitch, right.dtype)
    direction = framed_direction[at : at + lanes]
    degrees(inverse, known, across, down, pitch)
    size, unit, ahead, norm = begin(right, inverse, residual, direction)
    value[:] = 0
    steps = 0
    while steps < max_steps and norm > tolerance:
        curvature = product(image, framed_direction, known, across, down, pitch)
        ahead, norm = proceed(value, residual, direction, image, inverse, curvature, ahead)
        steps += 1
    scale, one = right.dtype.type(size), right.dtype.type(unit)
    for j in range(lanes):
        value[j] = value[j] * scale * one
    return steps, norm


@part
def neumann_series(
    value: Any, right: Any, known: Any, across: Any, down: Any, pitch: int, terms: int
) -> tuple[int, float]:
    """Add up the first terms of the series sum_j (I - D^-1 H)^j D^-1 right; return their number and the residual.

    `right` is divided by a power of two, in place.
    """
    lanes = right.size
    at = frame(pitch)
    inverse, image, sum_ = np.empty_like(right), np.zeros_like(right), framed(lanes, pitch, right.dtype)
    degrees(inverse, known, across, down, pitch)
    invert(inverse)
    unit = right.dtype.type(power_of_two(right))
    for j in range(lanes):
        right[j] /= unit
    inner_sum = sum_[at:]
    for _ in range(terms):
        for j in range(lanes):
            inner_sum[j] += inverse[j] * (right[j] - image[j])
        product(image, sum_, known, across, down, pitch)
    for j in range(lanes):
        value[j] = inner_sum[j] * unit
        image[j] = right[j] - image[j]
    size = np.sqrt(inner(right, right))
    return terms, np.sqrt(inner(image, image)) / (size if size > 0 else 1.0)


@part
def _spread_from(reached: Any, j: int, across: Any, down: Any, pitch: int) -> bool:
    """Mark a lane if a neighbour is marked and joined to it by a positive conductance."""
    if reached[j] == 0 and (
        (across[j - 1] > 0 and reached[j - 1] > 0)
        or (across[j] > 0 and reached[j + 1] > 0)
        or (down[j - pitch] > 0 and reached[j - pitch] > 0)
        or (down[j] > 0 and reached[j + pitch] > 0)
    ):
        reached[j] = 1
        return True
    return False


@part
def reaches_known(reached: Any, own: Any, known: Any, across: Any, down: Any, pitch: int) -> bool:
    """Mark with 1 the lanes that are joined to a known value by positive conductances; tell whether all `own` ones are.

    `reached` is framed.
    """
    at, missing = frame(pitch), 0
    for j in range(known.size):
        reached[at + j] = known[j] > 0
        missing += (own[j] > 0) & (not known[j] > 0)
    changed = missing > 0
    while changed:
        changed = False
        for j in range(known.size):
            changed |= _spread_from(reached, at + j, across, down, pitch)
        for j in range(known.size - 1, -1, -1):
            changed |= _spread_from(reached, at + j, across, down, pitch)
    for j in range(known.size):
        missing -= (own[j] > 0) & (reached[at + j] > 0) & (not known[j] > 0)
    return missing == 0
