"""The separable expectile kernel: Newton's method on blocks of lanes.

Lanes are the cells of the padded copy in memory order, edges are taken three at a time: `shift`, `b` and `w` hold their
flat offsets, the offsets added to the values, and the weights. Where tau < 1/2 the forward problem is turned upside
down (x, b, y change sign, tau becomes 1 - tau), so that Newton always climbs and

    z <- ((1 - tau) A + (2 tau - 1) sum_{v_k >= z} w_k v_k) / ((1 - tau) W + (2 tau - 1) sum_{v_k >= z} w_k)

with A = sum w v and W = sum w over the edges that exist, taken once. An absent edge reads a number so low that it
never counts as above: the rounds need no mask.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.torch.kernels.compilation import kernel, plus
from varmorph.torch.kernels.planes import fill, read_lanes, rounded

__all__ = ["forward", "load_edges"]

BLOCK = 256  # lanes that iterate together: few, so that they need few rounds


@kernel
def load_edges(bias: Any, weight: Any, offsets: Any, sign: Any, slots: Any, shift: Any, b: Any, w: Any) -> int:
    """List the edges with finite offset, filled up to a multiple of three with edges of weight 0."""
    count = 0
    for t in range(bias.size):
        if bias[t] > -np.inf:
            slots[count] = t
            shift[count] = offsets[t]
            b[count] = sign * bias[t]
            w[count] = weight[t]
            count += 1
    while count % 3:
        slots[count] = slots[count - 1]
        shift[count] = shift[count - 1]
        b[count] = 0
        w[count] = 0
        count += 1
    return count


@kernel
def _add_present(mask: Any, cells: int, shift: Any, b: Any, w: Any, count: int, total: Any, offset: Any) -> None:
    """Write W = sum w and sum w b over the edges that start inside the image, for each output."""
    total[:] = 0
    offset[:] = 0
    for t in range(count):
        inside = mask[shift[t] :]
        wt, wb = w[t], w[t] * b[t]
        for j in range(cells):
            total[j] += wt * inside[j]
            offset[j] += wb * inside[j]


@kernel
def _add_moments(a: Any, lanes: int, copy: Any, shift: Any, w: Any) -> None:
    """Add w x of three edges."""
    x0, x1, x2 = copy[shift[0] :], copy[shift[1] :], copy[shift[2] :]
    w0, w1, w2 = w[0], w[1], w[2]
    for j in range(lanes):
        a[j] += w0 * x0[j] + w1 * x1[j] + w2 * x2[j]


@kernel
def _add_above(work: Any, lanes: int, copy: Any, shift: Any, b: Any, w: Any) -> None:
    """Add w v and w of three edges where v is at least the estimate: work is (estimate, sum w v, sum w)."""
    zero = work.dtype.type(0)
    x0, x1, x2 = copy[shift[0] :], copy[shift[1] :], copy[shift[2] :]
    b0, b1, b2 = b[0], b[1], b[2]
    w0, w1, w2 = w[0], w[1], w[2]
    for j in range(lanes):
        z = work[j]
        v0 = x0[j] + b0
        v1 = x1[j] + b1
        v2 = x2[j] + b2
        s0 = w0 if v0 >= z else zero
        s1 = w1 if v1 >= z else zero
        s2 = w2 if v2 >= z else zero
        work[BLOCK + j] += s0 * v0 + s1 * v1 + s2 * v2
        work[2 * BLOCK + j] += s0 + s1 + s2


@kernel
def _climb(work: Any, lanes: int, before: Any, a: Any, total: Any, low: Any, gap: Any) -> Any:
    """Take the Newton step where it goes up, and count the lanes that moved: going down is rounding.

    `before` repeats the estimates in `work`: read from there, their store stays an ordinary one. Read and stored at one
    place it becomes a masked store, which is slow on some processors.
    """
    kind = work.dtype.type
    moved = kind(0)
    for j in range(lanes):
        z = before[j]
        step = (low * a[j] + gap * work[BLOCK + j]) / (low * total[j] + gap * work[2 * BLOCK + j])
        work[j] = max(z, step)
        moved = plus(moved, kind(step > z))
        work[BLOCK + j] = kind(0)
        work[2 * BLOCK + j] = kind(0)
    return moved


@kernel
def _raise_greatest(work: Any, lanes: int, copy: Any, shift: Any, b: Any) -> None:
    """Raise the second part of work to the values of three edges."""
    x0, x1, x2 = copy[shift[0] :], copy[shift[1] :], copy[shift[2] :]
    b0, b1, b2 = b[0], b[1], b[2]
    for j in range(lanes):
        v0 = x0[j] + b0
        v1 = x1[j] + b1
        v2 = x2[j] + b2
        greatest = work[BLOCK + j]
        greatest = v0 if v0 > greatest else greatest
        greatest = v1 if v1 > greatest else greatest
        greatest = v2 if v2 > greatest else greatest
        work[BLOCK + j] = greatest


@kernel
def _keep_below(z: Any, lanes: int, work: Any, a: Any, total: Any) -> None:
    """Keep the estimate off the greatest value, which it reaches by rounding only: see `minimise_expectile`."""
    unit = z.dtype.type(np.finfo(z.dtype).eps)
    for j in range(lanes):
        estimate, greatest = work[j], work[BLOCK + j]
        mean = a[j] / total[j]
        below = greatest - unit * max(abs(greatest), greatest - mean)
        z[j] = below if (estimate >= greatest) & (greatest > mean) else estimate


@kernel
def _solve(
    z: Any,
    cells: int,
    copy: Any,
    shift: Any,
    b: Any,
    w: Any,
    count: int,
    a: Any,
    total: Any,
    low: Any,
    gap: Any,
    never: Any,
    work: Any,
) -> None:
    """Write the greatest root of the Newton map, block by block, starting from the mean A / W."""
    weighted = np.where(w > 0, b, never)
    for s in range(0, cells, BLOCK):
        lanes = min(BLOCK, cells - s)
        for j in range(lanes):
            z[s + j] = a[s + j] / total[s + j]
        work[:lanes] = z[s : s + lanes]
        work[BLOCK:] = 0
        for _ in range(count):
            for t in range(0, count, 3):
                _add_above(work, lanes, copy[s:], shift[t:], b[t:], w[t:])
            if _climb(work, lanes, z[s:], a[s:], total[s:], low, gap) == 0:
                break
            z[s : s + lanes] = work[:lanes]
        work[BLOCK : 2 * BLOCK] = 4 * never
        for t in range(0, count, 3):
            _raise_greatest(work, lanes, copy[s:], shift[t:], weighted[t:])
        _keep_below(z[s:], lanes, work, a[s:], total[s:])


@kernel
def forward(
    x: Any,
    bias: Any,
    weight: Any,
    tau: Any,
    cotau: Any,
    rows: Any,
    columns: Any,
    offsets: Any,
    outside: Any,
    cut: bool,
    y: Any,
    start: int,
    stop: int,
) -> None:
    """Write the expectile of each window for the planes start..stop, counted channel by channel.

    `cut` tells that edges from outside the image are absent; elsewhere they read `outside`.
    """
    samples, dtype = x.shape[0], x.dtype
    kind = dtype.type
    pitch = columns.size
    cells = rounded((y.shape[2] - 1) * pitch + y.shape[3])
    copy = np.empty(max(cells + offsets.max(), rows.size * pitch), dtype)
    never = kind(-np.finfo(dtype).max / 4)
    mask, barrier = np.empty_like(copy), np.empty_like(copy)
    fill(mask, np.ones((x.shape[2], x.shape[3]), dtype), rows, columns, kind(1), kind(0))
    fill(barrier, np.zeros((x.shape[2], x.shape[3]), dtype), rows, columns, kind(1), never)
    a, total, offset, z = np.empty(cells, dtype), np.empty(cells, dtype), np.empty(cells, dtype), np.empty(cells, dtype)
    work = np.empty(3 * BLOCK, dtype)
    slots, shift = np.empty(offsets.size + 2, np.int64), np.empty(offsets.size + 2, np.int64)
    b, w = np.empty(offsets.size + 2, dtype), np.empty(offsets.size + 2, dtype)
    channel = -1
    count = 0
    for p in range(start, stop):
        c, n = p // samples, p % samples
        sign = kind(1) if tau[c] >= cotau[c] else kind(-1)
        if c != channel:
            channel = c
            count = load_edges(bias[c], weight[c], offsets, sign, slots, shift, b, w)
            total[:] = w[:count].sum()
            offset[:] = (w[:count] * b[:count]).sum()
            if cut:
                _add_present(mask, cells, shift, b, w, count, total, offset)
        fill(copy, x[n, c], rows, columns, sign, sign * outside)
        a[:] = offset
        for t in range(0, count, 3):
            _add_moments(a, cells, copy, shift[t:], w[t:])
        if cut:
            copy += barrier
        low, gap = min(tau[c], cotau[c]), abs(tau[c] - cotau[c])
        _solve(z, cells, copy, shift, b[:count], w[:count], count, a, total, low, gap, never, work)
        read_lanes(y[n, c], z, pitch, sign)
