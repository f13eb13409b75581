"""The implicit gradient of the separable expectile: the signs of the residuals are found again from the solution.

With a_k = tau where r_k = v_k - y >= 0 and 1 - tau elsewhere, S = sum w a and q = dL/dy / S, neighbour k receives
w_k a_k q, its weight a_k r_k q, and tau sum_k w_k abs(r_k) q. A first pass over the outputs finds S, a second one over
the cells of the padded copy asks, for each edge, the output that read the cell: nothing is scattered.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.torch.kernels.compilation import kernel, plus
from varmorph.torch.kernels.expectile import load_edges
from varmorph.torch.kernels.planes import add_back, fill, rounded, write_lanes

__all__ = ["backward"]

STRETCH = 1024  # lanes taken at once: many, to share the cost of starting a loop


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
        count = load_edges(bias[c], weight[c], offsets, kind(1), slots, shift, b, w)
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
