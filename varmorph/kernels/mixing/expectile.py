"""Expectiles over several channels: the rounds of `varmorph.kernels.window.expectile`, over the edges from all copies."""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel
from varmorph.kernels.mixing.edges import add_over_channels, add_present, copy_channels, list_edges
from varmorph.kernels.padded_plane import fill, read_lanes, rounded
from varmorph.kernels.taps import TAPS, group, index
from varmorph.kernels.window.expectile import BLOCK, add_moments, solve

__all__ = ["forward"]


@kernel
def forward(
    x: Any,
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
    y: Any,
    start: int,
    stop: int,
) -> None:
    """Write the expectiles of all output channels for some groups of samples: start..stop, counted sample by sample.

    `cut` tells that edges from outside the image are absent; elsewhere they read `outside`, or -`outside` from -x.
    """
    dtype, channels, outputs = x.dtype, x.shape[1] // groups, bias.shape[0] // groups
    kind = dtype.type
    pitch = columns.size
    cells = rounded((y.shape[2] - 1) * pitch + y.shape[3], BLOCK)
    size = rounded(max(cells + offsets.max(), rows.size * pitch))
    plain, copies = np.zeros(2 * channels * size, dtype), np.zeros(2 * channels * size, dtype)
    never = kind(-np.finfo(dtype).max / 4)
    mask, barrier = np.empty(size, dtype), np.zeros(size, dtype)
    fill(mask, np.ones((x.shape[2], x.shape[3]), dtype), rows, columns, kind(1), kind(0))
    if cut:
        fill(barrier, np.zeros((x.shape[2], x.shape[3]), dtype), rows, columns, kind(1), never)
    a, total, z = np.empty(cells, dtype), np.empty(cells, dtype), np.empty(cells, dtype)
    work, further = np.zeros(8 * BLOCK, dtype), np.zeros(BLOCK, dtype)
    room = bias.shape[1] * offsets.size + TAPS
    slots, shift, b, w = np.zeros(room, np.int64), np.zeros(room, index), np.zeros(room, dtype), np.zeros(room, dtype)
    window = np.zeros(offsets.size, dtype)
    for p in range(start, stop):
        n, g = p // groups, p % groups
        copy_channels(plain, x[n, g * channels : (g + 1) * channels], rows, columns, size, outside, -outside)
        for c in range(2 * channels):
            for j in range(size):
                copies[c * size + j] = plain[c * size + j] + barrier[j]
        for o in range(g * outputs, (g + 1) * outputs):
            up = tau[o] >= cotau[o]
            count = list_edges(bias[o], weight[o], offsets, channels, size, up, slots, shift, b, w)
            add_over_channels(window, slots, count, w)
            add_present(total, window, mask, offsets, cut)
            add_over_channels(window, slots, count, w * b)
            add_present(a, window, mask, offsets, cut)
            whole = count // TAPS * TAPS
            for t in range(0, whole, TAPS):
                add_moments(a, cells, plain, group(shift, t), group(w, t))
            for t in range(whole, count):  # not filled up: 0 times an infinite pixel would be NaN
                add_moments(a, cells, plain, (shift[t],), (w[t],))
            low, gap = min(tau[o], cotau[o]), abs(tau[o] - cotau[o])
            solve(z, cells, copies, shift, b, w, count, a, total, low, gap, never, work, further)
            read_lanes(y[n, o], z, pitch, kind(1) if up else kind(-1))
