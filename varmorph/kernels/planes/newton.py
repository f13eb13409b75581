"""Newton's method for one image plane of a regularised dilation: `varmorph.torch.Newton`, step for step.

Every loop has the stop of its plane alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from varmorph.kernels.compilation import kernel, part
from varmorph.kernels.conjugate_gradients import inner
from varmorph.kernels.padded_plane import read_lanes, write_lanes
from varmorph.kernels.planes.energy import Plane, State, conductances, copy_lanes, evaluate, renew, state_of
from varmorph.kernels.planes.laplacian import conjugate_gradients, frame, framed
from varmorph.kernels.planes.pieces import changed_pieces, extent, move_at_ties
from varmorph.kernels.planes.problem import Parameters, WindowLayout, load, room
from varmorph.kernels.planes.relaxation import relax

__all__ = ["minimise"]

MOST_CUTS = 30


class Work(NamedTuple):
    """Room for the iterations on a plane: framed arrays of unknowns, states, and the dual variables of Huber's penalty."""

    state: State
    matrix: State
    trial: Any
    direction: Any
    before: Any
    duals: Any


@part
def _work_for(plane: Plane, parameters: Parameters, edges: int) -> Work:
    lanes, pitch, dtype = plane.own.size, plane.pitch, plane.own.dtype
    between = lanes if parameters.nu.size else 0
    duals = (
        np.zeros((edges if parameters.mu.size else 0, lanes), dtype),
        np.zeros(between, dtype),
        np.zeros(between, dtype),
    )
    trial, direction, before = framed(lanes, pitch, dtype), framed(lanes, pitch, dtype), framed(lanes, pitch, dtype)
    return Work(state_of(plane), state_of(plane), trial, direction, before, duals)


@part
def _clear(work: Work) -> None:
    work.state.gradient[:] = 0
    work.direction[:] = 0
    pulls, across, down = work.duals
    pulls[:] = 0
    across[:] = 0
    down[:] = 0


@part
def _shorten(plane: Plane, z: Any, work: Work, value: float) -> tuple[float, float]:
    """Walk along a direction of descent until the energy falls; return the energy and the greatest single movement.

    z and the state become those of the point that is reached.
    """
    dtype, at, trial, direction = plane.own.dtype, frame(plane.pitch), work.trial, work.direction
    slope = inner(work.state.gradient, direction[at : at + plane.own.size])
    rounding = 32 * np.finfo(dtype).eps * value
    length, reached, move = 1.0, value, 0.0
    for _ in range(MOST_CUTS):
        share = dtype.type(length)
        for j in range(z.size):
            trial[j] = z[j] + share * direction[j]
        reached, ahead, move = evaluate(plane, trial, direction, work.state)
        fallen = reached - value
        lost = fallen <= rounding and ahead <= -0.9 * slope
        if ahead <= 0 or fallen <= 1e-4 * length * slope or lost or not np.isfinite(slope):
            break
        length *= min(max(slope / (slope - ahead), 0.1), 0.7)
    copy_lanes(z, trial)
    return reached, move


@part
def _relative(move: float, spread: float, rounding: float) -> float:
    """Relate the greatest single movement to the range of the known values; one that rounding would swallow is none."""
    return 0.0 if move <= rounding and spread == spread else move / spread


@part
def _moved(z: Any, before: Any) -> bool:
    moved = False
    for j in range(z.size):
        moved |= z[j] != before[j]
    return moved


@part
def _aim(plane: Plane, z: Any, work: Work, residual: float, tolerance: float, linear_steps: int) -> int:
    """Write the direction of a step, and the dual variables after it; return the linear steps it took."""
    at, lanes = frame(plane.pitch), plane.own.size
    matrix, right = work.matrix, work.trial[at : at + lanes]
    conductances(plane, z, work.state, work.duals, plane.own.dtype.type(0.1 * min(residual, 1.0)), matrix)
    for j in range(lanes):
        right[j] = -work.state.gradient[j]
    # Early systems are solved roughly; late ones no better than the tolerance asks for.
    forcing = min(max(min(residual, 0.1), 0.1 * tolerance / residual), 0.1)
    direction = work.direction[at : at + lanes]
    steps, _ = conjugate_gradients(
        direction, right, matrix.known, matrix.across, matrix.down, plane.pitch, forcing, linear_steps
    )
    renew(plane, z, work.direction, work.duals)
    return steps


@kernel
def minimise(
    x: Any,
    parameters: Parameters,
    layout: WindowLayout,
    z0: Any,
    tolerance: float,
    max_steps: int,
    linear_steps: int,
    y: Any,
    spreads: Any,
    residuals: Any,
    counts: Any,
    start: int,
    stop: int,
) -> None:
    """Write the minimisers of the planes start..stop, the ranges of their known values, and their residuals.

    counts : steps, linear steps, and the last step in which a residual changed to another piece of its penalty.
    """
    channels, kind = x.shape[1], x.dtype.type
    slots = np.empty(layout.offsets.size + 2, np.int64)
    plane = room(x, layout)
    work = _work_for(plane, parameters, slots.size)
    z, at = np.zeros_like(work.trial), frame(plane.pitch)
    # Kinks that concern one unknown each are settled one by one, in a sweep before each step.
    sweeps = parameters.mu.size > 0 and parameters.nu.size == 0
    for p in range(start, stop):
        n, c = p // channels, p % channels
        plane = load(plane, x, parameters, layout, slots, n, c)
        z[:] = 0
        write_lanes(z[at:], z0[n, c], plane.pitch)
        _clear(work)
        spread, rounding = extent(plane, parameters.ridge.size > 0)
        value = residual = 0.0
        steps, linear, identified, swept = -1, 0, 0, False
        while True:
            # At first the direction is 0, and only the state becomes that of z.
            value, move = _shorten(plane, z, work, value)
            if not swept:
                steps += 1
                residual = _relative(move, spread, rounding)
                if steps > 0 and changed_pieces(plane, z, work.before):
                    identified = steps
                if not residual > tolerance or steps >= max_steps or (steps > 0 and not _moved(z, work.before)):
                    break
                copy_lanes(work.before, z)
            swept = sweeps and not swept
            if swept:
                relax(plane, z, work.direction)
            else:
                linear += _aim(plane, z, work, residual, tolerance, linear_steps)
        if residual > tolerance:
            tied = move_at_ties(plane, z, work.state, kind(4 * rounding))
            residual = min(residual, _relative(tied, spread, rounding))
        spreads[p], residuals[p] = spread, residual
        counts[p, 0], counts[p, 1], counts[p, 2] = steps, linear, identified
        read_lanes(y[n, c], z[at:], plane.pitch, kind(1))
