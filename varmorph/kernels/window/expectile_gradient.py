"""The implicit gradient of the separable expectile: the signs of the residuals are found again from the solution.

With a_k = tau where r_k = v_k - y >= 0 and 1 - tau elsewhere, S = sum w a and q = dL/dy / S, neighbour k receives
w_k a_k q, its weight a_k r_k q, and tau sum_k w_k abs(r_k) q. A first pass over the outputs finds S, a second one over
the cells of the padded copy asks, for each edge, the output that read the cell: nothing is scattered.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel, plus
from varmorph.kernels.padded_plane import add_back, fill, rounded, write_lanes
from varmorph.kernels.taps import FEW, TAPS, few, group, index, replaced
from varmorph.kernels.window.expectile import list_edges

__all__ = ["backward"]

BLOCK = 1024


@kernel
def _add_curvature(
    work: Any, start: int, stop: int, z: Any, copy: Any, mask: Any, shift: Any, b: Any, w: Any, tau: Any, cotau: Any
) -> None:
    """Add w a and w abs(r) of a group of edges at every output; `work` holds the first sum, `BLOCK` further the second."""
    behind = index(BLOCK)
    for lane in range(stop - start):
        j, i = index(lane), index(lane + start)
        curvature, spread = work[j], work[j + behind]
        for k in range(TAPS):
            r = copy[i + shift[k]] + b[k] - z[i]
            present = w[k] * mask[i + shift[k]]
            curvature += present * (tau if r >= 0 else cotau)
            spread += present * abs(r)
        work[j] = curvature
        work[j + behind] = spread


@kernel
def _divide(q: Any, start: int, stop: int, work: Any) -> Any:
    """Divide the gradient in q by the curvature; return the sum of q * spread."""
    kind = q.dtype.type
    behind = index(BLOCK)
    level = kind(0)
    for lane in range(stop - start):
        j, i = index(lane), index(lane + start)
        # Lanes that are no outputs carry gradient 0 and may have no curvature; 0 / 0 must not spread from there.
        divided = q[i] / (work[j] + kind(q[i] == 0))
        q[i] = divided
        level = plus(level, divided * work[j + behind])
    return level


@kernel
def _pull_back(
    grad: Any, start: int, stop: int, copy: Any, mask: Any, z: Any, q: Any, back: Any, b: Any, w: Any, tau: Any,
    cotau: Any, none: Any,
) -> Any:  # fmt: skip
    """Add w a q, which a few edges send back to each cell; return the sums of a q and of a q r for each edge.

    `back` counts from a cell to the output that read it.
    """
    moved, turned = none, none
    for lane in range(start, stop):
        j = index(lane)
        value, total = copy[j], grad[j]
        above, below = mask[j] * tau, mask[j] * cotau
        for k in range(FEW):
            r = value + b[k] - z[j + back[k]]
            part = q[j + back[k]] * (above if r >= 0 else below)
            total += w[k] * part
            moved = replaced(moved, k, plus(moved[k], part))
            turned = replaced(turned, k, plus(turned[k], part * r))
        grad[j] = total
    return moved, turned


@kernel
def backward(
    grad_y: Any,
    x: Any,
    y: Any,
    bias: Any,
    weight: Any,
    tau: Any,
    cotau: Any,
    rows: Any,
    columns: Any,
    offsets: Any,
    outside: Any,
    cut: bool,
    grad_x: Any,
    grad_bias: Any,
    grad_weight: Any,
    grad_tau: Any,
    start: int,
    stop: int,
) -> None:
    """Write the gradient of x for the planes start..stop; those of the parameters as float64 sums a plane."""
    samples, channels, dtype = x.shape[0], x.shape[1], x.dtype
    kind = dtype.type
    pitch = columns.size
    cells = rounded((y.shape[2] - 1) * pitch + y.shape[3])
    front = offsets.max()
    size = max(rounded(rows.size * pitch), cells)
    copy, mask = np.empty(size + front, dtype), np.ones(size + front, dtype)
    if cut:
        fill(mask, np.ones((x.shape[2], x.shape[3]), dtype), rows, columns, kind(1), kind(0))
    # Outputs are read from up to `front` cells before the first.
    z, q = np.zeros(front + size, dtype), np.zeros(front + size, dtype)
    at_outputs, into_outputs = z[front:], q[front:]
    grad, work, none = np.empty(size, dtype), np.empty(2 * BLOCK, dtype), np.zeros(FEW, dtype)
    room = offsets.size + TAPS
    slots, shift, b, w = np.zeros(room, np.int64), np.zeros(room, index), np.zeros(room, dtype), np.zeros(room, dtype)
    for p in range(start, stop):
        c, n = p // samples, p % samples
        plane = n * channels + c
        count = list_edges(bias[c], weight[c], offsets, kind(1), slots, shift, b, w)
        fill(copy, x[n, c], rows, columns, kind(1), outside)
        write_lanes(at_outputs, y[n, c], pitch)
        write_lanes(into_outputs, grad_y[n, c], pitch)
        for s in range(0, cells, BLOCK):
            e = min(s + BLOCK, cells)
            work[:] = 0
            for t in range(0, count, TAPS):
                taps = group(shift, t), group(b, t), group(w, t)
                _add_curvature(work, s, e, at_outputs, copy, mask, *taps, tau[c], cotau[c])
            grad_tau[plane] += _divide(into_outputs, s, e, work)
        grad[:] = 0
        for t in range(room):
            shift[t] = front - shift[t]
        for s in range(0, size, BLOCK):
            e = min(s + BLOCK, size)
            for t in range(0, count, FEW):
                taps = few(shift, t), few(b, t), few(w, t)
                moved, turned = _pull_back(grad, s, e, copy, mask, z, q, *taps, tau[c], cotau[c], few(none, 0))
                for k in range(min(FEW, count - t)):
                    grad_bias[plane, slots[t + k]] += w[t + k] * moved[k]
                    grad_weight[plane, slots[t + k]] += turned[k]
        add_back(grad_x[n, c], grad, rows, columns)
