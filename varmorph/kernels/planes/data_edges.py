"""Edges from known values to the unknowns of one image plane: x_{i+k} + b_k -> z_i for each edge k of the window.

Residuals are computed anew in each pass; nothing is stored for an edge but the dual variables of Huber's penalty. Lanes are
those of `laplacian`. Loops take one edge, or three, of `lanes` pixels: `x` and `inside` are the padded image and the mask of
its pixels from the edge's first source on, b and w its offset and weight.
"""

from __future__ import annotations

from typing import Any

from varmorph.kernels.compilation import part, plus
from varmorph.kernels.penalties import Penalty, bent, curvature, differ, energy, next_dual, side, stiffness

__all__ = [
    "add_curvature",
    "add_straightened",
    "add_three",
    "add_tied",
    "count_changed",
    "lower_distance",
    "renew_duals",
    "widen",
]


@part
def add_three(
    stiff: Any, force: Any, value: Any, lanes: int, z: Any, x: Any, inside: Any, b: Any, w: Any, penalty: Penalty
) -> None:
    """Add the stiffnesses, forces and energies of three edges."""
    x0, x1, x2 = x
    m0, m1, m2 = inside
    b0, b1, b2 = b
    w0, w1, w2 = w
    for j in range(lanes):
        r0 = x0[j] + b0 - z[j]
        r1 = x1[j] + b1 - z[j]
        r2 = x2[j] + b2 - z[j]
        k0 = w0 * m0[j] * stiffness(r0, penalty)
        k1 = w1 * m1[j] * stiffness(r1, penalty)
        k2 = w2 * m2[j] * stiffness(r2, penalty)
        stiff[j] += k0 + k1 + k2
        force[j] += k0 * r0 + k1 * r1 + k2 * r2
        value[j] += energy(r0, k0, penalty) + energy(r1, k1, penalty) + energy(r2, k2, penalty)


@part
def add_curvature(total: Any, lanes: int, z: Any, x: Any, inside: Any, b: Any, w: Any, penalty: Penalty) -> None:
    """Add the second derivatives."""
    for j in range(lanes):
        total[j] += w * inside[j] * curvature(x[j] + b - z[j], penalty)


@part
def add_tied(total: Any, lanes: int, z: Any, x: Any, inside: Any, b: Any, w: Any, penalty: Penalty, near: Any) -> None:
    """Add the stiffnesses, where abs(r) <= near those of the stiffer side."""
    stiffer = max(penalty.tau, penalty.cotau)
    for j in range(lanes):
        r = x[j] + b - z[j]
        a = stiffer if abs(r) <= near else side(r, penalty)
        total[j] += w * inside[j] * a / max(penalty.straight * abs(r), penalty.mu)


@part
def add_straightened(
    total: Any, lanes: int, z: Any, x: Any, inside: Any, b: Any, w: Any, penalty: Penalty, dual: Any, share: Any
) -> None:
    """Add the primal-dual conductances."""
    for j in range(lanes):
        r = x[j] + b - z[j]
        total[j] += w * inside[j] * stiffness(r, penalty) * bent(r, dual[j], share, penalty)


@part
def renew_duals(dual: Any, lanes: int, z: Any, x: Any, b: Any, penalty: Penalty, step: Any) -> None:
    """Replace the dual variables by those after a step of z."""
    for j in range(lanes):
        dual[j] = next_dual(x[j] + b - z[j], -step[j], dual[j], penalty)


@part
def count_changed(
    lanes: int, z: Any, before: Any, own: Any, x: Any, inside: Any, b: Any, w: Any, penalty: Penalty
) -> Any:
    """Count the edges whose residuals lie on another piece of the penalty than before."""
    kind = type(b)
    changed = kind(0)
    for j in range(lanes):
        v = x[j] + b
        moved = differ(v - z[j], v - before[j], penalty) & (own[j] * inside[j] * w > 0)
        changed = plus(changed, kind(moved))
    return changed


@part
def lower_distance(
    least: Any, lanes: int, z: Any, own: Any, x: Any, inside: Any, b: Any, w: Any, penalty: Penalty
) -> None:
    """Lower the least distance of a residual to a kink."""
    for j in range(lanes):
        size = abs(x[j] + b - z[j])
        distance = min(size, abs(size - penalty.limit))
        least[j] = distance if (own[j] * inside[j] * w > 0) & (distance < least[j]) else least[j]


@part
def widen(low: Any, high: Any, lanes: int, own: Any, x: Any, inside: Any, b: Any, w: Any) -> Any:
    """Widen the range of the known values; return NaN if one is not finite, else 0."""
    kind = type(b)
    strange = kind(0)
    for j in range(lanes):
        v = x[j] + b
        present = own[j] * inside[j] * w > 0
        low[j] = v if present & (v < low[j]) else low[j]
        high[j] = v if present & (v > high[j]) else high[j]
        strange = plus(strange, v - v if present else kind(0))
    return strange
