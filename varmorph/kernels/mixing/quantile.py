"""Weighted quantiles over several channels: the brackets of `varmorph.kernels.window.quantile`."""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel
from varmorph.kernels.mixing.blocks import keep, read
from varmorph.kernels.mixing.edges import copy_channels
from varmorph.kernels.padded_plane import fill, read_lanes, rounded
from varmorph.kernels.window.blocks import BLOCK
from varmorph.kernels.window.quantile import FIRST, PARTS, POINT, SECOND, solve

__all__ = ["forward"]


@kernel
def forward(
    x: Any, bias: Any, weight: Any, tau: Any, cotau: Any, slack: Any, groups: int, rows: Any, columns: Any, offsets: Any,
    outside: Any, cut: bool, y: Any, endpoints: Any, start: int, stop: int,
) -> None:  # fmt: skip
    """Write the quantiles and the slots of the two values they lie between, for groups of samples start..stop."""
    dtype, channels, outputs = x.dtype, x.shape[1] // groups, bias.shape[0] // groups
    kind = dtype.type
    pitch = columns.size
    cells = rounded((y.shape[2] - 1) * pitch + y.shape[3], BLOCK)
    size = rounded(max(cells + offsets.max(), rows.size * pitch))
    copies, mask = np.zeros(2 * channels * size, dtype), np.ones(size, dtype)
    if cut:
        fill(mask, np.ones((x.shape[2], x.shape[3]), dtype), rows, columns, kind(1), kind(0))
    at_most = bias.shape[1] * offsets.size
    slots, table, state = np.empty(at_most, np.int64), np.empty((at_most, 3 * BLOCK), dtype), np.empty(PARTS, dtype)
    z, first, second = np.empty(cells, dtype), np.empty(cells, dtype), np.empty(cells, dtype)
    for p in range(start, stop):
        n, g = p // groups, p % groups
        copy_channels(copies, x[n, g * channels : (g + 1) * channels], rows, columns, size, outside, -outside)
        for o in range(g * outputs, (g + 1) * outputs):
            for s in range(0, cells, BLOCK):
                count = read(table, slots, s, copies, size, mask, offsets, bias[o], weight[o])
                solve(table, state, slots, count, tau[o], cotau[o], slack[o])
                keep(z, state, POINT, s)
                keep(first, state, FIRST, s)
                keep(second, state, SECOND, s)
            read_lanes(y[n, o], z, pitch, kind(1))
            read_lanes(endpoints[0, n, o], first, pitch, kind(1))
            read_lanes(endpoints[1, n, o], second, pitch, kind(1))
