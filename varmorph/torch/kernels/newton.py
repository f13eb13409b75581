"""Newton's method for one image plane of a regularised dilation: `varmorph.torch.Newton`, step for step.

Every loop has the stop of its plane alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.torch.kernels.compilation import kernel
from varmorph.torch.kernels.laplacian import conjugate_gradients, frame, inner
from varmorph.torch.kernels.plane_energy import (
    Plane,
    State,
    changed_pieces,
    conductances,
    copy_lanes,
    evaluate,
    extent,
    move_at_ties,
    renew,
    state_of,
)
from varmorph.torch.kernels.sweeps import relax

__all__ = ["minimise"]

MOST_CUTS = 30


@kernel
def _shorten(plane: Plane, z: Any, direction: Any, state: State, value: float, trial: Any) -> tuple[float, float]:
    """Walk along a direction of descent until the energy falls; return the energy and the greatest single movement.

    z and the state become those of the point that is reached.
    """
    dtype, at = plane.own.dtype, frame(plane.pitch)
    slope = inner(state.gradient, direction[at : at + plane.own.size])
    rounding = 32 * np.finfo(dtype).eps * value
    length, reached, move = 1.0, value, 0.0
    for _ in range(MOST_CUTS):
        share = dtype.type(length)
        for j in range(z.size):
            trial[j] = z[j] + share * direction[j]
        reached, ahead, move = evaluate(plane, trial, direction, state)
        fallen = reached - value
        lost = fallen <= rounding and ahead <= -0.9 * slope
        if ahead <= 0 or fallen <= 1e-4 * length * slope or lost or not np.isfinite(slope):
            break
        length *= min(max(slope / (slope - ahead), 0.1), 0.7)
    copy_lanes(z, trial)
    return reached, move


@kernel
def _relative(move: float, spread: float, rounding: float) -> float:
    """Relate the greatest single movement to the range of the known values; one that rounding would swallow is none."""
    return 0.0 if move <= rounding and spread == spread else move / spread


@kernel
def _moved(z: Any, before: Any) -> bool:
    moved = False
    for j in range(z.size):
        moved |= z[j] != before[j]
    return moved


@kernel
def minimise(
    plane: Plane, ridged: bool, z: Any, tolerance: float, max_steps: int, linear_steps: int
) -> tuple[float, float, int, int, int]:
    """Move z (framed) to the minimiser; return range, residual, steps, linear steps, and the last step with a change.

    A change is that of a residual to another piece of its penalty.
    """
    lanes, pitch, dtype, at = plane.own.size, plane.pitch, plane.own.dtype, frame(plane.pitch)
    spread, rounding = extent(plane, ridged)
    state, matrix = state_of(plane), state_of(plane)
    trial, direction, before = np.zeros_like(z), np.zeros_like(z), np.zeros_like(z)
    pulled = plane.pull.straight > 0
    sweeps = pulled and plane.between.straight == 0
    duals = (
        np.zeros((plane.edges if pulled else 0, lanes), dtype),
        np.zeros(lanes if plane.between.straight > 0 else 0, dtype),
        np.zeros(lanes if plane.between.straight > 0 else 0, dtype),
    )
    value = residual = 0.0
    steps, linear, identified, swept = -1, 0, 0, False
    while True:
        # At first the direction is 0, and only the state becomes that of z.
        value, move = _shorten(plane, z, direction, state, value, trial)
        if not swept:
            steps += 1
            residual = _relative(move, spread, rounding)
            if steps > 0 and changed_pieces(plane, z, before):
                identified = steps
            if not residual > tolerance or steps >= max_steps or (steps > 0 and not _moved(z, before)):
                break
            copy_lanes(before, z)
            if sweeps:
                relax(plane, z, direction)
                swept = True
                continue
        swept = False
        conductances(plane, z, state, duals, dtype.type(0.1 * min(residual, 1.0)), matrix)
        for j in range(lanes):
            trial[at + j] = -state.gradient[j]
        forcing = min(max(min(residual, 0.1), 0.1 * tolerance / residual), 0.1)
        linear += conjugate_gradients(
            direction[at : at + lanes],
            trial[at : at + lanes],
            matrix.known,
            matrix.across,
            matrix.down,
            pitch,
            forcing,
            linear_steps,
        )[0]
        renew(plane, z, direction, duals)
    if residual > tolerance:
        tied = move_at_ties(plane, z, state, dtype.type(4 * rounding))
        residual = min(residual, _relative(tied, spread, rounding))
    return spread, residual, steps, linear, identified
