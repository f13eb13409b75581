"""The edges into an output channel, and the copies of an image's channels that they read.

The padded copies of the channels of a group lie one behind the other in memory, each of x and of -x, so that an edge is one flat
offset, as it is for a window over one channel: the loops along the lanes are the same. Nothing is unfolded.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel
from varmorph.kernels.padded_plane import fill
from varmorph.kernels.taps import index

__all__ = ["add_over_channels", "add_present", "copy_channels", "list_edges", "list_window"]


@kernel
def copy_channels(copies: Any, x: Any, rows: Any, columns: Any, size: int, outside: Any, opposite: Any) -> None:
    """Write the padded copies of x (C, H, W), `size` cells apart, and behind them those of -x.

    outside, opposite : what lies beyond the border of x and of -x.
    """
    kind = copies.dtype.type
    channels = x.shape[0]
    for c in range(channels):
        fill(copies[c * size : (c + 1) * size], x[c], rows, columns, kind(1), outside)
        fill(copies[(channels + c) * size : (channels + c + 1) * size], x[c], rows, columns, kind(-1), opposite)


@kernel
def list_edges(
    bias: Any, weight: Any, offsets: Any, channels: int, size: int, up: bool, slots: Any, shift: Any, b: Any, w: Any
) -> int:  # fmt: skip
    """List the edges with finite offset into one output: slots, flat offsets, biases and weights; return their number.

    bias, weight : (M, K), the first `channels` of M from x, others from -x. With `up` as it is, else turned upside down: x and
    -x change places, and b its sign. The last edge fills the arrays up, which have room for `TAPS` more, with b and w 0.
    """
    kind = b.dtype.type
    count = 0
    for m in range(bias.shape[0]):
        copy = m if up else (m + channels if m < channels else m - channels)
        for t in range(bias.shape[1]):
            if bias[m, t] > -np.inf:
                slots[count] = m * bias.shape[1] + t
                shift[count] = index(copy * size + offsets[t])
                b[count] = bias[m, t] if up else -bias[m, t]
                w[count] = weight[m, t]
                count += 1
    for t in range(count, shift.size):
        slots[t], shift[t] = slots[count - 1], shift[count - 1]
        b[t], w[t] = kind(0), kind(0)
    return count


@kernel
def list_window(bias: Any, weight: Any, offsets: Any, front: int, slots: Any, back: Any, b: Any, w: Any) -> int:
    """List the edges (K,) of one window: slots, how far behind a cell its output lies, biases and weights."""
    kind = b.dtype.type
    count = 0
    for t in range(bias.size):
        if bias[t] > -np.inf:
            slots[count], back[count], b[count], w[count] = t, index(front - offsets[t]), bias[t], weight[t]
            count += 1
    for t in range(count, back.size):
        slots[t], back[t], b[t], w[t] = 0, index(front), kind(0), kind(0)
    return count


@kernel
def add_over_channels(window: Any, slots: Any, count: int, numbers: Any) -> None:
    """Add up the numbers of the edges that stand at the same element of the window."""
    window[:] = 0
    first = 0  # slot of the window that the edge belongs to; slots ascend, and a division for each would cost as much as a round
    for t in range(count):
        while slots[t] >= first + window.size:
            first += window.size
        window[slots[t] - first] += numbers[t]


@kernel
def add_present(total: Any, window: Any, mask: Any, offsets: Any, cut: bool) -> None:
    """Write the sum of the numbers (K,) over the edges that start inside the image, for each lane; all of them unless `cut`."""
    if not cut:
        total[:] = window.sum()
        return
    total[:] = 0
    for t in range(window.size):
        inside = mask[offsets[t] :]
        number = window[t]
        for j in range(total.size):
            total[j] += number * inside[j]
