"""The implicit gradient of expectiles over several channels; see `varmorph.kernels.window.expectile_gradient`.

The first pass counts the edges above the solution alone: with the problem turned upside down where tau < 1/2 these are the few
that weigh much, and what they leave of the sums over all edges is known from the window.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel, plus
from varmorph.kernels.mixing.edges import add_over_channels, add_present, copy_channels, list_edges, list_window
from varmorph.kernels.padded_plane import add_back, fill, lines_of, rounded, write_lanes
from varmorph.kernels.taps import FEW, TAPS, few, group, index, replaced

__all__ = ["backward"]

BLOCK = 1024


@kernel
def _add_above(work: Any, start: int, stop: int, z: Any, copies: Any, shift: Any, b: Any, w: Any, least: Any) -> None:
    """Add w and w r of a group of edges above the solution; `work` holds the first sum, `BLOCK` further the second.

    least : the least residual that counts as above, 0 or the number next to it. To ask for > or >= here takes three times as long.
    """
    behind = index(BLOCK)
    zero = work.dtype.type(0)
    for lane in range(stop - start):
        j, i = index(lane), index(lane + start)
        mass, spread = work[j], work[j + behind]
        for k in range(TAPS):
            r = copies[i + shift[k]] + b[k] - z[i]
            above = w[k] if r >= least else zero
            mass += above
            spread += above * r
        work[j] = mass
        work[j + behind] = spread


@kernel
def _divide(q: Any, start: int, stop: int, work: Any, total: Any, low: Any, gap: Any) -> Any:
    """Divide the gradient in q by the curvature; return the sum of q times what the edges above pull."""
    kind = q.dtype.type
    behind = index(BLOCK)
    level = kind(0)
    for lane in range(stop - start):
        j, i = index(lane), index(lane + start)
        curvature = low * total[i] + gap * work[j]
        # Lanes that are no outputs carry gradient 0 and may have no curvature; 0 / 0 must not spread from there.
        divided = q[i] / (curvature + kind(q[i] == 0))
        q[i] = divided
        level = plus(level, divided * work[j + behind])
    return level


@kernel
def _pull_back(
    grad: Any, first: int, start: int, stop: int, plain: Any, mask: Any, z: Any, q: Any, back: Any, b: Any, w: Any, tau: Any,
    cotau: Any, none: Any,
) -> Any:  # fmt: skip
    """Add w a q, which a few edges send back to each cell of the copy that begins at `first`; return the sums of a q and of a q r.

    `back` counts from a cell to the output that read it.
    """
    moved, turned = none, none
    for lane in range(start, stop):
        j, i = index(lane), index(lane + first)
        value, total = plain[i], grad[i]
        above, below = mask[j] * tau, mask[j] * cotau
        for k in range(FEW):
            r = value + b[k] - z[j + back[k]]
            part = q[j + back[k]] * (above if r >= 0 else below)
            total += w[k] * part
            moved = replaced(moved, k, plus(moved[k], part))
            turned = replaced(turned, k, plus(turned[k], part * r))
        grad[i] = total
    return moved, turned


@kernel
def _push_back(
    grad: Any, start: int, stop: int, plain: Any, mask: Any, z: Any, q: Any, shift: Any, offset: Any, b: Any, w: Any, tau: Any, cotau: Any
) -> Any:  # fmt: skip
    """Add w a q to the cell that one edge into each output reads; return the sums of a q and of a q r."""
    kind = grad.dtype.type
    moved, turned = kind(0), kind(0)
    for lane in range(start, stop):
        j = index(lane)
        r = plain[j + shift] + b - z[j]
        part = q[j] * mask[j + offset] * (tau if r >= 0 else cotau)
        grad[j + shift] += w * part
        moved = plus(moved, part)
        turned = plus(turned, part * r)
    return moved, turned


@kernel
def _send_back_by_outputs(
    grad: Any, size: int, lines: int, length: int, pitch: int, bias: Any, weight: Any, offsets: Any, plain: Any, mask: Any, z: Any,
    q: Any, tau: Any, cotau: Any, grad_bias: Any, grad_weight: Any,
) -> None:  # fmt: skip
    """Do what `_send_back` does, output by output: where windows move by more than a cell most cells send to few of them."""
    elements = offsets.size
    for m in range(bias.shape[0]):
        for t in range(elements):
            if bias[m, t] > -np.inf:
                shift, offset = index(m * size + offsets[t]), index(offsets[t])
                for line in range(lines):
                    for s in range(line * pitch, line * pitch + length, BLOCK):
                        e = min(s + BLOCK, line * pitch + length)
                        moved, turned = _push_back(
                            grad, s, e, plain, mask, z, q, shift, offset, bias[m, t], weight[m, t], tau, cotau
                        )  # fmt: skip
                        grad_bias[m * elements + t] += weight[m, t] * moved
                        grad_weight[m * elements + t] += turned


@kernel
def _send_back(
    grad: Any, size: int, lanes: int, bias: Any, weight: Any, offsets: Any, front: int, plain: Any, mask: Any, z: Any, q: Any,
    tau: Any, cotau: Any, grad_bias: Any, grad_weight: Any,
) -> None:  # fmt: skip
    """Add what one output channel sends back to the first lanes of all copies, and to its biases and weights (M * K,)."""
    dtype, elements = grad.dtype, offsets.size
    slots, back = np.zeros(elements + TAPS, np.int64), np.zeros(elements + TAPS, index)
    b, w, none = np.zeros(elements + TAPS, dtype), np.zeros(elements + TAPS, dtype), np.zeros(FEW, dtype)
    for m in range(bias.shape[0]):
        count = list_window(bias[m], weight[m], offsets, front, slots, back, b, w)
        for s in range(0, lanes, BLOCK):
            e = min(s + BLOCK, lanes)
            for t in range(0, count, FEW):
                taps = few(back, t), few(b, t), few(w, t)
                moved, turned = _pull_back(grad, m * size, s, e, plain, mask, z, q, *taps, tau, cotau, few(none, 0))
                for k in range(min(FEW, count - t)):
                    grad_bias[m * elements + slots[t + k]] += w[t + k] * moved[k]
                    grad_weight[m * elements + slots[t + k]] += turned[k]


@kernel
def backward(
    grad_y: Any,
    x: Any,
    y: Any,
    bias: Any,
    weight: Any,
    tau: Any,
    cotau: Any,
    groups: int,
    rows: Any,
    columns: Any,
    offsets: Any,
    outside: Any,
    cut: bool,
    together: int,
    grad_x: Any,
    grad_bias: Any,
    grad_weight: Any,
    grad_tau: Any,
    start: int,
    stop: int,
) -> None:
    """Write the gradient of x for the batches start..stop of `together` samples; those of the parameters as sums a batch."""
    dtype, channels, outputs = x.dtype, x.shape[1] // groups, bias.shape[0] // groups
    kind = dtype.type
    pitch = columns.size
    lines, length = lines_of(y.shape[2], y.shape[3], pitch)
    cells = (lines - 1) * pitch + length
    front = offsets.max()
    size = rounded(max(cells + front, rows.size * pitch))
    by_outputs = 3 * lines * length < 2 * rows.size * pitch
    # One by one: the rows of an array, unpacked, are taken to have any stride, and loops over them are not vectorised.
    plain, copies = np.zeros(2 * channels * size, dtype), np.zeros(2 * channels * size, dtype)
    grad = np.zeros(2 * channels * size, dtype)
    mask, barrier = np.ones(size, dtype), np.zeros(size, dtype)
    if cut:
        never = kind(-np.finfo(dtype).max / 4)
        fill(mask, np.ones((x.shape[2], x.shape[3]), dtype), rows, columns, kind(1), kind(0))
        fill(barrier, np.zeros((x.shape[2], x.shape[3]), dtype), rows, columns, kind(1), never)
    # Outputs are read from up to `front` cells before the first.
    z, q = np.zeros(front + size, dtype), np.zeros(front + size, dtype)
    at_outputs, into_outputs = z[front:], q[front:]
    turned, total, work = np.zeros(cells, dtype), np.empty(cells, dtype), np.empty(2 * BLOCK, dtype)
    room = bias.shape[1] * offsets.size + TAPS
    slots, shift, b, w = np.zeros(room, np.int64), np.zeros(room, index), np.zeros(room, dtype), np.zeros(room, dtype)
    window = np.zeros(offsets.size, dtype)
    samples = min(stop * together, x.shape[0])
    for p in range(start * together * groups, samples * groups):
        n, g = p // groups, p % groups
        batch = n // together
        copy_channels(plain, x[n, g * channels : (g + 1) * channels], rows, columns, size, outside, -outside)
        for c in range(2 * channels):
            for j in range(size):
                copies[c * size + j] = plain[c * size + j] + barrier[j]
        grad[:] = 0
        for o in range(g * outputs, (g + 1) * outputs):
            up = tau[o] >= cotau[o]
            low, gap = min(tau[o], cotau[o]), abs(tau[o] - cotau[o])
            least = kind(0) if up else np.nextafter(kind(0), kind(1))
            count = list_edges(bias[o], weight[o], offsets, channels, size, up, slots, shift, b, w)
            add_over_channels(window, slots, count, w)
            add_present(total, window, mask, offsets, cut)
            write_lanes(at_outputs, y[n, o], pitch)
            write_lanes(into_outputs, grad_y[n, o], pitch)
            for j in range(cells):
                turned[j] = at_outputs[j] if up else -at_outputs[j]
            for line in range(lines):
                for s in range(line * pitch, line * pitch + length, BLOCK):
                    e = min(s + BLOCK, line * pitch + length)
                    work[:] = 0
                    for t in range(0, count, TAPS):
                        _add_above(work, s, e, turned, copies, group(shift, t), group(b, t), group(w, t), least)
                    # At the solution the edges below pull as much as those above: what both pull is the latter over 1 - tau.
                    grad_tau[batch, o] += _divide(into_outputs, s, e, work, total, low, gap) / low
            if by_outputs:
                _send_back_by_outputs(
                    grad, size, lines, length, pitch, bias[o], weight[o], offsets, plain, mask, at_outputs, into_outputs, tau[o],
                    cotau[o], grad_bias[batch, o], grad_weight[batch, o],
                )  # fmt: skip
            else:
                _send_back(
                    grad, size, rounded(rows.size * pitch), bias[o], weight[o], offsets, front, plain, mask, z, q, tau[o],
                    cotau[o], grad_bias[batch, o], grad_weight[batch, o],
                )  # fmt: skip
        for c in range(channels):
            for j in range(size):
                grad[c * size + j] -= grad[(channels + c) * size + j]
            add_back(grad_x[n, g * channels + c], grad[c * size : (c + 1) * size], rows, columns)
