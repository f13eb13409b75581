"""Max-plus kernels: the supremum over shifted copies with the slot that attains it, and the adjoint selection.

Slots are taken three at a time, which keeps running values in registers without unrolling whole windows. Slot numbers
are kept as floating point numbers of the width of the image, so that values and slots fill equal vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.torch.kernels.compilation import kernel, plus
from varmorph.torch.kernels.planes import add_back, fill, read_lanes, rounded, write_lanes

__all__ = ["backward", "forward"]

BLOCK = 512


@kernel
def _present(bias: Any, offsets: Any, slots: Any, shift: Any, kind: Any) -> int:
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
        kind[t] = slots[t]
    return count


@kernel
def _raise(
    work: Any, lanes: Any, x0: Any, x1: Any, x2: Any, b0: Any, b1: Any, b2: Any, k0: Any, k1: Any, k2: Any
) -> None:
    """Replace each running maximum that one of three slots exceeds; the first NaN stays."""
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
    kind = np.empty(offsets.size + 2, dtype)
    one = kind.dtype.type(1)
    for p in range(start, stop):
        n, c = p // channels, p % channels
        count = _present(bias[c], offsets, slots, shift, kind)
        fill(copy, x[n, c], rows, columns, sign, outside)
        for s in range(0, cells, BLOCK):
            lanes = min(BLOCK, cells - s)
            work[:BLOCK] = -np.inf
            work[BLOCK:] = offsets.size
            for t in range(0, count, 3):
                _raise(
                    work,
                    lanes,
                    copy[s + shift[t] :],
                    copy[s + shift[t + 1] :],
                    copy[s + shift[t + 2] :],
                    bias[c, slots[t]],
                    bias[c, slots[t + 1]],
                    bias[c, slots[t + 2]],
                    kind[t],
                    kind[t + 1],
                    kind[t + 2],
                )
            best[s : s + lanes] = work[:lanes]
            slot[s : s + lanes] = work[BLOCK : BLOCK + lanes]
        read_lanes(y[n, c], best, pitch, sign)
        read_lanes(chosen[n, c], slot, pitch, one)


@kernel
def _collect(
    grad: Any, cells: Any, g0: Any, g1: Any, g2: Any, s0: Any, s1: Any, s2: Any, k0: Any, k1: Any, k2: Any
) -> Any:
    """Give each cell of the copy the gradient of the outputs that chose it through three slots; return their sums."""
    zero = grad.dtype.type(0)
    a, b, c = zero, zero, zero
    for j in range(cells):
        d, e, f = g0[j], g1[j], g2[j]
        d = d if s0[j] == k0 else zero
        e = e if s1[j] == k1 else zero
        f = f if s2[j] == k2 else zero
        grad[j] += d + e + f
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
    grad = np.zeros(front + size, dtype)
    slot = np.full(front + size, dtype.type(offsets.size))
    slots, shift = np.empty(offsets.size + 2, np.int64), np.empty(offsets.size + 2, np.int64)
    kind = np.empty(offsets.size + 2, dtype)
    for p in range(start, stop):
        n, c = p // channels, p % channels
        count = _present(bias[c], offsets, slots, shift, kind)
        # A repeated slot must not be collected twice: no output chose slot -1.
        for t in range(count - 1, 0, -1):
            if slots[t] == slots[t - 1]:
                kind[t] = -1
        write_lanes(grad[front:], grad_y[n, c], pitch)
        write_lanes(slot[front:], chosen[n, c], pitch)
        copy[:] = 0
        for s in range(0, size, BLOCK):
            lanes = min(BLOCK, size - s)
            for t in range(0, count, 3):
                f0, f1, f2 = front - shift[t] + s, front - shift[t + 1] + s, front - shift[t + 2] + s
                sums = _collect(
                    copy[s:],
                    lanes,
                    grad[f0:],
                    grad[f1:],
                    grad[f2:],
                    slot[f0:],
                    slot[f1:],
                    slot[f2:],
                    kind[t],
                    kind[t + 1],
                    kind[t + 2],
                )
                grad_bias[p, slots[t]] += sums[0]
                grad_bias[p, slots[t + 1]] += sums[1]
                grad_bias[p, slots[t + 2]] += sums[2]
        add_back(grad_x[n, c], copy, rows, columns)
