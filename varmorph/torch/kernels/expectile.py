"""Separable expectile kernels: Newton's method on blocks of lanes, and the implicit gradient.

Lanes are the cells of the padded copy in memory order, as in the max-plus kernels. Where tau < 1/2 the problem is
turned upside down (x, b, y change sign, tau becomes 1 - tau), so that Newton always climbs and

    z <- ((1 - tau) A + (2 tau - 1) sum_{v_k >= z} w_k v_k) / ((1 - tau) W + (2 tau - 1) sum_{v_k >= z} w_k)

with A = sum w v and W = sum w over the edges that exist, taken once. An absent edge reads a number so low that it
never counts as above: the rounds need no mask.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.torch.kernels.compilation import kernel
from varmorph.torch.kernels.planes import add_back, fill

__all__ = ["backward", "forward"]

BLOCK = 256


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
def _add_totals(copy: Any, mask: Any, cells: Any, shift: Any, b: Any, w: Any, count: int, a: Any, total: Any, offset: Any) -> None:
    """Write A = sum w x + sum w b; if `mask` is not empty, first sum w and w b over the edges inside the image."""
    if mask.size:
        total[:] = 0
        offset[:] = 0
        for t in range(count):
            inside = mask[shift[t] :]
            wt, wb = w[t], w[t] * b[t]
            for j in range(cells):
                total[j] += wt * inside[j]
                offset[j] += wb * inside[j]
    a[:] = offset
    for t in range(0, count, 3):
        c0, c1, c2 = copy[shift[t] :], copy[shift[t + 1] :], copy[shift[t + 2] :]
        w0, w1, w2 = w[t], w[t + 1], w[t + 2]
        for j in range(cells):
            a[j] += w0 * c0[j] + w1 * c1[j] + w2 * c2[j]


@kernel
def _add_above(work: Any, lanes: Any, c0: Any, c1: Any, c2: Any, b0: Any, b1: Any, b2: Any, w0: Any, w1: Any, w2: Any) -> None:
    """Add w v and w of the edges whose value is at least the estimate: work is (estimate, sum w v, sum w)."""
    zero = work.dtype.type(0)
    for j in range(lanes):
        z = work[j]
        v0 = c0[j] + b0
        v1 = c1[j] + b1
        v2 = c2[j] + b2
        s0 = w0 if v0 >= z else zero
        s1 = w1 if v1 >= z else zero
        s2 = w2 if v2 >= z else zero
        work[BLOCK + j] += s0 * v0 + s1 * v1 + s2 * v2
        work[2 * BLOCK + j] += s0 + s1 + s2


@kernel
def _climb(work: Any, lanes: Any, a: Any, total: Any, low: Any, gap: Any) -> int:
    """Take the Newton step where it goes up, and count those that moved: going down is rounding."""
    moved = 0
    for j in range(lanes):
        z = work[j]
        step = (low * a[j] + gap * work[BLOCK + j]) / (low * total[j] + gap * work[2 * BLOCK + j])
        up = step > z
        work[j] = step if up else z
        moved += up
    return moved


@kernel
def forward(
    x: Any, bias: Any, weight: Any, tau: Any, cotau: Any, rows: Any, columns: Any, offsets: Any, outside: Any, cut: bool, y: Any, start: int, stop: int
) -> None:
    """Write the expectile of each window for the planes start..stop, counted channel by channel."""
    samples, channels = x.shape[0], x.shape[1]
    height, width = y.shape[2], y.shape[3]
    pitch = columns.size
    cells = (height - 1) * pitch + width
    kind = x.dtype.type
    copy = np.empty(rows.size * pitch, x.dtype)
    mask = np.empty(copy.size if cut else 0, x.dtype)
    if cut:
        fill(mask, np.ones((x.shape[2], x.shape[3]), x.dtype), rows, columns, kind(1), kind(0))
    never = kind(-np.finfo(x.dtype).max / 4)
    a, total = np.empty(cells, x.dtype), np.empty(cells, x.dtype)
    offset, z = np.empty(cells, x.dtype), np.empty(cells, x.dtype)
    work = np.empty(3 * BLOCK, x.dtype)
    slots = np.empty(offsets.size + 2, np.int64)
    shift = np.empty(offsets.size + 2, np.int64)
    b = np.empty(offsets.size + 2, x.dtype)
    w = np.empty(offsets.size + 2, x.dtype)
    channel = -1
    count = 0
    for p in range(start, stop):
        c, n = p // samples, p % samples
        sign = kind(1) if tau[c] >= cotau[c] else kind(-1)
        low, gap = min(tau[c], cotau[c]), abs(tau[c] - cotau[c])
        if c != channel:
            count = load_edges(bias[c], weight[c], offsets, sign, slots, shift, b, w)
            total[:] = w[:count].sum()
            offset[:] = (w[:count] * b[:count]).sum()
        fill(copy, x[n, c], rows, columns, sign, sign * outside)
        _add_totals(copy, mask if c != channel else mask[:0], cells, shift, b, w, count, a, total, offset)
        channel = c
        if cut:
            for j in range(copy.size):
                copy[j] = copy[j] if mask[j] > 0 else never
        for s in range(0, cells, BLOCK):
            lanes = min(BLOCK, cells - s)
            for j in range(lanes):
                work[j] = a[s + j] / total[s + j]
            for _ in range(count):
                work[BLOCK:] = 0
                for t in range(0, count, 3):
                    _add_above(
                        work, lanes,
                        copy[s + shift[t] :], copy[s + shift[t + 1] :], copy[s + shift[t + 2] :],
                        b[t], b[t + 1], b[t + 2], w[t], w[t + 1], w[t + 2],
                    )
                if _climb(work, lanes, a[s:], total[s:], low, gap) == 0:
                    break
            z[s : s + lanes] = work[:lanes]
        for i in range(height):
            for j in range(width):
                y[n, c, i, j] = sign * z[i * pitch + j]


@kernel
def _add_curvature(
    cells: Any, estimate: Any, curvature: Any, spread: Any, c0: Any, c1: Any, c2: Any, m0: Any, m1: Any, m2: Any, b0: Any, b1: Any, b2: Any, w0: Any, w1: Any, w2: Any, tau: Any, cotau: Any
) -> None:
    """Add w a and w abs(r) of three edges at every output."""
    for j in range(cells):
        z = estimate[j]
        r0 = c0[j] + b0 - z
        r1 = c1[j] + b1 - z
        r2 = c2[j] + b2 - z
        w0m = w0 * m0[j]
        w1m = w1 * m1[j]
        w2m = w2 * m2[j]
        curvature[j] += (
            w0m * (tau if r0 >= 0 else cotau) + w1m * (tau if r1 >= 0 else cotau) + w2m * (tau if r2 >= 0 else cotau)
        )
        spread[j] += w0m * abs(r0) + w1m * abs(r1) + w2m * abs(r2)


@kernel
def _pull_back(
    size: Any, grad: Any, copy: Any, mask: Any, z: Any, q: Any, b: Any, w: Any, tau: Any, cotau: Any, sum_b: Any, sum_w: Any
) -> None:
    """Add what one edge family sends back to the cells; keep q a and q a r for its offset and weight."""
    for j in range(size):
        r = copy[j] + b - z[j]
        e = q[j] * mask[j] * (tau if r >= 0 else cotau)
        grad[j] += w * e
        sum_b[j] = e
        sum_w[j] = e * r


@kernel
def backward(
    grad_y: Any, x: Any, y: Any, bias: Any, weight: Any, tau: Any, cotau: Any, rows: Any, columns: Any, offsets: Any, outside: Any, cut: bool,
    grad_x: Any, grad_bias: Any, grad_weight: Any, grad_tau: Any, start: int, stop: int,
) -> None:
    """Write the implicit gradients for the planes start..stop; those of the parameters as float64 sums a plane."""
    samples, channels = x.shape[0], x.shape[1]
    height, width = y.shape[2], y.shape[3]
    pitch = columns.size
    cells = (height - 1) * pitch + width
    size = rows.size * pitch
    front = offsets.max()
    kind = x.dtype.type
    copy = np.empty(size, x.dtype)
    mask = np.ones(size, x.dtype)
    if cut:
        fill(mask, np.ones((x.shape[2], x.shape[3]), x.dtype), rows, columns, kind(1), kind(0))
    z = np.zeros(front + size, x.dtype)
    q = np.zeros(front + size, x.dtype)
    grad, sum_b, sum_w = np.empty(size, x.dtype), np.empty(size, x.dtype), np.empty(size, x.dtype)
    curvature, spread = np.empty(cells, x.dtype), np.empty(cells, x.dtype)
    slots = np.empty(offsets.size + 2, np.int64)
    shift = np.empty(offsets.size + 2, np.int64)
    b = np.empty(offsets.size + 2, x.dtype)
    w = np.empty(offsets.size + 2, x.dtype)
    for p in range(start, stop):
        c, n = p // samples, p % samples
        plane = n * channels + c
        count = load_edges(bias[c], weight[c], offsets, kind(1), slots, shift, b, w)
        fill(copy, x[n, c], rows, columns, kind(1), outside)
        for i in range(height):
            for j in range(width):
                z[front + i * pitch + j] = y[n, c, i, j]
        curvature[:] = 0
        spread[:] = 0
        for t in range(0, count, 3):
            i0, i1, i2 = shift[t], shift[t + 1], shift[t + 2]
            _add_curvature(
                cells, z[front:], curvature, spread, copy[i0:], copy[i1:], copy[i2:], mask[i0:], mask[i1:], mask[i2:],
                b[t], b[t + 1], b[t + 2], w[t], w[t + 1], w[t + 2], tau[c], cotau[c],
            )
        level = 0.0
        for i in range(height):
            for j in range(width):
                k = i * pitch + j
                q[front + k] = grad_y[n, c, i, j] / curvature[k]
                level += q[front + k] * spread[k]
        grad_tau[plane] = level
        grad[:] = 0
        for t in range(count):
            if t > 0 and slots[t] == slots[t - 1]:
                continue
            back = front - shift[t]
            _pull_back(size, grad, copy, mask, z[back:], q[back:], b[t], w[t], tau[c], cotau[c], sum_b, sum_w)
            grad_bias[plane, slots[t]] = w[t] * sum_b.sum()
            grad_weight[plane, slots[t]] = sum_w.sum()
        add_back(grad_x[n, c], grad, rows, columns)
