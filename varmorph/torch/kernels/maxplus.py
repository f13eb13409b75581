"""Max-plus kernels: the supremum over shifted copies with the slot that attains it, and the adjoint selection.

Lanes are the cells of the padded copy in memory order, rows one after the other, so that short rows still fill the
vector unit. Slots are taken three at a time, which keeps running values in registers without unrolling whole windows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.torch.kernels.compilation import kernel
from varmorph.torch.kernels.planes import add_back, fill

__all__ = ["backward", "forward"]

BLOCK = 512


@kernel
def present_slots(bias: Any, slots: Any) -> int:
    """List the slots with finite bias, repeating the last until there are a multiple of three."""
    count = 0
    for t in range(bias.size):
        if bias[t] > -np.inf:
            slots[count] = t
            count += 1
    while count % 3:
        slots[count] = slots[count - 1]
        count += 1
    return count


@kernel
def _raise(work: Any, lanes: Any, c0: Any, c1: Any, c2: Any, b0: Any, b1: Any, b2: Any, k0: Any, k1: Any, k2: Any) -> None:
    """Replace each running maximum that one of three slots exceeds; the first NaN stays."""
    for j in range(lanes):
        best = work[j]
        slot = work[BLOCK + j]
        v = c0[j] + b0
        take = (not (v <= best)) & (best == best)
        best = v if take else best
        slot = k0 if take else slot
        v = c1[j] + b1
        take = (not (v <= best)) & (best == best)
        best = v if take else best
        slot = k1 if take else slot
        v = c2[j] + b2
        take = (not (v <= best)) & (best == best)
        best = v if take else best
        slot = k2 if take else slot
        work[j] = best
        work[BLOCK + j] = slot


@kernel
def forward(
    x: Any, sign: Any, bias: Any, rows: Any, columns: Any, offsets: Any, outside: Any, y: Any, chosen: Any, start: int, stop: int
) -> None:
    """Write y = sign * max(sign * x + bias) and the slot that attains it, for the planes start..stop.

    A window of -inf alone has no slot that attains anything: the number of slots is written.
    """
    channels = x.shape[1]
    height, width = y.shape[2], y.shape[3]
    pitch = columns.size
    cells = (height - 1) * pitch + width
    copy = np.empty(rows.size * pitch, x.dtype)
    best = np.empty(cells, x.dtype)
    slot = np.empty(cells, x.dtype)
    work = np.empty(2 * BLOCK, x.dtype)
    kind = np.empty(offsets.size + 1, x.dtype)
    for k in range(kind.size):
        kind[k] = k
    slots = np.empty(offsets.size + 2, np.int64)
    for p in range(start, stop):
        n, c = p // channels, p % channels
        fill(copy, x[n, c], rows, columns, sign, outside)
        count = present_slots(bias[c], slots)
        for s in range(0, cells, BLOCK):
            lanes = min(BLOCK, cells - s)
            work[:BLOCK] = -np.inf
            work[BLOCK:] = kind[offsets.size]
            for t in range(0, count, 3):
                t0, t1, t2 = slots[t], slots[t + 1], slots[t + 2]
                _raise(
                    work, lanes,
                    copy[s + offsets[t0] :], copy[s + offsets[t1] :], copy[s + offsets[t2] :],
                    bias[c, t0], bias[c, t1], bias[c, t2], kind[t0], kind[t1], kind[t2],
                )
            best[s : s + lanes] = work[:lanes]
            slot[s : s + lanes] = work[BLOCK : BLOCK + lanes]
        for i in range(height):
            for j in range(width):
                y[n, c, i, j] = sign * best[i * pitch + j]
                chosen[n, c, i, j] = slot[i * pitch + j]


@kernel
def _gather(grad: Any, cells: Any, g0: Any, g1: Any, g2: Any, s0: Any, s1: Any, s2: Any, k0: Any, k1: Any, k2: Any) -> None:
    """Collect, for each cell of the copy, the gradient of the outputs that chose it through one of three slots."""
    zero = grad.dtype.type(0)
    for j in range(cells):
        a = g0[j] if s0[j] == k0 else zero
        b = g1[j] if s1[j] == k1 else zero
        c = g2[j] if s2[j] == k2 else zero
        grad[j] += a + b + c


@kernel
def backward(
    grad_y: Any, chosen: Any, bias: Any, rows: Any, columns: Any, offsets: Any, grad_x: Any, grad_bias: Any, start: int, stop: int
) -> None:
    """Write the gradients of x, and of bias up to the sign as float64 sums a plane, for the planes start..stop."""
    channels = grad_y.shape[1]
    height, width = grad_y.shape[2], grad_y.shape[3]
    pitch = columns.size
    size = rows.size * pitch
    front = offsets.max()
    none = offsets.size
    copy = np.empty(size, grad_y.dtype)
    grad = np.zeros(front + size, grad_y.dtype)
    slot = np.full(front + size, none, np.int32)
    slots = np.empty(offsets.size + 2, np.int64)
    for p in range(start, stop):
        n, c = p // channels, p % channels
        for i in range(height):
            for j in range(width):
                g, k = grad_y[n, c, i, j], chosen[n, c, i, j]
                grad[front + i * pitch + j] = g
                slot[front + i * pitch + j] = k
                if k != none:
                    grad_bias[p, k] += g
        count = present_slots(bias[c], slots)
        copy[:] = 0
        for t in range(0, count, 3):
            t0, t1, t2 = slots[t], slots[t + 1], slots[t + 2]
            k1 = t1 if t1 != t0 else -1
            k2 = t2 if t2 != t1 else -1
            f0, f1, f2 = front - offsets[t0], front - offsets[t1], front - offsets[t2]
            _gather(copy, size, grad[f0:], grad[f1:], grad[f2:], slot[f0:], slot[f1:], slot[f2:], t0, k1, k2)
        add_back(grad_x[n, c], copy, rows, columns)
