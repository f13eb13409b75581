"""One sweep of nonlinear Jacobi relaxation on an image plane: each unknown becomes the minimiser between its neighbours.

As `varmorph.torch.energy.relaxation`, for edges between unknowns with the square penalty.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import part
from varmorph.kernels.conjugate_gradients import STRETCH
from varmorph.kernels.planes.data_edges import add_curvature, add_three
from varmorph.kernels.planes.energy import Plane
from varmorph.kernels.planes.laplacian import frame

__all__ = ["relax"]

SWEEP_STEPS = 10


@part
def _slopes(plane: Plane, z: Any, trial: Any, slope: Any, curved: Any, stiff: Any, value: Any) -> None:
    """Write derivative, second derivative and stiffness of each scalar problem at its trial value."""
    at, pitch = frame(plane.pitch), plane.pitch
    for a in (slope, curved, stiff):
        a[:] = 0
    for s in range(0, plane.own.size, STRETCH):
        lanes = min(STRETCH, plane.own.size - s)
        here, x, inside = trial[at + s :], plane.copy[s:], plane.inside[s:]
        value[:] = 0
        for t in range(plane.edges):
            o = plane.shift[t]
            add_curvature(curved[s:], lanes, here, x[o:], inside[o:], plane.b[t], plane.w[t], plane.pull)
        for t in range(0, plane.edges, 3):
            o, p, q = plane.shift[t], plane.shift[t + 1], plane.shift[t + 2]
            add_three(
                stiff[s:],
                slope[s:],
                value,
                lanes,
                here,
                (x[o:], x[p:], x[q:]),
                (inside[o:], inside[p:], inside[q:]),
                (plane.b[t], plane.b[t + 1], plane.b[t + 2]),
                (plane.w[t], plane.w[t + 1], plane.w[t + 2]),
                plane.pull,
            )
    zero = plane.own.dtype.type(0)
    for j in range(plane.own.size):
        i = at + j
        left, right, above, below = plane.across[i - 1], plane.across[i], plane.down[i - pitch], plane.down[i]
        held = left + right + above + below + plane.ridge
        here = trial[i]
        pull = left * (here - z[i - 1]) + right * (here - z[i + 1]) + plane.ridge * (here - plane.anchor[j])
        pull += above * (here - z[i - pitch]) + below * (here - z[i + pitch])
        mine = plane.own[j] > 0
        slope[j] = (pull - slope[j]) if mine else zero
        curved[j] = (curved[j] + held) if mine else zero
        stiff[j] = (stiff[j] + held) if mine else zero


@part
def _step(slope: Any, curved: Any, stiff: Any) -> Any:
    """Newton's step; one of reweighted least squares where the second derivative is 0."""
    scale = curved if curved > type(slope)(1e-6) * stiff else stiff
    return slope / scale if scale > 0 else type(slope)(0)


@part
def relax(plane: Plane, z: Any, direction: Any) -> None:
    """Write the way from z to the sweep: to the minimisers over each unknown alone; z and direction are framed."""
    lanes, dtype, at = plane.own.size, plane.own.dtype, frame(plane.pitch)
    unit, half = dtype.type(4 * np.finfo(dtype).eps), dtype.type(0.5)
    slope, curved, stiff = np.empty(lanes, dtype), np.empty(lanes, dtype), np.empty(lanes, dtype)
    low, high = np.empty(lanes, dtype), np.empty(lanes, dtype)
    low[:] = -np.inf
    high[:] = np.inf
    trial, value = z.copy(), np.empty(STRETCH, dtype)
    for _ in range(SWEEP_STEPS):
        _slopes(plane, z, trial, slope, curved, stiff, value)
        moving = 0
        for j in range(lanes):
            here = trial[at + j]
            low[j] = here if slope[j] < 0 else low[j]
            high[j] = here if slope[j] > 0 else high[j]
            slope[j] = _step(slope[j], curved[j], stiff[j])
            moving += not abs(slope[j]) <= unit * abs(here)
        if moving == 0:
            break
        for j in range(lanes):
            there = trial[at + j] - slope[j]
            out = (there < low[j]) | (there > high[j])
            bracketed = (low[j] > -np.inf) & (high[j] < np.inf)
            trial[at + j] = low[j] + half * (high[j] - low[j]) if out & bracketed else there
    _slopes(plane, z, trial, slope, curved, stiff, value)
    for j in range(lanes):
        direction[at + j] = trial[at + j] - _step(slope[j], curved[j], stiff[j]) - z[at + j]
