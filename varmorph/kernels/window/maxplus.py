"""Max-plus kernels: the supremum over shifted copies with the slot that attains it, and the adjoint selection.

Lanes are the cells of the padded copy in memory order. Numbers of slots have the type of the image, so that values and
slots fill equal vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel, plus
from varmorph.kernels.padded_plane import add_back, fill, holds_nan, read_lanes, rounded, write_lanes
from varmorph.kernels.taps import TAPS, group, index, list_slots, replaced
from varmorph.kernels.window.flat import is_flat, search_flat

__all__ = ["backward", "forward", "search"]

BLOCK = 1024


@kernel
def _raise(best: Any, slot: Any, start: int, stop: int, copy: Any, shift: Any, b: Any, number: Any) -> None:
    """Replace each running maximum that a slot of the group exceeds, with its number."""
    for lane in range(start, stop):
        j = index(lane)
        m, s = best[j], slot[j]
        for k in range(TAPS):
            v = copy[j + shift[k]] + b[k]
            s = number[k] if v > m else s
            m = v if v > m else m
        best[j] = m
        slot[j] = s


@kernel
def _raise_to_nan(best: Any, slot: Any, start: int, stop: int, copy: Any, shift: Any, b: Any, number: Any) -> None:
    """Do the same where some pixels are NaN: the first NaN stays."""
    for lane in range(start, stop):
        j = index(lane)
        m, s = best[j], slot[j]
        for k in range(TAPS):
            v = copy[j + shift[k]] + b[k]
            take = (not (v <= m)) & (m == m)
            m = v if take else m
            s = number[k] if take else s
        best[j] = m
        slot[j] = s


@kernel
def _lift(best: Any, start: int, stop: int, copy: Any, shift: Any, b: Any) -> None:
    """Raise each running maximum, without asking for the slot."""
    for lane in range(start, stop):
        j = index(lane)
        m = best[j]
        for k in range(TAPS):
            v = copy[j + shift[k]] + b[k]
            m = v if v > m else m
        best[j] = m


@kernel
def search(best: Any, slot: Any, copy: Any, shift: Any, b: Any, number: Any, count: int, nan: bool, ask: bool) -> None:
    """Find the supremum over any window, block by block, and its slot if it is asked for."""
    cells = best.size
    best[:] = -np.inf
    for s in range(0, cells, BLOCK):
        e = min(s + BLOCK, cells)
        for t in range(0, count, TAPS):
            taps = group(shift, t), group(b, t)
            if nan:
                _raise_to_nan(best, slot, s, e, copy, *taps, group(number, t))
            elif ask:
                _raise(best, slot, s, e, copy, *taps, group(number, t))
            else:
                _lift(best, s, e, copy, *taps)


@kernel
def forward(
    x: Any,
    raised: int,
    bias: Any,
    rows: Any,
    columns: Any,
    offsets: Any,
    grid: Any,
    beyond: Any,
    y: Any,
    chosen: Any,
    start: int,
    stop: int,
) -> None:
    """Write max(x + bias), or min(x - bias) for channels from `raised` on, and the slot that attains it.

    Done for the planes start..stop. A window of -inf alone has no slot that attains anything: the number of slots is
    written. No slots are written if `chosen` is empty. `beyond` is what lies outside, times the signs 1 and -1. `grid` is
    the number of rows of slots if they are evenly spaced (see `flat`), else 0.
    """
    channels, dtype = x.shape[1], x.dtype
    kind = dtype.type
    pitch = columns.size
    cells = rounded((y.shape[2] - 1) * pitch + y.shape[3])
    copy = np.empty(max(cells + offsets.max(), rows.size * pitch), dtype)
    best, slot = np.empty(cells, dtype), np.empty(cells, dtype)
    room = offsets.size + TAPS
    slots, shift, b = np.empty(room, np.int64), np.empty(room, index), np.empty(room, dtype)
    ask = chosen.size > 0
    work = np.empty((2, 2 * copy.size), dtype)
    for p in range(start, stop):
        n, c = p // channels, p % channels
        count = list_slots(bias[c], offsets, slots, shift, b)
        sign = kind(1) if c < raised else kind(-1)
        fill(copy, x[n, c], rows, columns, sign, beyond[0] if c < raised else beyond[1])
        slot[:] = offsets.size
        nan = holds_nan(x[n, c])
        if grid > 0 and not nan and count == offsets.size and is_flat(bias[c]):
            search_flat(best, slot, copy, offsets, grid, b[0], work, ask)
        else:
            search(best, slot, copy, shift, b, slots.astype(dtype), count, nan, ask)
        read_lanes(y[n, c], best, pitch, sign)
        if ask:
            read_lanes(chosen[n, c], slot, pitch, kind(1))


@kernel
def _collect(grad_x: Any, start: int, stop: int, grad: Any, slot: Any, back: Any, number: Any, sums: Any) -> Any:
    """Give each cell of the copy the gradient of the outputs that chose it through a slot of the group.

    `back` counts from a cell to the output that read it. Returns the sums for each slot, added to `sums`.
    """
    zero = grad.dtype.type(0)
    for lane in range(start, stop):
        j = index(lane)
        total = zero
        for k in range(TAPS):
            part = grad[j + back[k]]
            part = part if slot[j + back[k]] == number[k] else zero
            total += part
            sums = replaced(sums, k, plus(sums[k], part))
        grad_x[j] += total
    return sums


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
    room = offsets.size + TAPS
    slots, shift, b = np.zeros(room, np.int64), np.zeros(room, index), np.zeros(room, dtype)
    number, none = np.empty(room, dtype), np.zeros(TAPS, dtype)
    for p in range(start, stop):
        n, c = p // channels, p % channels
        count = list_slots(bias[c], offsets, slots, shift, b)
        for t in range(room):
            number[t] = slots[t] if t < count else -1  # a repeated slot must not be collected twice
            shift[t] = front - shift[t]
        write_lanes(grad[front:], grad_y[n, c], pitch)
        write_lanes(slot[front:], chosen[n, c], pitch)
        copy[:] = 0
        for s in range(0, size, BLOCK):
            for t in range(0, count, TAPS):
                sums = _collect(
                    copy, s, min(s + BLOCK, size), grad, slot, group(shift, t), group(number, t), group(none, 0)
                )
                for k in range(min(TAPS, count - t)):
                    grad_bias[p, slots[t + k]] += sums[k]
        add_back(grad_x[n, c], copy, rows, columns)
