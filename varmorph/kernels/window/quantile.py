"""The weighted quantile: the values are not sorted, but a bracket between two of them is narrowed.

With D(z) = (1 - tau) sum_{v_k <= z} w_k - tau sum_{v_k > z} w_k, the derivative of the energy just above z, the least
minimiser is the least value at which D is not negative, and there are others only if D is 0 there. A round takes D at a
point between the ends of the bracket, where it would be 0 if it were linear in between, and moves one end to the
nearest value on that side: past one value at least. Ties and tolerances are those of `varmorph.torch.separable.quantiles`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel, plus
from varmorph.kernels.window.blocks import BLOCK, VALUE, WEIGHT, fill, read, write

__all__ = ["FIRST", "PARTS", "POINT", "SECOND", "forward", "solve"]

CANDIDATE = 2 * BLOCK  # in the table: the value where the weight is positive, NaN where it is not
POINT, UP_TO, BEYOND, LAST, NEXT, LOW, HIGH, AT_LOW, AT_HIGH, TOTAL, FIRST, SECOND, PARTS = range(0, 13 * BLOCK, BLOCK)


@kernel
def _begin(table: Any, state: Any, count: int, tau: Any, cotau: Any) -> None:
    """List the candidates, and begin with the bracket from the least to the greatest of them."""
    kind = table.dtype.type
    for j in range(BLOCK):
        state[TOTAL + j] = kind(0)
        state[LOW + j] = kind(np.inf)
        state[HIGH + j] = kind(-np.inf)
    for k in range(count):
        for j in range(BLOCK):
            low, high, total, w = state[LOW + j], state[HIGH + j], state[TOTAL + j], table[k, WEIGHT + j]
            v = table[k, VALUE + j] if w > kind(0) else kind(np.nan)
            table[k, CANDIDATE + j] = v
            state[TOTAL + j] = total + w
            state[LOW + j] = v if v < low else low
            state[HIGH + j] = v if v > high else high
    for j in range(BLOCK):
        state[AT_LOW + j] = -tau * state[TOTAL + j]
        state[AT_HIGH + j] = cotau * state[TOTAL + j]


@kernel
def _weigh(table: Any, state: Any, count: int) -> None:
    """Add up the weights of the values up to the point and beyond it, and find the nearest value on either side."""
    kind = table.dtype.type
    for j in range(BLOCK):
        state[UP_TO + j] = kind(0)
        state[BEYOND + j] = kind(0)
        state[LAST + j] = kind(-np.inf)
        state[NEXT + j] = kind(np.inf)
    for k in range(count):
        for j in range(BLOCK):
            point, last, following = state[POINT + j], state[LAST + j], state[NEXT + j]
            v, w = table[k, CANDIDATE + j], table[k, WEIGHT + j]
            before, behind = v <= point, v > point
            state[UP_TO + j] += w if before else kind(0)
            state[BEYOND + j] += w if behind else kind(0)
            state[LAST + j] = v if before & (v > last) else last
            state[NEXT + j] = v if behind & (v < following) else following


@kernel
def _divide(state: Any) -> Any:
    """Choose the next point of each bracket, at or above its lower and below its upper end; count those still open."""
    kind = state.dtype.type
    still_open = kind(0)
    for j in range(BLOCK):
        low, high, at_low = state[LOW + j], state[HIGH + j], state[AT_LOW + j]
        point = low + (high - low) * (at_low / (at_low - state[AT_HIGH + j]))
        state[POINT + j] = point if (point >= low) & (point < high) else low
        still_open = plus(still_open, kind(low < high))
    return still_open


@kernel
def _narrow(state: Any, tau: Any, cotau: Any, slack: Any) -> None:
    """Move the end of the bracket on whose side the point lies."""
    for j in range(BLOCK):
        low, high, at_low, at_high = state[LOW + j], state[HIGH + j], state[AT_LOW + j], state[AT_HIGH + j]
        slope = cotau * state[UP_TO + j] - tau * state[BEYOND + j]
        rises = slope >= -slack * state[TOTAL + j]
        state[LOW + j] = low if rises else state[NEXT + j]
        state[HIGH + j] = state[LAST + j] if rises else high
        state[AT_LOW + j] = at_low if rises else slope
        state[AT_HIGH + j] = slope if rises else at_high


@kernel
def _extend(table: Any, state: Any, count: int, tau: Any, cotau: Any, slack: Any) -> None:
    """Raise the upper end to the next value as long as the energy is flat up to it: to the greatest minimiser."""
    kind = state.dtype.type
    flat = kind(0)
    for j in range(BLOCK):
        flat = plus(flat, kind(state[AT_HIGH + j] <= slack * state[TOTAL + j]))
    while flat > kind(0):
        for j in range(BLOCK):
            state[POINT + j] = state[HIGH + j]
        _weigh(table, state, count)
        flat = kind(0)
        for j in range(BLOCK):
            high, following = state[HIGH + j], state[NEXT + j]
            level = cotau * state[UP_TO + j] - tau * state[BEYOND + j] <= slack * state[TOTAL + j]
            further = level & (following > high) & (state[BEYOND + j] > kind(0))
            state[HIGH + j] = following if further else high
            flat = plus(flat, kind(further))


@kernel
def _find_ends(table: Any, state: Any, slots: Any, count: int) -> None:
    """Find the first slot of each end, -1 where there is none or some value is NaN, and write their middle to POINT."""
    kind = state.dtype.type
    for j in range(BLOCK):
        state[FIRST + j] = kind(-1)
        state[SECOND + j] = kind(-1)
    for k in range(count - 1, -1, -1):
        slot = kind(slots[k])
        for j in range(BLOCK):
            first, second, v = state[FIRST + j], state[SECOND + j], table[k, CANDIDATE + j]
            state[FIRST + j] = slot if v == state[LOW + j] else first
            state[SECOND + j] = slot if v == state[HIGH + j] else second
    for k in range(count):
        for j in range(BLOCK):
            first, second, unknown = state[FIRST + j], state[SECOND + j], np.isnan(table[k, VALUE + j])
            state[FIRST + j] = kind(-1) if unknown else first
            state[SECOND + j] = kind(-1) if unknown else second
    for j in range(BLOCK):
        middle = state[LOW + j] / kind(2) + state[HIGH + j] / kind(2)
        state[POINT + j] = middle if state[FIRST + j] >= kind(0) else kind(np.nan)


@kernel
def solve(table: Any, state: Any, slots: Any, count: int, tau: Any, cotau: Any, slack: Any) -> None:
    """Find the quantiles of a block: write POINT, and the slots of the values that it lies between."""
    _begin(table, state, count, tau, cotau)
    while _divide(state) > 0:
        _weigh(table, state, count)
        _narrow(state, tau, cotau, slack)
    _extend(table, state, count, tau, cotau, slack)
    _find_ends(table, state, slots, count)


@kernel
def forward(
    x: Any, edges: Any, tau: Any, cotau: Any, slack: Any, y: Any, endpoints: Any, start: int, stop: int
) -> None:
    """Write the quantile of each window and the slots of the two values it lies between, for the planes start..stop."""
    layout, dtype, at_most = edges.layout, x.dtype, edges.bias.shape[1]
    copy, slots = np.empty(layout.cells.size, dtype), np.empty(at_most, np.int64)
    table, state = np.empty((at_most, 3 * BLOCK), dtype), np.empty(PARTS, dtype)
    for p in range(start, stop):
        c = p % edges.bias.shape[0]
        fill(copy, x[p], layout.cells, dtype.type(1), edges.outside)
        for s in range(0, layout.pixels.size, BLOCK):
            count = read(table, slots, s, copy, x[p], edges, c)
            solve(table, state, slots, count, tau[c], cotau[c], slack[c])
            write(y[p], state, POINT, s, layout.pixels)
            write(endpoints[0, p], state, FIRST, s, layout.pixels)
            write(endpoints[1, p], state, SECOND, s, layout.pixels)
