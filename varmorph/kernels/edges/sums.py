"""Sums over the edges of an energy: residuals, stiffnesses, gradient, diagonal and value, for edges of every kind.

One problem has `nodes` unknowns in one list. A family of edges has slots x positions of them: edge (t, m) of problem p leads
from source[t, m] to target[t, m]; both lists have one row if all slots share it. The number `nodes` stands for what is
known, and counts as 0. Sums run in the order of the edges, and a problem belongs to one thread.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from varmorph.kernels.compilation import kernel, part, plus
from varmorph.kernels.penalties import Penalty
from varmorph.kernels.penalties import energy as energy_of
from varmorph.kernels.penalties import stiffness as stiffness_of

__all__ = ["Family", "evaluate"]


class Family(NamedTuple):
    """One family of edges: offset and weight (slots, N or 1, C, positions), its penalty, and its ends.

    The penalty's numbers are (N, C): tau, 1 - tau, and the mu of `penalties`, and where it turns
    straight; `straight` is 1 if it does, else 0.  grounded : whether all sources are known.
    """

    offset: np.ndarray
    weight: np.ndarray
    tau: np.ndarray
    cotau: np.ndarray
    mu: np.ndarray
    limit: np.ndarray
    straight: Any
    grounded: bool
    source: np.ndarray
    target: np.ndarray


@part
def _respond(
    residual: Any, stiffness: Any, force: Any, difference: Any, offset: Any, weight: Any, penalty: Penalty
) -> Any:
    """Write residuals, stiffnesses and forces of the edges of one slot; return the sum of their energies."""
    total = residual.dtype.type(0)
    for m in range(residual.size):
        r = offset[m] + difference[m]
        k = weight[m] * stiffness_of(r, penalty)
        residual[m], stiffness[m], force[m] = r, k, k * r
        total = plus(total, energy_of(r, k, penalty))
    return total


@part
def _differences(difference: Any, z: Any, source: Any, target: Any, grounded: bool) -> None:
    """Write source minus target."""
    if grounded:
        for m in range(difference.size):
            difference[m] = -z[target[m]]
    else:
        for m in range(difference.size):
            difference[m] = z[source[m]] - z[target[m]]


@part
def _collect(slope: Any, degree: Any, force: Any, stiffness: Any, source: Any, target: Any, grounded: bool) -> None:
    """Add forces and stiffnesses up at both ends."""
    for m in range(force.size):
        j = target[m]
        slope[j] -= force[m]
        degree[j] += stiffness[m]
    if not grounded:
        for m in range(force.size):
            i = source[m]
            slope[i] += force[m]
            degree[i] += stiffness[m]


@kernel
def evaluate(
    z: Any,
    family: Family,
    residual: Any,
    stiffness: Any,
    gradient: Any,
    diagonal: Any,
    values: Any,
    start: int,
    stop: int,
) -> None:
    """Write residuals and stiffnesses of one family, and add its part to gradient, diagonal and energy."""
    channels, nodes, positions = family.tau.shape[1], z.shape[1], family.offset.shape[3]
    here, slope, degree = np.empty(nodes + 1, z.dtype), np.empty(nodes + 1, z.dtype), np.empty(nodes + 1, z.dtype)
    difference, force = np.empty(positions, z.dtype), np.empty(positions, z.dtype)
    for p in range(start, stop):
        n, c = p // channels, p % channels
        here[:nodes] = z[p]
        here[nodes] = 0
        slope[:] = 0
        degree[:] = 0
        penalty = Penalty(family.tau[n, c], family.cotau[n, c], family.mu[n, c], family.straight, family.limit[n, c])
        for t in range(family.offset.shape[0]):
            source = family.source[min(t, family.source.shape[0] - 1)]
            target = family.target[min(t, family.target.shape[0] - 1)]
            _differences(difference, here, source, target, family.grounded)
            offset = family.offset[t, min(n, family.offset.shape[1] - 1), c]
            weight = family.weight[t, min(n, family.weight.shape[1] - 1), c]
            values[p] += _respond(residual[t, p], stiffness[t, p], force, difference, offset, weight, penalty)
            _collect(slope, degree, force, stiffness[t, p], source, target, family.grounded)
        for i in range(nodes):
            gradient[p, i] += slope[i]
            diagonal[p, i] += degree[i]
