"""Edges between the unknowns of one image plane: from each pixel to the one at its right, and to the one below.

They have no offset and no level. `here` and `there` are the unknowns at both ends; see `penalties`
for the penalties, and `laplacian` for lanes.
"""

from __future__ import annotations

from typing import Any

from varmorph.kernels.compilation import part, plus
from varmorph.kernels.penalties import Penalty, bent, curvature, energy, next_dual, stiffness

__all__ = [
    "count_straightened",
    "nearest_kink",
    "renew_side_duals",
    "side_curvatures",
    "side_stiffnesses",
    "straighten",
]


@part
def side_stiffnesses(stiff: Any, lanes: int, here: Any, there: Any, weight: Any, penalty: Penalty) -> Any:
    """Write the stiffnesses; return the sum of the energies."""
    total = stiff.dtype.type(0)
    for j in range(lanes):
        r = here[j] - there[j]
        k = weight[j] * stiffness(r, penalty)
        stiff[j] = k
        total = plus(total, energy(r, k, penalty))
    return total


@part
def side_curvatures(curved: Any, lanes: int, here: Any, there: Any, weight: Any, penalty: Penalty) -> None:
    """Write the second derivatives."""
    for j in range(lanes):
        curved[j] = weight[j] * curvature(here[j] - there[j], penalty)


@part
def straighten(
    conductance: Any, lanes: int, stiff: Any, here: Any, there: Any, dual: Any, share: Any, penalty: Penalty
) -> None:
    """Write the primal-dual conductances."""
    for j in range(lanes):
        conductance[j] = stiff[j] * bent(here[j] - there[j], dual[j], share, penalty)


@part
def renew_side_duals(
    dual: Any, lanes: int, here: Any, there: Any, step_here: Any, step_there: Any, penalty: Penalty
) -> None:
    """Replace the dual variables by those after a step of the unknowns."""
    for j in range(lanes):
        dual[j] = next_dual(here[j] - there[j], step_here[j] - step_there[j], dual[j], penalty)


@part
def count_straightened(
    lanes: int, here: Any, there: Any, here_before: Any, there_before: Any, weight: Any, penalty: Penalty
) -> Any:
    """Count the edges that have become curved or straight."""
    kind = weight.dtype.type
    changed = kind(0)
    for j in range(lanes):
        straight = abs(here[j] - there[j]) > penalty.limit
        before = abs(here_before[j] - there_before[j]) > penalty.limit
        changed = plus(changed, kind((straight != before) & (weight[j] > 0)))
    return changed


@part
def nearest_kink(least: Any, lanes: int, here: Any, there: Any, weight: Any, penalty: Penalty) -> None:
    """Lower the least distance of a residual to a kink."""
    for j in range(lanes):
        distance = abs(abs(here[j] - there[j]) - penalty.limit)
        least[j] = distance if (weight[j] > 0) & (distance < least[j]) else least[j]
