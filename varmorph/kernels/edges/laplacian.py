"""Linear systems with the Laplacian of any edges, by conjugate gradients; problems and edges as in `sums`."""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel, part
from varmorph.kernels.conjugate_gradients import begin, inner, proceed

__all__ = ["solve"]


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
        size, unit, ahead, norm = begin(right[p], inverse, residual, direction)
        value[p] = 0
        count = 0
        while count < max_steps and norm > tolerance[p]:
            curvature = _product(image, v, conductance, source, target, known, p)
            ahead, norm = proceed(value[p], residual, direction, image[:nodes], inverse, curvature, ahead)
            count += 1
        value[p] = value[p] * dtype.type(size) * dtype.type(unit)
        steps[p], norms[p] = count, norm
