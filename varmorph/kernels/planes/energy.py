"""The energy of one image plane in a regularised dilation, its gradient and what Newton's method asks of it.

Arrays of unknowns are framed, as are those of the edges between them: see `laplacian`. Edges from
known values are those of `pulls`, edges between unknowns those of `sides`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from varmorph.kernels.compilation import part, plus
from varmorph.kernels.conjugate_gradients import STRETCH
from varmorph.kernels.penalties import Penalty
from varmorph.kernels.planes.data_edges import add_curvature, add_straightened, add_three, renew_duals
from varmorph.kernels.planes.grid_edges import renew_side_duals, side_curvatures, side_stiffnesses, straighten
from varmorph.kernels.planes.laplacian import frame, framed

__all__ = ["Plane", "State", "conductances", "copy_lanes", "curvatures", "evaluate", "renew", "state_of"]


class Plane(NamedTuple):
    """One image plane and its parameters.

    `copy` is the padded image, `inside` marks its pixels, `own` the lanes that are unknowns, `anchor` holds what the ridge
    pulls to. Edge t of `edges`, a multiple of three, reads `copy` from lane shift[t] on. `across` and `down` are the framed
    weights of the edges to the right and below.
    """

    copy: Any
    inside: Any
    own: Any
    anchor: Any
    shift: Any
    b: Any
    w: Any
    edges: int
    pull: Penalty
    ridge: Any
    across: Any
    down: Any
    between: Penalty
    pitch: int


class State(NamedTuple):
    """The energy at one point: its gradient, and stiffnesses, to known values (with the ridge), across and down."""

    gradient: Any
    known: Any
    across: Any
    down: Any


@part
def state_of(plane: Plane) -> State:
    """Make room for a state."""
    lanes, dtype = plane.own.size, plane.own.dtype
    return State(
        np.zeros(lanes, dtype),
        np.zeros(lanes, dtype),
        framed(lanes, plane.pitch, dtype),
        framed(lanes, plane.pitch, dtype),
    )


@part
def _between(plane: Plane, z: Any, across: Any, down: Any) -> float:
    """Write the stiffnesses of the edges between unknowns; return the sum of their energies."""
    total = 0.0
    for s in range(0, plane.own.size, STRETCH):
        lanes, at = min(STRETCH, plane.own.size - s), frame(plane.pitch) + s
        right, below = z[at + 1 :], z[at + plane.pitch :]
        total += side_stiffnesses(across[at:], lanes, z[at:], right, plane.across[at:], plane.between)
        total += side_stiffnesses(down[at:], lanes, z[at:], below, plane.down[at:], plane.between)
    return total


@part
def _finish(
    most: Any,
    lanes: int,
    stiff: Any,
    force: Any,
    value: Any,
    own: Any,
    anchor: Any,
    ridge: Any,
    here: Any,
    left: Any,
    right: Any,
    above: Any,
    below: Any,
    to_left: Any,
    to_right: Any,
    to_above: Any,
    to_below: Any,
    direction: Any,
    gradient: Any,
    known: Any,
) -> Any:
    """Write gradient and stiffness of some lanes; return sums of the energy, and of the gradient times a direction.

    most : greatest movement that one unknown alone would make.
    """
    zero, half = type(ridge)(0), type(ridge)(0.5)
    total = ahead = zero
    for j in range(lanes):
        mine = own[j] > 0
        z = here[j]
        away = z - anchor[j]
        stiffness = (stiff[j] + ridge) if mine else zero
        pull = (ridge * away - force[j]) if mine else zero
        total = plus(total, (value[j] + half * ridge * away * away) if mine else zero)
        flow = to_left[j] * (z - left[j]) + to_right[j] * (z - right[j])
        flow += to_above[j] * (z - above[j]) + to_below[j] * (z - below[j])
        slope = pull + flow
        diagonal = stiffness + to_left[j] + to_right[j] + to_above[j] + to_below[j]
        positive = diagonal > zero
        move = abs(slope) / diagonal if positive else zero
        most[j] = most[j] if move <= most[j] else move
        gradient[j] = slope
        known[j] = stiffness
        ahead = plus(ahead, slope * direction[j])
    return total, ahead


@part
def _add_pulls(plane: Plane, z: Any, s: int, lanes: int, stiff: Any, force: Any, value: Any) -> None:
    """Add up the stiffnesses, forces and energies of all edges from known values, at lanes from s on."""
    stiff[:lanes] = 0
    force[:lanes] = 0
    value[:lanes] = 0
    shift, b, w, x, inside = plane.shift, plane.b, plane.w, plane.copy[s:], plane.inside[s:]
    for t in range(0, plane.edges, 3):
        add_three(
            stiff,
            force,
            value,
            lanes,
            z,
            (x[shift[t] :], x[shift[t + 1] :], x[shift[t + 2] :]),
            (inside[shift[t] :], inside[shift[t + 1] :], inside[shift[t + 2] :]),
            (b[t], b[t + 1], b[t + 2]),
            (w[t], w[t + 1], w[t + 2]),
            plane.pull,
        )


@part
def evaluate(plane: Plane, z: Any, direction: Any, state: State) -> tuple[float, float, float]:
    """Write the state at z; return the energy, the gradient times a direction, and the greatest single movement."""
    dtype = plane.own.dtype
    total = _between(plane, z, state.across, state.down)
    stiff, force, value = np.empty(STRETCH, dtype), np.empty(STRETCH, dtype), np.empty(STRETCH, dtype)
    most = np.zeros(STRETCH, dtype)
    pitch, ahead = plane.pitch, 0.0
    for s in range(0, plane.own.size, STRETCH):
        lanes, at = min(STRETCH, plane.own.size - s), frame(pitch) + s
        _add_pulls(plane, z[at:], s, lanes, stiff, force, value)
        sums = _finish(
            most,
            lanes,
            stiff,
            force,
            value,
            plane.own[s:],
            plane.anchor[s:],
            plane.ridge,
            z[at:],
            z[at - 1 :],
            z[at + 1 :],
            z[at - pitch :],
            z[at + pitch :],
            state.across[at - 1 :],
            state.across[at:],
            state.down[at - pitch :],
            state.down[at:],
            direction[at:],
            state.gradient[s:],
            state.known[s:],
        )
        total += sums[0]
        ahead += sums[1]
    greatest = total - total  # NaN if anything is
    for j in range(STRETCH):
        greatest = max(greatest, most[j])
    return total, ahead, greatest


@part
def copy_lanes(target: Any, source: Any) -> None:
    """Copy an array of lanes."""
    for j in range(target.size):
        target[j] = source[j]


@part
def conductances(plane: Plane, z: Any, state: State, duals: Any, share: Any, matrix: State) -> None:
    """Write the primal-dual conductances into the matrix; `duals` are those of the pulls, across and down."""
    pulls, across, down = duals
    if pulls.size:
        for s in range(0, plane.own.size, STRETCH):
            lanes, at = min(STRETCH, plane.own.size - s), frame(plane.pitch) + s
            known = matrix.known[s:]
            known[:lanes] = 0
            for t in range(plane.edges):
                x, inside = plane.copy[s + plane.shift[t] :], plane.inside[s + plane.shift[t] :]
                add_straightened(
                    known, lanes, z[at:], x, inside, plane.b[t], plane.w[t], plane.pull, pulls[t, s:], share
                )
            for j in range(lanes):
                known[j] = (known[j] + plane.ridge) if plane.own[s + j] > 0 else known.dtype.type(0)
    else:
        copy_lanes(matrix.known, state.known)
    if across.size:
        lanes, at = plane.own.size, frame(plane.pitch)
        straighten(matrix.across[at:], lanes, state.across[at:], z[at:], z[at + 1 :], across, share, plane.between)
        straighten(matrix.down[at:], lanes, state.down[at:], z[at:], z[at + plane.pitch :], down, share, plane.between)
    else:
        copy_lanes(matrix.across, state.across)
        copy_lanes(matrix.down, state.down)


@part
def renew(plane: Plane, z: Any, step: Any, duals: Any) -> None:
    """Replace the dual variables by those after a step of z."""
    pulls, across, down = duals
    lanes, at, pitch = plane.own.size, frame(plane.pitch), plane.pitch
    if pulls.size:
        for t in range(plane.edges):
            renew_duals(pulls[t], lanes, z[at:], plane.copy[plane.shift[t] :], plane.b[t], plane.pull, step[at:])
    if across.size:
        renew_side_duals(across, lanes, z[at:], z[at + 1 :], step[at:], step[at + 1 :], plane.between)
        renew_side_duals(down, lanes, z[at:], z[at + pitch :], step[at:], step[at + pitch :], plane.between)


@part
def curvatures(plane: Plane, z: Any, known: Any, across: Any, down: Any) -> None:
    """Write the second derivatives: the conductances of the Hessian."""
    lanes, at, pitch = plane.own.size, frame(plane.pitch), plane.pitch
    known[:] = plane.ridge
    for t in range(plane.edges):
        x, inside = plane.copy[plane.shift[t] :], plane.inside[plane.shift[t] :]
        add_curvature(known, lanes, z[at:], x, inside, plane.b[t], plane.w[t], plane.pull)
    for j in range(lanes):
        known[j] = known[j] if plane.own[j] > 0 else known.dtype.type(0)
    side_curvatures(across[at:], lanes, z[at:], z[at + 1 :], plane.across[at:], plane.between)
    side_curvatures(down[at:], lanes, z[at:], z[at + pitch :], plane.down[at:], plane.between)
