"""The provenance gradient of a reconstruction: paths from each pixel to the pixel it is a copy of, and sums along them.

A pixel that equals its marker or its mask is a root. From the roots, level by level, a pixel joins that is the copy
u_i = u_{i+k} + b_k of a pixel of the last level, by the first edge k in row-major order: paths have the fewest steps
possible. They follow from the result alone, not from the way in which it was found. Sums run from the last level back.
Frames and edges are those of `kernels.reconstruction`; the frame and pixels that are NaN hold NaN, which equals nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel
from varmorph.kernels.reconstruction import frame_of, list_edges
from varmorph.kernels.threads import over_planes

__all__ = ["reconstruction_backward"]


@kernel
def _load(marker: Any, mask: Any, y: Any, sign: Any, frame: Any, u: Any, root: Any, goal: Any) -> None:
    """Write the framed copies of sign * y: of all pixels, with NaN in place of all but roots, and in place of roots."""
    height, width, pitch, first, _ = frame
    nan = u.dtype.type(np.nan)
    for copy in (u, root, goal):
        copy[:] = nan
    for i in range(height):
        low, high, value = marker[i], mask[i], y[i]
        start = first + i * pitch
        line, of_root, of_goal = u[start:][:width], root[start:][:width], goal[start:][:width]
        for j in range(width):
            is_root = (value[j] == low[j]) | (value[j] == high[j])
            line[j] = sign * value[j]
            of_root[j] = line[j] if is_root else nan
            of_goal[j] = nan if is_root else line[j]


@kernel
def _join_roots(root: Any, goal: Any, frame: Any, shift: Any, b: Any, chosen: Any, cells: Any, edge: Any) -> int:
    """List the pixels that are copies of a root beside them, and their edges: a row at a time, which vectorises."""
    height, width, pitch, first, _ = frame
    count = 0
    for i in range(height):
        start = first + i * pitch
        wanted = goal[start : start + width]
        chosen[:] = -1
        for t in range(shift.size - 1, -1, -1):
            near, offset = root[start + shift[t] :][:width], b[t]
            for j in range(width):
                chosen[j] = t if near[j] + offset == wanted[j] else chosen[j]
        for j in range(width):
            if chosen[j] >= 0:
                cells[count], edge[count] = start + j, chosen[j]
                wanted[j] = np.nan
                count += 1
    return count


@kernel
def _join(u: Any, goal: Any, shift: Any, b: Any, cells: Any, edge: Any, count: int) -> int:
    """Append level after level to the list of pixels and edges, which holds the first, and return its length."""
    level, end = 0, count
    while level < end:
        for t in range(shift.size):
            for q in range(level, end):
                target = cells[q] - shift[t]
                if u[cells[q]] + b[t] == goal[target]:
                    cells[count], edge[count] = target, t
                    goal[target] = np.nan
                    count += 1
        level, end = end, count
    return count


@kernel
def _sum_to_roots(total: Any, cells: Any, edge: Any, count: int, shift: Any, element: Any, uses: Any) -> None:
    """Move the sum of each pixel to the one it is a copy of, the last first, and add it to what its edge got."""
    for q in range(count - 1, -1, -1):
        value, t = total[cells[q]], edge[q]
        total[cells[q] + shift[t]] += value
        total[cells[q]] = 0
        uses[element[t]] += value


@kernel
def _load_gradient(grad_y: Any, frame: Any, total: Any) -> None:
    height, width, pitch, first, _ = frame
    for i in range(height):
        line, row = total[first + i * pitch :][:width], grad_y[i]
        for j in range(width):
            line[j] = row[j]


@kernel
def _store_gradients(total: Any, mask: Any, y: Any, frame: Any, grad_marker: Any, grad_mask: Any) -> None:
    """Write what the roots got; all other pixels got nothing. A root that equals its mask is of the mask."""
    height, width, pitch, first, _ = frame
    for i in range(height):
        line, value, high = total[first + i * pitch :][:width], y[i], mask[i]
        of_marker, of_mask = grad_marker[i], grad_mask[i]
        for j in range(width):
            reached = value[j] == high[j]
            of_marker[j] = 0 if reached else line[j]
            of_mask[j] = line[j] if reached else 0


@kernel
def _give_back(
    grad_y: Any, marker: Any, mask: Any, y: Any, bias: Any, sign: Any, grad_marker: Any, grad_mask: Any, grad_bias: Any,
    start: int, stop: int,
) -> None:  # fmt: skip
    """Write the gradients for the planes start..stop; that of bias up to the sign, as float64 sums a plane."""
    channels, dtype, size = mask.shape[1], mask.dtype, bias[0].size
    frame = frame_of(mask.shape[2], mask.shape[3], bias)
    height, width, pitch, _, cells = frame
    u, root, goal = np.empty(cells, dtype), np.empty(cells, dtype), np.empty(cells, dtype)
    total, chosen = np.empty(cells), np.empty(width, np.int32)
    joined, edge = np.empty(height * width, np.int64), np.empty(height * width, np.int32)
    element, shift, b = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, dtype)
    for p in range(start, stop):
        n, c = p // channels, p % channels
        count = list_edges(bias[c], pitch, element, shift, b)
        edges = shift[:count], b[:count]
        _load(marker[n, c], mask[n, c], y[n, c], sign, frame, u, root, goal)
        count = _join_roots(root, goal, frame, *edges, chosen, joined, edge)
        count = _join(u, goal, *edges, joined, edge, count)
        _load_gradient(grad_y[n, c], frame, total)
        _sum_to_roots(total, joined, edge, count, edges[0], element, grad_bias[p])
        _store_gradients(total, mask[n, c], y[n, c], frame, grad_marker[n, c], grad_mask[n, c])


def reconstruction_backward(
    grad_y: np.ndarray, marker: np.ndarray, mask: np.ndarray, y: np.ndarray, bias: np.ndarray, sign: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give the gradient of each pixel to the pixel of marker or mask it is a copy of, and to bias along the way."""
    samples, channels = y.shape[:2]
    grad_marker, grad_mask = np.empty_like(marker), np.empty_like(mask)
    grad_bias = np.zeros((samples * channels, bias[0].size))

    def run(start: int, stop: int) -> None:
        _give_back(
            grad_y, marker, mask, y, bias, grad_mask.dtype.type(sign), grad_marker, grad_mask, grad_bias, start, stop
        )

    over_planes(run, samples * channels, y.size)
    by_bias = sign * grad_bias.reshape(samples, *bias.shape).sum(0)
    return grad_marker, grad_mask, by_bias.astype(bias.dtype)
