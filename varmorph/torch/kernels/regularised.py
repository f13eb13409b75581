"""Regularised dilation, plane by plane: the minimiser, and the derivatives of a loss through it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from varmorph.torch.kernels.compilation import kernel
from varmorph.torch.kernels.laplacian import frame, framed, reaches_known
from varmorph.torch.kernels.newton import minimise
from varmorph.torch.kernels.plane_energy import Plane, curvatures, margin
from varmorph.torch.kernels.planes import fill, read_lanes, rounded, write_lanes
from varmorph.torch.kernels.pulls import Penalty

__all__ = ["Parameters", "Sight", "forward"]


class Sight(NamedTuple):
    """What the window sees: the maps of the padded copy to pixels, the offsets of the slots, that of the pixel itself.

    `cut` tells that edges from outside the image are absent; elsewhere they read `outside`.
    """

    rows: Any
    columns: Any
    offsets: Any
    centre: int
    outside: Any
    cut: bool


class Parameters(NamedTuple):
    """Parameters of the energy: bias, weight (C, T); factors (N, 1 or C, 2, H, W); the others (C,), empty for none."""

    bias: Any
    weight: Any
    tau: Any
    cotau: Any
    strength: Any
    mu: Any
    factors: Any
    nu: Any
    ridge: Any


@kernel
def _penalty(tau: Any, cotau: Any, mu: Any, c: int, dtype: Any) -> Penalty:
    kind = dtype.type
    if mu.size:
        return Penalty(tau, cotau, mu[c], kind(1), mu[c])
    return Penalty(tau, cotau, kind(1), kind(0), kind(np.inf))


@kernel
def room(x: Any, sight: Sight) -> Plane:
    """Make room for a plane."""
    height, width = x.shape[2:]
    pitch, dtype = sight.columns.size, x.dtype
    kind = dtype.type
    lanes = rounded((height - 1) * pitch + width)
    cells = max(lanes + sight.offsets.max(), sight.rows.size * pitch)
    inside, own = np.ones(cells, dtype), np.zeros(lanes, dtype)
    ones = np.ones((height, width), dtype)
    if sight.cut:
        fill(inside, ones, sight.rows, sight.columns, kind(1), kind(0))
    write_lanes(own, ones, pitch)
    slots = sight.offsets.size + 2
    none = _penalty(kind(1), kind(1), own[:0], 0, dtype)
    return Plane(
        np.zeros(cells, dtype),
        inside,
        own,
        np.zeros(lanes, dtype),
        np.empty(slots, np.int64),
        np.empty(slots, dtype),
        np.empty(slots, dtype),
        0,
        none,
        kind(0),
        framed(lanes, pitch, dtype),
        framed(lanes, pitch, dtype),
        none,
        pitch,
    )


@kernel
def _load_pulls(plane: Plane, bias: Any, weight: Any, offsets: Any, slots: Any) -> int:
    """List the edges with finite offset, filled up to a multiple of three with edges of weight 0; return their number."""
    count = 0
    for t in range(offsets.size):
        if bias[t] > -np.inf:
            slots[count] = t
            plane.shift[count], plane.b[count], plane.w[count] = offsets[t], bias[t], weight[t]
            count += 1
    while count % 3:
        slots[count] = slots[count - 1]
        plane.shift[count], plane.b[count], plane.w[count] = plane.shift[count - 1], 0, 0
        count += 1
    return count


@kernel
def _load_sides(plane: Plane, strength: Any, factors: Any, n: int, c: int, height: int, width: int) -> None:
    """Write the weights of the edges between unknowns; the last row and column have none."""
    one = plane.own.dtype.type(1)
    given = factors.size > 0
    for i in range(height):
        first = frame(plane.pitch) + i * plane.pitch
        for j in range(width):
            below = factors[n, c % factors.shape[1], 0, i, j] if given else one
            right = factors[n, c % factors.shape[1], 1, i, j] if given else one
            if i < height - 1:
                plane.down[first + j] = strength * below
            if j < width - 1:
                plane.across[first + j] = strength * right


@kernel
def load(plane: Plane, x: Any, parameters: Parameters, sight: Sight, slots: Any, n: int, c: int) -> Plane:
    """Write a plane and its parameters into the room; `slots` gets the numbers of the edges."""
    dtype, p = x.dtype, parameters
    kind = dtype.type
    count = _load_pulls(plane, p.bias[c], p.weight[c], sight.offsets, slots)
    fill(plane.copy, x[n, c], sight.rows, sight.columns, kind(1), sight.outside)
    _load_sides(plane, p.strength[c], p.factors, n, c, x.shape[2], x.shape[3])
    if p.ridge.size:
        for j in range(plane.anchor.size):
            plane.anchor[j] = plane.copy[sight.centre + j]
    return Plane(
        plane.copy,
        plane.inside,
        plane.own,
        plane.anchor,
        plane.shift,
        plane.b,
        plane.w,
        count,
        _penalty(p.tau[c], p.cotau[c], p.mu, c, dtype),
        p.ridge[c] if p.ridge.size else kind(0),
        plane.across,
        plane.down,
        _penalty(kind(1), kind(1), p.nu, c, dtype),
        plane.pitch,
    )


@kernel
def weights_to_known(plane: Plane, known: Any) -> None:
    """Write the weights that join each unknown to known values."""
    known[:] = plane.ridge
    for t in range(plane.edges):
        inside = plane.inside[plane.shift[t] :]
        for j in range(known.size):
            known[j] += plane.w[t] * inside[j]
    for j in range(known.size):
        known[j] = known[j] if plane.own[j] > 0 else known.dtype.type(0)


@kernel
def is_regular(plane: Plane, known: Any, across: Any, down: Any, weights: Any, reached: Any) -> bool:
    """Tell whether the Hessian, given by its conductances, is regular on the unknowns that have an edge at all."""
    if reaches_known(reached, plane.own, known, across, down, plane.pitch):
        return True
    at, pitch = frame(plane.pitch), plane.pitch
    for j in range(plane.own.size):
        if plane.own[j] > 0 and reached[at + j] == 0:
            i = at + j
            total = weights[j] + plane.across[i - 1] + plane.across[i] + plane.down[i - pitch] + plane.down[i]
            if total > 0:
                return False
    return True


@kernel
def forward(
    x: Any,
    parameters: Parameters,
    sight: Sight,
    z0: Any,
    tolerance: float,
    max_steps: int,
    linear_steps: int,
    y: Any,
    numbers: Any,
    counts: Any,
    start: int,
    stop: int,
) -> None:
    """Write the minimisers of the planes start..stop, and what is known of each.

    numbers : residual, distance to a kink relative to the range.  counts : steps, linear steps, last step with a change,
    whether the minimiser is unique.
    """
    channels = x.shape[1]
    plane = room(x, sight)
    dtype, pitch, at, lanes = x.dtype, plane.pitch, frame(plane.pitch), plane.own.size
    one = dtype.type(1)
    slots = np.empty(sight.offsets.size + 2, np.int64)
    z, reached = framed(lanes, pitch, dtype), framed(lanes, pitch, np.uint8)
    known, weights = np.empty(lanes, dtype), np.empty(lanes, dtype)
    across, down = framed(lanes, pitch, dtype), framed(lanes, pitch, dtype)
    for p in range(start, stop):
        n, c = p // channels, p % channels
        plane = load(plane, x, parameters, sight, slots, n, c)
        z[:] = 0
        write_lanes(z[at:], z0[n, c], pitch)
        ridged = parameters.ridge.size > 0
        spread, residual, steps, linear, identified = minimise(plane, ridged, z, tolerance, max_steps, linear_steps)
        curvatures(plane, z, known, across, down)
        weights_to_known(plane, weights)
        unique = is_regular(plane, known, across, down, weights, reached)
        distance = margin(plane, z) / spread if spread != 0 else 0.0
        numbers[p, 0], numbers[p, 1] = residual, distance
        counts[p, 0], counts[p, 1], counts[p, 2], counts[p, 3] = steps, linear, identified, unique
        if spread != spread:
            z[:] = np.nan
        elif not reaches_known(reached, plane.own, weights, plane.across, plane.down, pitch):
            for j in range(lanes):
                if reached[at + j] == 0:
                    z[at + j] = np.nan
        read_lanes(y[n, c], z[at:], pitch, one)
