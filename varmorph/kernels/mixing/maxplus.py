"""Max-plus over several channels: the search of `varmorph.kernels.window.maxplus` over the edges from all copies."""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel
from varmorph.kernels.mixing.edges import copy_channels, list_edges
from varmorph.kernels.padded_plane import add_back, holds_nan, read_lanes, rounded
from varmorph.kernels.taps import TAPS, index
from varmorph.kernels.window.maxplus import search

__all__ = ["backward", "forward"]


@kernel
def forward(
    x: Any, sign: Any, bias: Any, groups: int, rows: Any, columns: Any, offsets: Any, outside: Any, cut: bool, y: Any, chosen: Any,
    start: int, stop: int,
) -> None:  # fmt: skip
    """Write the greatest x + bias (the least for sign -1) and its slot, for groups of samples start..stop.

    A window without edges has no slot that attains anything: the number of slots is written. No slots are written if `chosen`
    is empty.
    """
    dtype, channels, outputs = x.dtype, x.shape[1] // groups, bias.shape[0] // groups
    kind = dtype.type
    pitch = columns.size
    cells = rounded((y.shape[2] - 1) * pitch + y.shape[3])
    size = rounded(max(cells + offsets.max(), rows.size * pitch))
    copies = np.zeros(2 * channels * size, dtype)
    best, slot = np.empty(cells, dtype), np.empty(cells, dtype)
    room = bias.shape[1] * offsets.size + TAPS
    slots, shift, b, w = np.zeros(room, np.int64), np.zeros(room, index), np.zeros(room, dtype), np.zeros(room, dtype)
    weight = np.ones(bias.shape[1:], dtype)
    ask = chosen.size > 0
    for p in range(start, stop):
        n, g = p // groups, p % groups
        image = x[n, g * channels : (g + 1) * channels]
        copy_channels(copies, image, rows, columns, size, outside, outside if cut else -outside)
        nan = False
        for c in range(channels):
            nan |= holds_nan(image[c])
        for o in range(g * outputs, (g + 1) * outputs):
            count = list_edges(bias[o], weight, offsets, channels, size, sign > 0, slots, shift, b, w)
            for t in range(count, room):
                b[t] = b[count - 1]
            slot[:] = bias.shape[1] * offsets.size
            search(best, slot, copies, shift, b, slots.astype(dtype), count, nan, ask)
            read_lanes(y[n, o], best, pitch, sign)
            if ask:
                read_lanes(chosen[n, o], slot, pitch, kind(1))


@kernel
def backward(
    grad_y: Any, chosen: Any, groups: int, rows: Any, columns: Any, offsets: Any, together: int, grad_x: Any, grad_bias: Any,
    start: int, stop: int,
) -> None:  # fmt: skip
    """Write the gradient of x for the batches start..stop of `together` samples, and that of bias as sums a batch."""
    dtype, channels, outputs = grad_y.dtype, grad_x.shape[1] // groups, grad_y.shape[1] // groups
    pitch, elements = columns.size, offsets.size
    cells = rounded((grad_y.shape[2] - 1) * pitch + grad_y.shape[3])
    size = rounded(max(cells + offsets.max(), rows.size * pitch))
    grad = np.zeros(2 * channels * size, dtype)
    samples = min(stop * together, grad_x.shape[0])
    for p in range(start * together * groups, samples * groups):
        n, g = p // groups, p % groups
        batch = n // together
        grad[:] = 0
        for o in range(g * outputs, (g + 1) * outputs):
            sums = grad_bias[batch, o]
            for i in range(grad_y.shape[2]):
                for j in range(grad_y.shape[3]):
                    slot = np.int64(chosen[n, o, i, j])
                    if 0 <= slot < sums.size:
                        grad[slot // elements * size + i * pitch + j + offsets[slot % elements]] += grad_y[n, o, i, j]
                        sums[slot] += grad_y[n, o, i, j]
        for c in range(channels):
            for j in range(size):
                grad[c * size + j] -= grad[(channels + c) * size + j]
            add_back(grad_x[n, g * channels + c], grad[c * size : (c + 1) * size], rows, columns)
