"""Planes interleaved: the pixels of several planes at one place lie side by side, so that short rows fill the vector unit.

A *bundle* is the padded copy of so many planes; cell (r, c) of plane l stands at (r * pitch + c) * planes + l. What a row of
outputs computes is one line of width * planes lanes, none of which is lost. Every lane has parameters of its own, which repeat
along the line with the planes: they are laid out for as many columns as fill a block. Images are (planes, H * W).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from varmorph.kernels.compilation import part
from varmorph.kernels.taps import THREE, index

__all__ = [
    "BLOCK",
    "FLUSHED",
    "Bundles",
    "add_back",
    "bundles_of",
    "fill",
    "read",
    "shifts_of",
    "write",
]

BLOCK = 128  # lanes that are computed together
CELLS = 200  # of a padded copy: of larger ones the rows fill the vector unit by themselves
FEWEST, MOST = 8, 64  # planes of a bundle
FLUSHED = 16  # rows of outputs whose sums are added in the precision of the image


class Bundles(NamedTuple):
    """How planes fall into bundles: planes of one, number of bundles, and columns of a block."""

    planes: int
    number: int
    columns: int


def bundles_of(samples: int, channels: int, cells: int) -> Bundles | None:
    """Choose bundles for images whose padded copy has so many cells; None where they would not pay.

    The channels of a bundle repeat from one bundle to the next where that can be, so that what depends on channels alone is
    computed once.

    Examples
    --------
    >>> bundles_of(32, 8, 100)
    Bundles(planes=64, number=4, columns=2)
    >>> bundles_of(32, 8, 1000) is None
    True
    """
    planes = samples * channels
    if planes < FEWEST or cells > CELLS:
        return None
    dividing = (some for some in range(FEWEST, MOST + 1, 8) if channels % some == 0)
    size = channels * (MOST // channels) if channels <= MOST else max(dividing, default=MOST)
    size = min(size, -(-planes // 8) * 8)
    return Bundles(size, -(-planes // size), max(1, BLOCK // size))


@part
def shifts_of(offsets: Any, planes: int) -> Any:
    """Give the distances of the edges' ends in a bundle; the last is repeated until groups are full."""
    shift = np.empty((offsets.size + THREE - 1) // THREE * THREE, index)
    for t in range(shift.size):
        shift[t] = offsets[min(t, offsets.size - 1)] * planes
    return shift


@part
def fill(
    copy: Any, x: Any, width: int, first: int, planes: int, rows: Any, columns: Any, sign: Any, outside: Any
) -> None:
    """Write sign * x of a bundle into its padded copy, what is `outside` where the index maps leave the image.

    Lanes beyond the last plane repeat it.
    """
    final = x.shape[0] - 1
    for r in range(rows.size):
        for c in range(columns.size):
            cell = (r * columns.size + c) * planes
            line = copy[cell : cell + planes]
            if rows[r] < 0 or columns[c] < 0:
                for k in range(planes):
                    line[k] = outside[k]
            else:
                pixel = rows[r] * width + columns[c]
                for k in range(planes):
                    line[k] = sign[k] * x[min(first + k, final), pixel]


@part
def read(y: Any, lanes: Any, start: int, first: int, planes: int, pixel: int, count: int, sign: Any) -> None:
    """Write sign * lanes, from `start` on, into so many pixels of a bundle; adding 0 turns -0 into 0."""
    zero = lanes.dtype.type(0)
    for c in range(count):
        line = lanes[start + c * planes : start + (c + 1) * planes]
        for k in range(min(planes, y.shape[0] - first)):
            y[first + k, pixel + c] = sign[k] * line[k] + zero


@part
def write(lanes: Any, start: int, y: Any, first: int, planes: int, pixel: int, count: int) -> None:
    """Write so many pixels of a bundle into lanes, from `start` on; 0 for lanes beyond the last plane."""
    zero = lanes.dtype.type(0)
    present = min(planes, y.shape[0] - first)
    for c in range(count):
        line = lanes[start + c * planes : start + (c + 1) * planes]
        for k in range(present):
            line[k] = y[first + k, pixel + c]
        for k in range(present, planes):
            line[k] = zero


@part
def add_back(x: Any, copy: Any, width: int, first: int, planes: int, rows: Any, columns: Any) -> None:
    """Write into the pixels of a bundle the sums of the cells that were read from them."""
    present = min(planes, x.shape[0] - first)
    x[first : first + present] = 0
    for r in range(rows.size):
        for c in range(columns.size):
            if rows[r] >= 0 and columns[c] >= 0:
                cell, pixel = (r * columns.size + c) * planes, rows[r] * width + columns[c]
                line = copy[cell : cell + planes]
                for k in range(present):
                    x[first + k, pixel] += line[k]
