"""What is known of the minimiser of an image plane: whether it is the only one, and how near its residuals are to a kink."""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel, part
from varmorph.kernels.padded_plane import write_lanes
from varmorph.kernels.planes.energy import Plane, curvatures
from varmorph.kernels.planes.laplacian import frame, framed, reaches_known
from varmorph.kernels.planes.pieces import margin
from varmorph.kernels.planes.problem import Parameters, WindowLayout, load, room

__all__ = ["certify", "is_regular", "weights_to_known"]


@part
def weights_to_known(plane: Plane, known: Any) -> None:
    """Write the weights that join each unknown to known values."""
    known[:] = plane.ridge
    for t in range(plane.edges):
        inside = plane.inside[plane.shift[t] :]
        for j in range(known.size):
            known[j] += plane.w[t] * inside[j]
    for j in range(known.size):
        known[j] = known[j] if plane.own[j] > 0 else known.dtype.type(0)


@part
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
def certify(
    x: Any,
    y: Any,
    parameters: Parameters,
    layout: WindowLayout,
    spread: Any,
    margins: Any,
    unique: Any,
    start: int,
    stop: int,
) -> None:
    """Write distances to a kink relative to the spread, and whether the minimisers of the planes start..stop are unique.

    y becomes NaN where there is none: in planes whose spread is NaN, and where no edge of positive weight leads.
    """
    channels = x.shape[1]
    plane = room(x, layout)
    dtype, pitch, at, lanes = x.dtype, plane.pitch, frame(plane.pitch), plane.own.size
    slots = np.empty(layout.offsets.size + 2, np.int64)
    z, reached = framed(lanes, pitch, dtype), framed(lanes, pitch, np.uint8)
    known, weights = np.empty(lanes, dtype), np.empty(lanes, dtype)
    across, down = framed(lanes, pitch, dtype), framed(lanes, pitch, dtype)
    for p in range(start, stop):
        n, c = p // channels, p % channels
        plane = load(plane, x, parameters, layout, slots, n, c)
        write_lanes(z[at:], y[n, c], pitch)
        curvatures(plane, z, known, across, down)
        weights_to_known(plane, weights)
        unique[p] = is_regular(plane, known, across, down, weights, reached)
        margins[p] = margin(plane, z) / spread[p] if spread[p] != 0 else 0.0
        strange = spread[p] != spread[p]
        if strange or not reaches_known(reached, plane.own, weights, plane.across, plane.down, pitch):
            for i in range(x.shape[2]):
                for j in range(x.shape[3]):
                    if strange or reached[at + i * pitch + j] == 0:
                        y[n, c, i, j] = np.nan
