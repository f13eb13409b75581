"""Where an image plane stands: the range of its known values, and where its residuals lie on their penalties."""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import part
from varmorph.kernels.conjugate_gradients import STRETCH
from varmorph.kernels.planes.data_edges import add_tied, count_changed, lower_distance, widen
from varmorph.kernels.planes.energy import Plane, State
from varmorph.kernels.planes.grid_edges import count_straightened, nearest_kink
from varmorph.kernels.planes.laplacian import frame

__all__ = ["changed_pieces", "extent", "margin", "move_at_ties"]


@part
def extent(plane: Plane, ridged: bool) -> tuple[float, float]:
    """Return the range of the known values, NaN where one is not finite, and the difference that rounding may make."""
    dtype = plane.own.dtype
    low, high = np.empty(STRETCH, dtype), np.empty(STRETCH, dtype)
    low[:] = np.inf
    high[:] = -np.inf
    strange = 0.0
    for s in range(0, plane.own.size, STRETCH):
        lanes, own = min(STRETCH, plane.own.size - s), plane.own[s:]
        for t in range(plane.edges):
            x, inside = plane.copy[s + plane.shift[t] :], plane.inside[s + plane.shift[t] :]
            strange += widen(low, high, lanes, own, x, inside, plane.b[t], plane.w[t])
        if ridged:
            nothing, one = dtype.type(0), dtype.type(1)
            strange += widen(low, high, lanes, own, plane.anchor[s:], own, nothing, one)
    least, greatest = np.inf, -np.inf
    for j in range(STRETCH):
        least, greatest = min(least, low[j]), max(greatest, high[j])
    number = np.finfo(dtype)
    rounding = max(4 * number.eps * max(abs(least), abs(greatest)), np.sqrt(number.tiny))
    spread = greatest - least if greatest >= least else 0.0
    return (spread if strange == 0 and np.isfinite(spread) else np.nan), rounding


@part
def move_at_ties(plane: Plane, z: Any, state: State, near: Any) -> float:
    """Return the greatest single movement, with residuals up to `near` on the stiffer side of their kink."""
    lanes, at, pitch = plane.own.size, frame(plane.pitch), plane.pitch
    known = np.empty_like(plane.own)
    known[:] = plane.ridge
    for t in range(plane.edges):
        x, inside = plane.copy[plane.shift[t] :], plane.inside[plane.shift[t] :]
        add_tied(known, lanes, z[at:], x, inside, plane.b[t], plane.w[t], plane.pull, near)
    greatest = 0.0
    for j in range(lanes):
        diagonal = known[j] + state.across[at + j - 1] + state.across[at + j]
        diagonal += state.down[at + j - pitch] + state.down[at + j]
        if diagonal > 0:
            greatest = max(greatest, abs(state.gradient[j]) / diagonal)
    return greatest


@part
def changed_pieces(plane: Plane, z: Any, before: Any) -> bool:
    """Tell whether a residual lies on another piece of its penalty than before."""
    pitch = plane.pitch
    for s in range(0, plane.own.size, STRETCH):
        lanes, at = min(STRETCH, plane.own.size - s), frame(pitch) + s
        here, old = z[at:], before[at:]
        for t in range(plane.edges):
            x, inside = plane.copy[s + plane.shift[t] :], plane.inside[s + plane.shift[t] :]
            if count_changed(lanes, here, old, plane.own[s:], x, inside, plane.b[t], plane.w[t], plane.pull) > 0:
                return True
        if plane.between.straight > 0:
            changed = count_straightened(
                lanes, here, z[at + 1 :], old, before[at + 1 :], plane.across[at:], plane.between
            )
            changed += count_straightened(
                lanes, here, z[at + pitch :], old, before[at + pitch :], plane.down[at:], plane.between
            )
            if changed > 0:
                return True
    return False


@part
def margin(plane: Plane, z: Any) -> float:
    """Return the least distance of a residual to a kink of its penalty."""
    pitch = plane.pitch
    least = np.empty(STRETCH, plane.own.dtype)
    least[:] = np.inf
    for s in range(0, plane.own.size, STRETCH):
        lanes, at = min(STRETCH, plane.own.size - s), frame(pitch) + s
        for t in range(plane.edges):
            x, inside = plane.copy[s + plane.shift[t] :], plane.inside[s + plane.shift[t] :]
            lower_distance(least, lanes, z[at:], plane.own[s:], x, inside, plane.b[t], plane.w[t], plane.pull)
        nearest_kink(least, lanes, z[at:], z[at + 1 :], plane.across[at:], plane.between)
        nearest_kink(least, lanes, z[at:], z[at + pitch :], plane.down[at:], plane.between)
    nearest = np.inf
    for j in range(STRETCH):
        nearest = min(nearest, least[j])
    return nearest
