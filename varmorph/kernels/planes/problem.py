"""A regularised dilation as the kernels get it, and its image planes one by one."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from varmorph.kernels.compilation import part
from varmorph.kernels.padded_plane import fill, rounded, write_lanes
from varmorph.kernels.penalties import Penalty
from varmorph.kernels.planes.energy import Plane
from varmorph.kernels.planes.laplacian import frame, framed

__all__ = ["Parameters", "WindowLayout", "load", "room"]


class WindowLayout(NamedTuple):
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


@part
def _penalty(tau: Any, cotau: Any, mu: Any, c: int, dtype: Any) -> Penalty:
    kind = dtype.type
    if mu.size:
        return Penalty(tau, cotau, mu[c], kind(1), mu[c])
    return Penalty(tau, cotau, kind(1), kind(0), kind(np.inf))


@part
def room(x: Any, layout: WindowLayout) -> Plane:
    """Make room for a plane."""
    height, width = x.shape[2:]
    pitch, dtype = layout.columns.size, x.dtype
    kind = dtype.type
    lanes = rounded((height - 1) * pitch + width)
    cells = max(lanes + layout.offsets.max(), layout.rows.size * pitch)
    inside, own = np.ones(cells, dtype), np.zeros(lanes, dtype)
    ones = np.ones((height, width), dtype)
    if layout.cut:
        fill(inside, ones, layout.rows, layout.columns, kind(1), kind(0))
    write_lanes(own, ones, pitch)
    slots = layout.offsets.size + 2
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


@part
def _load_data_edges(plane: Plane, bias: Any, weight: Any, offsets: Any, slots: Any) -> int:
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


@part
def _load_grid_edges(plane: Plane, strength: Any, factors: Any, n: int, c: int, height: int, width: int) -> None:
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


@part
def load(plane: Plane, x: Any, parameters: Parameters, layout: WindowLayout, slots: Any, n: int, c: int) -> Plane:
    """Write a plane and its parameters into the room; `slots` gets the numbers of the edges."""
    dtype, p = x.dtype, parameters
    kind = dtype.type
    count = _load_data_edges(plane, p.bias[c], p.weight[c], layout.offsets, slots)
    fill(plane.copy, x[n, c], layout.rows, layout.columns, kind(1), layout.outside)
    _load_grid_edges(plane, p.strength[c], p.factors, n, c, x.shape[2], x.shape[3])
    if p.ridge.size:
        for j in range(plane.anchor.size):
            plane.anchor[j] = plane.copy[layout.centre + j]
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
