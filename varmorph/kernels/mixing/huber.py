"""Huber's penalty over several channels: the minimisers of `varmorph.kernels.window.huber`, and their gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel
from varmorph.kernels.mixing.blocks import give_back, keep, read, take
from varmorph.kernels.mixing.edges import copy_channels
from varmorph.kernels.padded_plane import add_back, fill, read_lanes, rounded, write_lanes
from varmorph.kernels.window import huber_gradient
from varmorph.kernels.window.blocks import BLOCK
from varmorph.kernels.window.huber import FIRST, PARTS, SECOND, solve
from varmorph.kernels.window.huber_gradient import ASKED, BY_SMOOTHING, BY_TAU, divide, pull, settle, weigh
from varmorph.kernels.window.huber_piece import SOLUTION, choose_piece

__all__ = ["backward", "forward"]

FIRST_OF_GRADIENT, PARTS_OF_GRADIENT = huber_gradient.FIRST, huber_gradient.PARTS


@kernel
def forward(
    x: Any, bias: Any, weight: Any, tau: Any, cotau: Any, smoothing: Any, slack: Any, groups: int, rows: Any, columns: Any,
    offsets: Any, outside: Any, cut: bool, y: Any, endpoints: Any, start: int, stop: int,
) -> None:  # fmt: skip
    """Write the minimisers, and the slots at the ends of flat pieces, -1 elsewhere, for groups of samples start..stop."""
    dtype, channels, outputs = x.dtype, x.shape[1] // groups, bias.shape[0] // groups
    kind = dtype.type
    pitch = columns.size
    cells = rounded((y.shape[2] - 1) * pitch + y.shape[3], BLOCK)
    size = rounded(max(cells + offsets.max(), rows.size * pitch))
    copies, mask = np.zeros(2 * channels * size, dtype), np.ones(size, dtype)
    if cut:
        fill(mask, np.ones((x.shape[2], x.shape[3]), dtype), rows, columns, kind(1), kind(0))
    at_most = bias.shape[1] * offsets.size
    slots, table, state = np.empty(at_most, np.int64), np.empty((at_most, 2 * BLOCK), dtype), np.empty(PARTS, dtype)
    z, first, second = np.empty(cells, dtype), np.empty(cells, dtype), np.empty(cells, dtype)
    for p in range(start, stop):
        n, g = p // groups, p % groups
        copy_channels(copies, x[n, g * channels : (g + 1) * channels], rows, columns, size, outside, -outside)
        for o in range(g * outputs, (g + 1) * outputs):
            for s in range(0, cells, BLOCK):
                count = read(table, slots, s, copies, size, mask, offsets, bias[o], weight[o])
                solve(table, state, slots, count, tau[o], cotau[o], smoothing[o], slack[o])
                keep(z, state, SOLUTION, s)
                keep(first, state, FIRST, s)
                keep(second, state, SECOND, s)
            read_lanes(y[n, o], z, pitch, kind(1))
            read_lanes(endpoints[0, n, o], first, pitch, kind(1))
            read_lanes(endpoints[1, n, o], second, pitch, kind(1))


@kernel
def _pull_back(
    table: Any, state: Any, slots: Any, count: int, weight: Any, tau: Any, cotau: Any, mu: Any, grad_bias: Any, grad_weight: Any
) -> None:  # fmt: skip
    """Put what a block gives back in place of its values, and add to the sums of its edges."""
    weigh(table, slots, count, weight)
    settle(state)
    choose_piece(table, state, count, tau, cotau, mu)
    divide(state)
    for k in range(count):
        by_value, by_weight = pull(table, state, k, tau, cotau, mu)
        grad_bias[slots[k]] += by_value
        grad_weight[slots[k]] += by_weight


@kernel
def backward(
    grad_y: Any, x: Any, y: Any, endpoints: Any, bias: Any, weight: Any, tau: Any, cotau: Any, smoothing: Any, groups: int,
    rows: Any, columns: Any, offsets: Any, outside: Any, cut: bool, together: int, grad_x: Any, grad_bias: Any,
    grad_weight: Any, grad_tau: Any, grad_smoothing: Any, start: int, stop: int,
) -> None:  # fmt: skip
    """Write the gradient of x away from flat pieces for the batches start..stop; those of the parameters as sums a batch."""
    dtype, channels, outputs = x.dtype, x.shape[1] // groups, bias.shape[0] // groups
    kind = dtype.type
    pitch = columns.size
    cells = rounded((y.shape[2] - 1) * pitch + y.shape[3], BLOCK)
    size = rounded(max(cells + offsets.max(), rows.size * pitch))
    copies, grad, mask = (
        np.zeros(2 * channels * size, dtype),
        np.zeros(2 * channels * size, dtype),
        np.ones(size, dtype),
    )
    if cut:
        fill(mask, np.ones((x.shape[2], x.shape[3]), dtype), rows, columns, kind(1), kind(0))
    at_most = bias.shape[1] * offsets.size
    slots, table = np.empty(at_most, np.int64), np.empty((at_most, 3 * BLOCK), dtype)
    state = np.empty(PARTS_OF_GRADIENT, dtype)
    z, q, first = np.full(cells, kind(np.nan)), np.zeros(cells, dtype), np.full(cells, kind(-1))
    present = np.ones(bias.shape[1:], dtype)
    samples = min(stop * together, x.shape[0])
    for p in range(start * together * groups, samples * groups):
        n, g = p // groups, p % groups
        batch = n // together
        copy_channels(copies, x[n, g * channels : (g + 1) * channels], rows, columns, size, outside, -outside)
        grad[:] = 0
        for o in range(g * outputs, (g + 1) * outputs):
            write_lanes(z, y[n, o], pitch)
            write_lanes(q, grad_y[n, o], pitch)
            write_lanes(first, endpoints[0, n, o], pitch)
            for s in range(0, cells, BLOCK):
                count = read(table, slots, s, copies, size, mask, offsets, bias[o], present)
                take(state, SOLUTION, z, s)
                take(state, ASKED, q, s)
                take(state, FIRST_OF_GRADIENT, first, s)
                _pull_back(
                    table, state, slots, count, weight[o].reshape(at_most), tau[o], cotau[o], smoothing[o],
                    grad_bias[batch, o], grad_weight[batch, o],
                )  # fmt: skip
                give_back(table, slots, count, s, grad, size, offsets)
                for j in range(BLOCK):
                    grad_tau[batch, o] += state[BY_TAU + j]
                    grad_smoothing[batch, o] += state[BY_SMOOTHING + j]
        for c in range(channels):
            for j in range(size):
                grad[c * size + j] -= grad[(channels + c) * size + j]
            add_back(grad_x[n, g * channels + c], grad[c * size : (c + 1) * size], rows, columns)
