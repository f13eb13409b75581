"""Geodesic reconstruction: sweeps over the rows while they pay, then a flood from the pixels that are left.

The value of a pixel is the least fixed point of u <- max(u, min(mask, u_{i+k} + b_k)). Every order of such steps ends
there, so the order is a matter of speed. A sweep takes the rows one after the other, reads the rows that come before as
a whole, which vectorises, and lets values run along the row. The flood takes the highest pixel first: since b <= 0, it
rises no more, and lifts its neighbours once. The sweeps are those of L. Vincent (1993), Morphological grayscale
reconstruction in image analysis, IEEE Transactions on Image Processing 2(2); with his queue, first in first out, pixels
of noise would be lifted again and again.

A plane is copied into a frame of -inf as wide as the window reaches, in which no pixel rises and none lifts another; a
pixel that is NaN becomes part of the frame. Edges are the elements of the window with finite bias but its origin, in
row-major order: `element` holds their numbers, `shift` their flat offsets in the copy, `b` their offsets in value.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel
from varmorph.kernels.threads import over_planes

__all__ = ["frame_of", "list_edges", "reconstruction"]

# Flooding from a 32nd of the pixels costs about as much as two sweeps more. These are not worth it either where the last
# two left more than three quarters of what was left before.
FLOODED_SHARE = 32


@kernel
def frame_of(height: int, width: int, bias: Any) -> tuple[int, int, int, int, int]:
    """Lay out the framed copy of a plane: its height and width, the length of a row, the first pixel, and the cells."""
    rows, columns = bias.shape[1] // 2, bias.shape[2] // 2
    pitch = width + 2 * columns
    return height, width, pitch, rows * pitch + columns, (height + 2 * rows) * pitch


@kernel
def list_edges(bias: Any, pitch: int, element: Any, shift: Any, b: Any) -> int:
    """List the edges of the window of one channel, and return their number."""
    height, width = bias.shape
    count = 0
    for t in range(height * width):
        row, column = t // width - height // 2, t % width - width // 2
        value = bias[t // width, t % width]
        if value > -np.inf and (row != 0 or column != 0):
            element[count], shift[count], b[count] = t, row * pitch + column, value
            count += 1
    return count


@kernel
def _load(marker: Any, mask: Any, sign: Any, frame: Any, u: Any, limit: Any) -> None:
    """Write the framed copies of min(marker, mask) and mask, turned upside down for sign -1."""
    height, width, pitch, first, _ = frame
    nothing = u.dtype.type(-np.inf)
    u[:] = nothing
    limit[:] = nothing
    for i in range(height):
        low, high = marker[i], mask[i]
        line, bound = u[first + i * pitch :][:width], limit[first + i * pitch :][:width]
        for j in range(width):
            a, b = sign * low[j], sign * high[j]
            number = (a == a) & (b == b)
            bound[j] = b if number else nothing
            line[j] = min(a, b) if number else nothing


@kernel
def _store(u: Any, marker: Any, mask: Any, sign: Any, frame: Any, y: Any) -> None:
    height, width, pitch, first, _ = frame
    for i in range(height):
        low, high, row = marker[i], mask[i], y[i]
        line = u[first + i * pitch :][:width]
        for j in range(width):
            row[j] = sign * line[j] if (low[j] == low[j]) & (high[j] == high[j]) else np.nan


@kernel
def _raise_row(line: Any, u: Any, start: int, shift: Any, b: Any) -> None:
    """Raise a row to what its edges offer."""
    for t in range(shift.size):
        near, offset = u[start + shift[t] :][: line.size], b[t]
        for j in range(line.size):
            offered = near[j] + offset
            line[j] = offered if offered > line[j] else line[j]


@kernel
def _run_along(u: Any, limit: Any, cell: int, width: int, step: Any, direction: int) -> None:
    """Let values run along a row: each pixel is offered its predecessor's value plus `step`."""
    before = u.dtype.type(-np.inf)
    for _ in range(width):
        offered, value = before + step, u[cell]
        value = offered if offered > value else value
        before = value if value < limit[cell] else limit[cell]
        u[cell] = before
        cell += direction


@kernel
def _sweep(u: Any, limit: Any, frame: Any, element: Any, shift: Any, b: Any, bias: Any) -> None:
    """Raise the rows from top to bottom, each from left to right, and back."""
    height, width, pitch, first, _ = frame
    row, column = bias.shape[0] // 2, bias.shape[1] // 2
    never = bias.dtype.type(-np.inf)
    from_left = bias[row, column - 1] if column > 0 else never
    from_right = bias[row, column + 1] if column + 1 < bias.shape[1] else never
    above = below = 0  # edges to pixels of the row further away than the next one are left to the flood
    for t in element:
        above += t < row * bias.shape[1]
        below += t < (row + 1) * bias.shape[1]
    for i in range(height):
        start = first + i * pitch
        _raise_row(u[start : start + width], u, start, shift[:above], b[:above])
        _run_along(u, limit, start, width, from_left, 1)
    for i in range(height - 1, -1, -1):
        start = first + i * pitch
        _raise_row(u[start : start + width], u, start, shift[below:], b[below:])
        _run_along(u, limit, start + width - 1, width, from_right, -1)


@kernel
def _list_rising(u: Any, limit: Any, frame: Any, shift: Any, b: Any, best: Any, rising: Any) -> int:
    """Raise each pixel that an edge still raises, list these pixels, and return their number."""
    height, width, pitch, first, _ = frame
    count = 0
    for i in range(height):
        start = first + i * pitch
        line, bound = u[start : start + width], limit[start : start + width]
        for j in range(width):
            best[j] = line[j]
        _raise_row(best, u, start, shift, b)
        here = 0
        for j in range(width):
            best[j] = best[j] if best[j] < bound[j] else bound[j]
            here += best[j] > line[j]
        if here:
            for j in range(width):
                if best[j] > line[j]:
                    line[j] = best[j]
                    rising[count] = start + j
                    count += 1
    return count


@kernel
def _move_up(key: Any, heap: Any, place: Any, i: int, value: Any, cell: int) -> None:
    """Put a cell at place i of the heap or above, where no value below it is higher."""
    while i > 0 and key[(i - 1) // 2] < value:
        above = (i - 1) // 2
        key[i], heap[i] = key[above], heap[above]
        place[heap[i]] = i
        i = above
    key[i], heap[i], place[cell] = value, cell, i


@kernel
def _move_down(key: Any, heap: Any, place: Any, length: int, i: int, value: Any, cell: int) -> None:
    """Put a cell at place i of the heap or below, where no value below it is higher."""
    while 2 * i + 1 < length:
        below = 2 * i + 1
        below += below + 1 < length and key[below + 1] > key[below]
        if key[below] <= value:
            break
        key[i], heap[i] = key[below], heap[below]
        place[heap[i]] = i
        i = below
    key[i], heap[i], place[cell] = value, cell, i


@kernel
def _flood(u: Any, limit: Any, shift: Any, b: Any, key: Any, heap: Any, place: Any, length: int) -> None:
    """Let the cells of the heap lift their neighbours, which join them, the highest first, until there are none.

    `key` holds their values, `place` the place in the heap of every cell, -1 for those that are not in it.
    """
    for t in range(length):
        key[t], place[heap[t]] = u[heap[t]], t
    for t in range(length // 2 - 1, -1, -1):
        _move_down(key, heap, place, length, t, key[t], heap[t])
    while length:
        cell, value = heap[0], key[0]
        place[cell] = -1
        length -= 1
        if length:
            _move_down(key, heap, place, length, 0, key[length], heap[length])
        for t in range(shift.size):
            target, offered = cell - shift[t], value + b[t]
            if offered > u[target] and limit[target] > u[target]:
                u[target] = min(offered, limit[target])
                if place[target] < 0:
                    place[target] = length
                    length += 1
                _move_up(key, heap, place, place[target], u[target], target)


@kernel
def _reconstruct(marker: Any, mask: Any, bias: Any, sign: Any, y: Any, start: int, stop: int) -> None:
    """Write the reconstruction, by erosion for sign -1, of the planes start..stop."""
    channels, dtype, size = mask.shape[1], mask.dtype, bias[0].size
    frame = frame_of(mask.shape[2], mask.shape[3], bias)
    height, width, pitch, _, cells = frame
    u, limit, best = np.empty(cells, dtype), np.empty(cells, dtype), np.empty(width, dtype)
    heap, key, place = np.empty(height * width, np.int64), np.empty(height * width, dtype), np.full(cells, -1)
    element, shift, b = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, dtype)
    for p in range(start, stop):
        n, c = p // channels, p % channels
        count = list_edges(bias[c], pitch, element, shift, b)
        edges = shift[:count], b[:count]
        _load(marker[n, c], mask[n, c], sign, frame, u, limit)
        left, before = height * width, 2 * height * width
        while left > height * width // FLOODED_SHARE and 4 * left <= 3 * before:
            before = left
            _sweep(u, limit, frame, element[:count], *edges, bias[c])
            left = _list_rising(u, limit, frame, *edges, best, heap)
        _flood(u, limit, *edges, key, heap, place, left)
        _store(u, marker[n, c], mask[n, c], sign, frame, y[n, c])


def reconstruction(marker: np.ndarray, mask: np.ndarray, bias: np.ndarray, sign: int) -> np.ndarray:
    """Reconstruct a mask from a marker, images (N, C, H, W); by erosion for sign -1."""
    y = np.empty_like(mask)

    def run(start: int, stop: int) -> None:
        _reconstruct(marker, mask, bias, y.dtype.type(sign), y, start, stop)

    over_planes(run, y.shape[0] * y.shape[1], y.size)
    return y
