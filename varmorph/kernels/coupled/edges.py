"""Sums over the edges of an energy, and conjugate gradients with its Laplacian: for edges of every kind.

One problem has `nodes` unknowns in one list. A family of edges has slots x positions of them: edge (t, m) of problem p leads
from source[t, m] to target[t, m]; both lists have one row if all slots share it. The number `nodes` stands for what is
known, and counts as 0. Sums run in the order of the edges, and a problem belongs to one thread.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from varmorph.kernels.compilation import kernel, part, plus
from varmorph.kernels.coupled.laplacian import begin, inner, proceed
from varmorph.kernels.coupled.pulls import Penalty
from varmorph.kernels.coupled.pulls import energy as energy_of
from varmorph.kernels.coupled.pulls import stiffness as stiffness_of

__all__ = ["Family", "evaluate", "solve"]


class Family(NamedTuple):
    """One family of edges: offset and weight (slots, N or 1, C, positions), its penalty, and its ends.

    The penalty's numbers are (N, C): tau, 1 - tau, and the mu of `pulls`, and where it turns
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


@part
def _product(image: Any, v: Any, conductance: Any, source: Any, target: Any, known: Any, p: int) -> float:
    """Write the product of the Laplacian with v, and return the inner product of both."""
    nodes = v.size - 1
    for i in range(nodes):
        image[i] = known[p, i] * v[i]
    for t in range(conductance.shape[0]):
        flows, sources, targets = (
            conductance[t, p],
            source[min(t, source.shape[0] - 1)],
            target[min(t, target.shape[0] - 1)],
        )
        for m in range(flows.size):
            i, j = sources[m], targets[m]
            flow = flows[m] * (v[i] - v[j])
            image[i] += flow
            image[j] -= flow
    return inner(v[:nodes], image[:nodes])


@kernel
def solve(
    right: Any,
    conductance: Any,
    source: Any,
    target: Any,
    known: Any,
    diagonal: Any,
    tolerance: Any,
    max_steps: int,
    value: Any,
    steps: Any,
    norms: Any,
    start: int,
    stop: int,
) -> None:
    """Solve the systems of the problems start..stop."""
    nodes, dtype = right.shape[1], right.dtype
    image, v = np.zeros(nodes + 1, dtype), np.zeros(nodes + 1, dtype)
    inverse, residual = np.empty(nodes, dtype), np.empty(nodes, dtype)
    direction = v[:nodes]
    for p in range(start, stop):
        inverse[:] = diagonal[p]
        size, ahead, norm = begin(right[p], inverse, residual, direction)
        value[p] = 0
        count = 0
        while count < max_steps and norm > tolerance[p]:
            curvature = _product(image, v, conductance, source, target, known, p)
            ahead, norm = proceed(value[p], residual, direction, image[:nodes], inverse, curvature, ahead)
            count += 1
        value[p] *= dtype.type(size)
        steps[p], norms[p] = count, norm
