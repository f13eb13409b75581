"""Max-plus kernels: the supremum over shifted copies with the slot that attains it, and the adjoint selection.

Lanes are the cells of the padded copy in memory order. Slots are taken three at a time, which keeps running values in
registers without unrolling whole windows: `shift`, `b` and `kind` hold their flat offsets, their offsets in grey value
and their numbers. Numbers of slots have the type of the image, so that values and slots fill equal vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.torch.kernels.compilation import kernel, plus
from varmorph.torch.kernels.planes import add_back, fill, read_lanes, rounded, write_lanes

__all__ = ["backward", "forward"]

BLOCK = 1024


@kernel
def _load_slots(bias: Any, offsets: Any, slots: Any, shift: Any, b: Any, kind: Any) -> int:
    """List the slots with finite bias, repeating the last until there are a multiple of three."""
    count = 0
    for t in range(bias.size):
        if bias[t] > -np.inf:
            slots[count] = t
            count += 1
    while count % 3:
        slots[count] = slots[count - 1]
        count += 1
    for t in range(count):
        shift[t] = offsets[slots[t]]
        b[t] = bias[slots[t]]
        kind[t] = slots[t]
    return count


@kernel
def _raise(work: Any, lanes: int, copy: Any, shift: Any, b: Any, kind: Any) -> None:
    """Replace each running maximum that one of three slots exceeds, with its slot; the first NaN stays."""
    x0, x1, x2 = copy[shift[0] :], copy[shift[1] :], copy[shift[2] :]
    b0, b1, b2 = b[0], b[1], b[2]
    k0, k1, k2 = kind[0], kind[1], kind[2]
    for j in range(lanes):
        best = work[j]
        slot = work[BLOCK + j]
        v = x0[j] + b0
        take = (not (v <= best)) & (best == best)
        best = v if take else best
        slot = k0 if take else slot
        v = x1[j] + b1
        take = (not (v <= best)) & (best == best)
        best = v if take else best
        slot = k1 if take else slot
        v = x2[j] + b2
        take = (not (v <= best)) & (best == best)
        best = v if take else best
        slot = k2 if take else slot
        work[j] = best
        work[BLOCK + j] = slot


@kernel
def forward(
    x: Any,
    sign: Any,
    bias: Any,
    rows: Any,
    columns: Any,
    offsets: Any,
    outside: Any,
    y: Any,
    chosen: Any,
    start: int,
    stop: int,
) -> None:
    """Write y = sign * max(sign * x + bias) and the slot that attains it, for the planes start..stop.

    A window of -inf alone has no slot that attains anything: the number of slots is written.
    """
    channels, dtype = x.shape[1], x.dtype
    pitch = columns.size
    cells = rounded((y.shape[2] - 1) * pitch + y.shape[3])
    copy = np.empty(max(cells + offsets.max(), rows.size * pitch), dtype)
    best, slot, work = np.empty(cells, dtype), np.empty(cells, dtype), np.empty(2 * BLOCK, dtype)
    slots, shift = np.empty(offsets.size + 2, np.int64), np.empty(offsets.size + 2, np.int64)
    b, kind = np.empty(offsets.size + 2, dtype), np.empty(offsets.size + 2, dtype)
    one = dtype.type(1)
    for p in range(start, stop):
        n, c = p // channels, p % channels
        count = _load_slots(bias[c], offsets, slots, shift, b, kind)
        fill(copy, x[n, c], rows, columns, sign, outside)
        for s in range(0, cells, BLOCK):
            lanes = min(BLOCK, cells - s)
            work[:BLOCK] = -np.inf
            work[BLOCK:] = offsets.size
            for t in range(0, count, 3):
                _raise(work, lanes, copy[s:], shift[t:], b[t:], kind[t:])
            best[s : s + lanes] = work[:lanes]
            slot[s : s + lanes] = work[BLOCK : BLOCK + lanes]
        read_lanes(y[n, c], best, pitch, sign)
        read_lanes(chosen[n, c], slot, pitch, one)


@kernel
def _collect(grad_x: Any, lanes: int, grad: Any, slot: Any, shift: Any, kind: Any) -> Any:
    """Give each cell of the copy the gradient of the outputs that chose it through three slots; return their sums.

    `shift` counts backwards here, from a cell to the output that read it.
    """
    zero = grad.dtype.type(0)
    g0, g1, g2 = grad[shift[0] :], grad[shift[1] :], grad[shift[2] :]
    s0, s1, s2 = slot[shift[0] :], slot[shift[1] :], slot[shift[2] :]
    k0, k1, k2 = kind[0], kind[1], kind[2]
    a, b, c = zero, zero, zero
    for j in range(lanes):
        d, e, f = g0[j], g1[j], g2[j]
        d = d if s0[j] == k0 else zero
        e = e if s1[j] == k1 else zero
        f = f if s2[j] == k2 else zero
        grad_x[j] += d + e + f
        a = plus(a, d)
        b = plus(b, e)
        c = plus(c, f)
    return a, b, c


@kernel
def backward(
    grad_y: Any,
    chosen: Any,
    bias: Any,
    rows: Any,
    columns: Any,
    offsets: Any,
    grad_x: Any,
    grad_bias: Any,
    start: int,
    stop: int,
) -> None:
    """Write the gradients of x, and of bias up to the sign as float64 sums a plane, for the planes start..stop."""
    channels, dtype = grad_y.shape[1], grad_y.dtype
    pitch = columns.size
    size, front = rounded(rows.size * pitch), offsets.max()
    copy = np.empty(size, dtype)
    # Outputs are read from up to `front` cells before the first; those that do not exist chose no slot.
    grad, slot = np.zeros(front + size, dtype), np.full(front + size, dtype.type(offsets.size))
    slots, shift = np.empty(offsets.size + 2, np.int64), np.empty(offsets.size + 2, np.int64)
    b, kind = np.empty(offsets.size + 2, dtype), np.empty(offsets.size + 2, dtype)
    for p in range(start, stop):
        n, c = p // channels, p % channels
        count = _load_slots(bias[c], offsets, slots, shift, b, kind)
        for t in range(count - 1, 0, -1):
            if slots[t] == slots[t - 1]:
                kind[t] = -1  # a repeated slot, which must not be collected twice
        shift[:count] = front - shift[:count]
        write_lanes(grad[front:], grad_y[n, c], pitch)
        write_lanes(slot[front:], chosen[n, c], pitch)
        copy[:] = 0
        for s in range(0, size, BLOCK):
            lanes = min(BLOCK, size - s)
            for t in range(0, count, 3):
                sums = _collect(copy[s:], lanes, grad[s:], slot[s:], shift[t:], kind[t:])
                for k in range(3):
                    grad_bias[p, slots[t + k]] += sums[k]
        add_back(grad_x[n, c], copy, rows, columns)
