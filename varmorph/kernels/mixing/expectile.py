"""Expectiles over several channels: the rounds of `varmorph.kernels.window.expectile`, over the edges from all copies."""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel
from varmorph.kernels.mixing.edges import add_over_channels, add_present, copy_channels, list_edges
from varmorph.kernels.padded_plane import fill, lines_of, read_lanes, rounded
from varmorph.kernels.taps import TAPS, group, index
from varmorph.kernels.window.expectile import ROOM, add_moments, solve

__all__ = ["forward"]

# Edges, and difference of the sides, from which on a longer first step saves about one round in six.
MANY, STEEP = 64, 0.7


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
    kind, pitch = dtype.type, columns.size
    lines, length = lines_of(y.shape[2], y.shape[3], pitch)
    cells = (lines - 1) * pitch + length
    size = rounded(max(cells + offsets.max(), rows.size * pitch))
    plain, copies = np.zeros(2 * channels * size, dtype), np.zeros(2 * channels * size, dtype)
    never = kind(-np.finfo(dtype).max / 4)
    mask, barrier = np.empty(size, dtype), np.zeros(size, dtype)
    fill(mask, np.ones((x.shape[2], x.shape[3]), dtype), rows, columns, kind(1), kind(0))
    if cut:
        fill(barrier, np.zeros((x.shape[2], x.shape[3]), dtype), rows, columns, kind(1), never)
    a, total, z = np.empty(length, dtype), np.empty(length, dtype), np.empty(length, dtype)
    work, further = np.zeros(9 * ROOM, dtype), np.zeros(ROOM, dtype)
    # The edges into all outputs, listed once. A line of outputs is done channel after channel: what it reads stays in the cache.
    most = bias.shape[1] * offsets.size + TAPS
    counts, slots = np.zeros(bias.shape[0], np.int64), np.zeros(most, np.int64)
    shift, b, w = (
        np.zeros((bias.shape[0], most), index),
        np.zeros((bias.shape[0], most), dtype),
        np.zeros((bias.shape[0], most), dtype),
    )
    weights, moments = np.zeros((bias.shape[0], offsets.size), dtype), np.zeros((bias.shape[0], offsets.size), dtype)
    for o in range(bias.shape[0]):
        up = tau[o] >= cotau[o]
        counts[o] = list_edges(bias[o], weight[o], offsets, channels, size, up, slots, shift[o], b[o], w[o])
        add_over_channels(weights[o], slots, counts[o], w[o])
        add_over_channels(moments[o], slots, counts[o], w[o] * b[o])
    for p in range(start, stop):
        n, g = p // groups, p % groups
        copy_channels(plain, x[n, g * channels : (g + 1) * channels], rows, columns, size, outside, -outside)
        for c in range(2 * channels):
            for j in range(size):
                copies[c * size + j] = plain[c * size + j] + barrier[j]
        for line in range(lines):
            first, here = line * pitch, slice(line, line + 1) if lines > 1 else slice(0, y.shape[2])
            for o in range(g * outputs, (g + 1) * outputs):
                count, low, gap = counts[o], min(tau[o], cotau[o]), abs(tau[o] - cotau[o])
                add_present(total, weights[o], mask[first:], offsets, cut)
                add_present(a, moments[o], mask[first:], offsets, cut)
                whole = count // TAPS * TAPS
                for t in range(0, whole, TAPS):
                    add_moments(a, length, plain[first:], group(shift[o], t), group(w[o], t))
                for t in range(whole, count):  # not filled up: 0 times an infinite pixel would be NaN
                    add_moments(a, length, plain[first:], (shift[o, t],), (w[o, t],))
                present, scaled = np.where(w[o] > 0, b[o], never), gap * w[o]
                solve(
                    z, 0, length, copies[first:], shift[o], b[o], w[o], present, scaled, count, a, total, low, gap, never, work, further, ROOM,
                    count > MANY and gap > STEEP,
                )  # fmt: skip
                read_lanes(y[n, o, here], z, pitch, kind(1) if tau[o] >= cotau[o] else kind(-1))
