"""Max-plus by blocks, and the adjoint of every operator whose result is one of its values or the middle of two."""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel
from varmorph.kernels.window.blocks import BLOCK, VALUE, fill, read, write

__all__ = ["backward", "supremum"]

GREATEST, SLOT, PARTS = range(0, 3 * BLOCK, BLOCK)


@kernel
def _choose(table: Any, state: Any, slots: Any, count: int, none: int) -> None:
    """Find the first of the greatest values, or of NaN; the slot is `none` where all are -inf."""
    kind = state.dtype.type
    for j in range(BLOCK):
        state[GREATEST + j] = kind(-np.inf)
        state[SLOT + j] = kind(none)
    for k in range(count):
        slot = kind(slots[k])
        for j in range(BLOCK):
            greatest, chosen, v = state[GREATEST + j], state[SLOT + j], table[k, VALUE + j]
            take = (not (v <= greatest)) & (greatest == greatest)
            state[GREATEST + j] = v if take else greatest
            state[SLOT + j] = slot if take else chosen


@kernel
def supremum(x: Any, edges: Any, lower_edges: Any, raised: int, y: Any, chosen: Any, start: int, stop: int) -> None:
    """Write max(x + bias), or min(x - bias) for channels from `raised` on, and the slot that attains it.

    If none does, the number of slots is written. `lower_edges` are the edges with what lies outside turned upside down, for the
    minimum. An empty `chosen` stays empty.
    """
    layout, dtype, at_most = edges.layout, x.dtype, edges.bias.shape[1]
    copy, image, slots = np.empty(layout.cells.size, dtype), np.empty(x.shape[1], dtype), np.empty(at_most, np.int64)
    table, state = np.empty((at_most, 2 * BLOCK), dtype), np.empty(PARTS, dtype)
    for p in range(start, stop):
        above = p % edges.bias.shape[0] < raised
        sign, own = (dtype.type(1), edges) if above else (dtype.type(-1), lower_edges)
        fill(copy, x[p], layout.cells, sign, own.outside)
        for i in range(image.size):
            image[i] = sign * x[p, i]
        for s in range(0, layout.pixels.size, BLOCK):
            count = read(table, slots, s, copy, image, own, p % edges.bias.shape[0])
            _choose(table, state, slots, count, at_most)
            for j in range(BLOCK):
                state[GREATEST + j] = sign * state[GREATEST + j] + dtype.type(0)  # adding 0 turns -0 into 0
            write(y[p], state, GREATEST, s, layout.pixels)
            if chosen.size > 0:
                write(chosen[p], state, SLOT, s, layout.pixels)


@kernel
def backward(
    grad_y: Any, chosen: Any, rows: Any, columns: Any, grad_x: Any, grad_bias: Any, start: int, stop: int
) -> None:
    """Add the gradient of each output, in equal shares, to the pixels and slots that were chosen for it.

    chosen : (choices, planes, pixels), a number that is no slot's where nothing was chosen.  rows, columns : flat
    offsets of the sources of the slots of each axis, (slots, outputs), negative outside the image.
    """
    height, width, across = rows.shape[1], columns.shape[1], columns.shape[0]
    share = grad_y.dtype.type(1 / chosen.shape[0])
    for p in range(start, stop):
        for choice in range(chosen.shape[0]):
            for i in range(height):
                for j in range(width):
                    slot = np.int64(chosen[choice, p, i * width + j])
                    if 0 <= slot < grad_bias.shape[1]:
                        gradient = share * grad_y[p, i * width + j]
                        pixel = rows[slot // across, i] + columns[slot % across, j]
                        grad_bias[p, slot] += gradient
                        if pixel >= 0:
                            grad_x[p, pixel] += gradient
