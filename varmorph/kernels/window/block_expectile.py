"""The separable expectile by blocks of windows: Newton's method of `varmorph.torch.separable.expectile`, a block at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel, plus
from varmorph.kernels.window.blocks import BLOCK, VALUE, WEIGHT, fill, read, write

__all__ = ["forward"]

SOLUTION, MOMENT, MASS, MEAN, LEAST, GREATEST, PARTS = range(0, 7 * BLOCK, BLOCK)


@kernel
def _begin(table: Any, state: Any, count: int) -> None:
    """Write the weighted mean."""
    kind = state.dtype.type
    for j in range(BLOCK):
        state[MOMENT + j] = kind(0)
        state[MASS + j] = kind(0)
    for k in range(count):
        for j in range(BLOCK):
            v, w = table[k, VALUE + j], table[k, WEIGHT + j]
            state[MOMENT + j] += w * v
            state[MASS + j] += w
    for j in range(BLOCK):
        mean = state[MOMENT + j] / state[MASS + j]
        state[MEAN + j] = mean
        state[SOLUTION + j] = mean


@kernel
def _climb(table: Any, state: Any, count: int, tau: Any, cotau: Any) -> Any:
    """Take the Newton step where it goes away from the mean; return how many lanes moved."""
    kind = state.dtype.type
    for j in range(BLOCK):
        state[MOMENT + j] = kind(0)
        state[MASS + j] = kind(0)
    for k in range(count):
        for j in range(BLOCK):
            v = table[k, VALUE + j]
            conductance = table[k, WEIGHT + j] * (tau if v >= state[SOLUTION + j] else cotau)
            state[MOMENT + j] += conductance * v
            state[MASS + j] += conductance
    upwards = tau >= cotau
    moved = kind(0)
    for j in range(BLOCK):
        solution, step = state[SOLUTION + j], state[MOMENT + j] / state[MASS + j]
        moves = step > solution if upwards else step < solution
        state[MOMENT + j] = step
        state[SOLUTION + j] = step if moves else solution
        moved = plus(moved, kind(moves))
    return moved


@kernel
def _keep_off_the_extremes(table: Any, state: Any, count: int, upwards: bool) -> None:
    """Keep the solution off the greatest (least) value, which it reaches by rounding only."""
    kind = state.dtype.type
    unit = kind(np.finfo(state.dtype).eps)
    for j in range(BLOCK):
        state[LEAST + j] = state[MEAN + j]
        state[GREATEST + j] = state[MEAN + j]
    for k in range(count):
        for j in range(BLOCK):
            least, greatest, v, w = state[LEAST + j], state[GREATEST + j], table[k, VALUE + j], table[k, WEIGHT + j]
            state[LEAST + j] = v if (w > kind(0)) & (v < least) else least
            state[GREATEST + j] = v if (w > kind(0)) & (v > greatest) else greatest
    for j in range(BLOCK):
        solution, mean, least, greatest = state[SOLUTION + j], state[MEAN + j], state[LEAST + j], state[GREATEST + j]
        below = greatest - unit * max(abs(greatest), greatest - mean)
        above = least + unit * max(abs(least), mean - least)
        if upwards:
            state[SOLUTION + j] = below if (solution >= greatest) & (greatest > mean) else solution
        else:
            state[SOLUTION + j] = above if (solution <= least) & (least < mean) else solution


@kernel
def forward(x: Any, edges: Any, tau: Any, cotau: Any, y: Any, start: int, stop: int) -> None:
    """Write the expectile of each window for the planes start..stop."""
    layout, dtype, at_most = edges.layout, x.dtype, edges.bias.shape[1]
    copy, slots = np.empty(layout.cells.size, dtype), np.empty(at_most, np.int64)
    table, state = np.empty((at_most, 2 * BLOCK), dtype), np.empty(PARTS, dtype)
    for p in range(start, stop):
        c = p % edges.bias.shape[0]
        fill(copy, x[p], layout.cells, dtype.type(1), edges.outside)
        for s in range(0, layout.pixels.size, BLOCK):
            count = read(table, slots, s, copy, x[p], edges, c)
            _begin(table, state, count)
            for _ in range(count):
                if _climb(table, state, count, tau[c], cotau[c]) == 0:
                    break
            _keep_off_the_extremes(table, state, count, tau[c] >= cotau[c])
            write(y[p], state, SOLUTION, s, layout.pixels)
