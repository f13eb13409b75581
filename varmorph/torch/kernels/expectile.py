"""Separable expectile kernels: Newton's method on blocks of lanes, and the implicit gradient.

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
from varmorph.torch.kernels.planes import add_back, fill, read_lanes, rounded, write_lanes

__all__ = ["backward", "forward"]

BLOCK = 256  # lanes that iterate together: few, so that they need few rounds
STRETCH = 1024  # lanes of the backward pass taken at once: many, to share the cost of starting a loop


@kernel
def _load_edges(bias: Any, weight: Any, offsets: Any, sign: Any, slots: Any, shift: Any, b: Any, w: Any) -> int:
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
            count = _load_edges(bias[c], weight[c], offsets, sign, slots, shift, b, w)
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


@kernel
def _add_curvature(
    curvature: Any,
    spread: Any,
    lanes: int,
    z: Any,
    copy: Any,
    mask: Any,
    shift: Any,
    b: Any,
    w: Any,
    tau: Any,
    cotau: Any,
) -> None:
    """Add w a and w abs(r) of three edges at every output."""
    x0, x1, x2 = copy[shift[0] :], copy[shift[1] :], copy[shift[2] :]
    m0, m1, m2 = mask[shift[0] :], mask[shift[1] :], mask[shift[2] :]
    b0, b1, b2 = b[0], b[1], b[2]
    w0, w1, w2 = w[0], w[1], w[2]
    for j in range(lanes):
        r0 = x0[j] + b0 - z[j]
        r1 = x1[j] + b1 - z[j]
        r2 = x2[j] + b2 - z[j]
        p0 = w0 * m0[j]
        p1 = w1 * m1[j]
        p2 = w2 * m2[j]
        a0 = tau if r0 >= 0 else cotau
        a1 = tau if r1 >= 0 else cotau
        a2 = tau if r2 >= 0 else cotau
        curvature[j] += p0 * a0 + p1 * a1 + p2 * a2
        spread[j] += p0 * abs(r0) + p1 * abs(r1) + p2 * abs(r2)


@kernel
def _divide(q: Any, lanes: int, curvature: Any, spread: Any) -> Any:
    """Divide the gradient in q by the curvature; return the sum of q * spread."""
    kind = q.dtype.type
    level = kind(0)
    for j in range(lanes):
        # Lanes that are no outputs carry gradient 0 and may have no curvature; 0 / 0 must not spread from there.
        divided = q[j] / (curvature[j] + kind(q[j] == 0))
        q[j] = divided
        level = plus(level, divided * spread[j])
    return level


@kernel
def _pull_back(
    grad: Any, lanes: int, copy: Any, mask: Any, z: Any, q: Any, shift: Any, b: Any, w: Any, tau: Any, cotau: Any
) -> Any:
    """Add w a q, which three edges send back to each cell; return the sums of a q and of a q r for each edge.

    `shift` counts backwards here, from a cell to the output that read it.
    """
    zero = grad.dtype.type(0)
    z0, z1, z2 = z[shift[0] :], z[shift[1] :], z[shift[2] :]
    q0, q1, q2 = q[shift[0] :], q[shift[1] :], q[shift[2] :]
    b0, b1, b2 = b[0], b[1], b[2]
    w0, w1, w2 = w[0], w[1], w[2]
    e0, e1, e2, f0, f1, f2 = zero, zero, zero, zero, zero, zero
    for j in range(lanes):
        r0 = copy[j] + b0 - z0[j]
        r1 = copy[j] + b1 - z1[j]
        r2 = copy[j] + b2 - z2[j]
        p0 = q0[j] * mask[j] * (tau if r0 >= 0 else cotau)
        p1 = q1[j] * mask[j] * (tau if r1 >= 0 else cotau)
        p2 = q2[j] * mask[j] * (tau if r2 >= 0 else cotau)
        grad[j] += w0 * p0 + w1 * p1 + w2 * p2
        e0 = plus(e0, p0)
        e1 = plus(e1, p1)
        e2 = plus(e2, p2)
        f0 = plus(f0, p0 * r0)
        f1 = plus(f1, p1 * r1)
        f2 = plus(f2, p2 * r2)
    return e0, e1, e2, f0, f1, f2


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
    """Write the implicit gradients for the planes start..stop; those of the parameters as float64 sums a plane."""
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
    grad, curvature, spread = np.empty(size, dtype), np.empty(cells, dtype), np.empty(cells, dtype)
    slots, shift = np.empty(offsets.size + 2, np.int64), np.empty(offsets.size + 2, np.int64)
    b, w = np.empty(offsets.size + 2, dtype), np.empty(offsets.size + 2, dtype)
    for p in range(start, stop):
        c, n = p // samples, p % samples
        plane = n * channels + c
        count = _load_edges(bias[c], weight[c], offsets, kind(1), slots, shift, b, w)
        fill(copy, x[n, c], rows, columns, kind(1), outside)
        write_lanes(z[front:], y[n, c], pitch)
        write_lanes(q[front:], grad_y[n, c], pitch)
        curvature[:] = 0
        spread[:] = 0
        for s in range(0, cells, STRETCH):
            lanes = min(STRETCH, cells - s)
            for t in range(0, count, 3):
                _add_curvature(
                    curvature[s:],
                    spread[s:],
                    lanes,
                    z[front + s :],
                    copy[s:],
                    mask[s:],
                    shift[t:],
                    b[t:],
                    w[t:],
                    tau[c],
                    cotau[c],
                )
            grad_tau[plane] += _divide(q[front + s :], lanes, curvature[s:], spread[s:])
        grad[:] = 0
        shift[:count] = front - shift[:count]
        for s in range(0, size, STRETCH):
            lanes = min(STRETCH, size - s)
            for t in range(0, count, 3):
                sums = _pull_back(
                    grad[s:], lanes, copy[s:], mask[s:], z[s:], q[s:], shift[t:], b[t:], w[t:], tau[c], cotau[c]
                )
                for k in range(3):
                    if t + k == 0 or slots[t + k] != slots[t + k - 1]:
                        grad_bias[plane, slots[t + k]] += w[t + k] * sums[k]
                        grad_weight[plane, slots[t + k]] += sums[3 + k]
        add_back(grad_x[n, c], grad, rows, columns)
