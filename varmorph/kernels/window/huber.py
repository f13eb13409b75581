"""The minimiser for Huber's penalty, by blocks of windows: Newton's method inside a bracket.

What is computed, ties and tolerances are those of `varmorph.torch.separable.quantiles.minimise_huber`. The pull at a point z is
minus the derivative of the energy there, sum_k w_k a_k clip(r_k / mu, -1, 1), linear in pieces; the mass is the sum of
w_k a_k over the edges that are curved, |r_k| <= mu. Newton's step is mu * pull / mass.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel, plus
from varmorph.kernels.window.blocks import BLOCK, VALUE, WEIGHT, fill, read, write
from varmorph.kernels.window.huber_piece import (
    FOUND,
    FREE,
    MASS,
    POINT,
    PULL,
    SETTLED,
    SOLUTION,
    choose_piece,
    rounding,
)

__all__ = ["FIRST", "PARTS", "SECOND", "forward", "solve"]

SAFE_STEPS = 200  # bisection alone would need as many as the mantissa has bits
LOW, HIGH, TOTAL, UNDEFINED, FIRST, SECOND, BEHIND, AHEAD, CURVED, PARTS = range(FREE, FREE + 10 * BLOCK, BLOCK)


@kernel
def _begin(table: Any, state: Any, count: int, tau: Any) -> None:
    """Begin with the bracket from the least to the greatest value, at the part tau of it."""
    kind = state.dtype.type
    for j in range(BLOCK):
        state[TOTAL + j] = kind(0)
        state[UNDEFINED + j] = kind(0)
        state[LOW + j] = kind(np.inf)
        state[HIGH + j] = kind(-np.inf)
    for k in range(count):
        for j in range(BLOCK):
            low, high, total, undefined = state[LOW + j], state[HIGH + j], state[TOTAL + j], state[UNDEFINED + j]
            v, w = table[k, VALUE + j], table[k, WEIGHT + j]
            state[TOTAL + j] = total + w
            state[LOW + j] = v if (w > kind(0)) & (v < low) else low
            state[HIGH + j] = v if (w > kind(0)) & (v > high) else high
            state[UNDEFINED + j] = undefined if v - v == kind(0) else kind(1)
    for j in range(BLOCK):
        low, undefined = state[LOW + j], state[UNDEFINED + j]
        state[POINT + j] = low + (state[HIGH + j] - low) * tau
        state[UNDEFINED + j] = undefined if state[TOTAL + j] > kind(0) else kind(1)


@kernel
def _add_pulls(table: Any, state: Any, count: int, tau: Any, cotau: Any, mu: Any) -> None:
    """Write the pull at POINT and its mass."""
    kind = state.dtype.type
    steepness = kind(1) / mu
    for j in range(BLOCK):
        state[PULL + j] = kind(0)
        state[MASS + j] = kind(0)
    for k in range(count):
        for j in range(BLOCK):
            pull, mass = state[PULL + j], state[MASS + j]
            residual = table[k, VALUE + j] - state[POINT + j]
            factor = table[k, WEIGHT + j] * (tau if residual >= kind(0) else cotau)
            clipped = max(min(residual * steepness, kind(1)), kind(-1))
            state[PULL + j] = pull + factor * clipped
            state[MASS + j] = mass + (factor if abs(residual) <= mu else kind(0))


@kernel
def _step(state: Any, mu: Any, slack: Any, halve: bool) -> Any:
    """Move POINT by Newton's step where it stays in the bracket, else halve that; return how many lanes go on.

    A lane comes to rest when it does not move, or with the step it makes where the derivative counts as 0.
    """
    kind = state.dtype.type
    unit = kind(4 * np.finfo(state.dtype).eps)
    moving = kind(0)
    for j in range(BLOCK):
        z, pull, low, high = state[POINT + j], state[PULL + j], state[LOW + j], state[HIGH + j]
        low = z if pull > kind(0) else low
        high = z if pull < kind(0) else high
        newton = z + mu * pull / state[MASS + j]  # not finite where no edge is curved
        near = rounding(z, mu, unit)
        minimal = abs(pull) <= slack * state[TOTAL + j]
        safe = (newton >= low - near) & (newton <= high + near) & (minimal | (not halve))
        middle = low + (high - low) / kind(2)
        proposed = newton if safe else (z if minimal else middle)
        moves = (abs(proposed - z) > near) & (not minimal)
        state[POINT + j] = proposed
        state[LOW + j] = low if moves else proposed
        state[HIGH + j] = high if moves else proposed
        moving = plus(moving, kind(moves))
    return moving


@kernel
def _find_neighbours(table: Any, state: Any, count: int, mu: Any) -> Any:
    """Find the rows of the neighbours at the ends of a flat piece around SOLUTION, and write its middle to POINT.

    Returns how many lanes may lie on one: no edge is curved, and there are neighbours on both sides.
    """
    kind = state.dtype.type
    unit = kind(64 * np.finfo(state.dtype).eps)
    for j in range(BLOCK):
        state[CURVED + j] = kind(0)
        state[FIRST + j] = kind(-1)
        state[SECOND + j] = kind(-1)
        state[BEHIND + j] = kind(-np.inf)
        state[AHEAD + j] = kind(np.inf)
    for k in range(count):
        for j in range(BLOCK):
            behind, ahead, first, second = state[BEHIND + j], state[AHEAD + j], state[FIRST + j], state[SECOND + j]
            z, curved, v, present = (
                state[SOLUTION + j],
                state[CURVED + j],
                table[k, VALUE + j],
                table[k, WEIGHT + j] > kind(0),
            )
            within = abs(v - z) < mu - rounding(z, mu, unit)
            below = present & (v <= z) & (v + mu > behind)
            above = present & (v >= z) & (v - mu < ahead)
            state[CURVED + j] = kind(1) if present & within else curved
            state[BEHIND + j] = v + mu if below else behind
            state[FIRST + j] = kind(k) if below else first
            state[AHEAD + j] = v - mu if above else ahead
            state[SECOND + j] = kind(k) if above else second
    possible = kind(0)
    for j in range(BLOCK):
        between = (state[FIRST + j] >= kind(0)) & (state[SECOND + j] >= kind(0)) & (state[CURVED + j] == kind(0))
        state[POINT + j] = (state[BEHIND + j] + state[AHEAD + j]) / kind(2)
        state[CURVED + j] = kind(0) if between else kind(1)
        possible = plus(possible, kind(between))
    return possible


@kernel
def _settle(table: Any, state: Any, slots: Any, slack: Any) -> None:
    """Give lanes on a flat piece the middle of its ends, and undefined ones NaN; rows of neighbours become slots."""
    kind = state.dtype.type
    for j in range(BLOCK):
        flat = state[CURVED + j] == kind(0) and abs(state[PULL + j]) <= slack * state[TOTAL + j]
        undefined = state[UNDEFINED + j] > kind(0)
        state[SETTLED + j] = kind(flat or undefined)
        if flat and not undefined:
            first, second = int(state[FIRST + j]), int(state[SECOND + j])
            state[SOLUTION + j] = table[first, VALUE + j] / kind(2) + table[second, VALUE + j] / kind(2)
            state[FIRST + j], state[SECOND + j] = kind(slots[first]), kind(slots[second])
        else:
            state[FIRST + j], state[SECOND + j] = kind(-1), kind(-1)
        if undefined:
            state[SOLUTION + j] = kind(np.nan)


@kernel
def solve(table: Any, state: Any, slots: Any, count: int, tau: Any, cotau: Any, mu: Any, slack: Any) -> None:
    """Minimise in a block: write SOLUTION, and the slots at the ends of flat pieces."""
    _begin(table, state, count, tau)
    for step in range(SAFE_STEPS):
        _add_pulls(table, state, count, tau, cotau, mu)
        # A bracket that Newton's steps close from one side only is halved as well.
        if _step(state, mu, slack, step % 3 == 2) == 0:
            break
    for j in range(BLOCK):
        state[SOLUTION + j] = state[POINT + j]
    if _find_neighbours(table, state, count, mu) > 0:
        _add_pulls(table, state, count, tau, cotau, mu)
    _settle(table, state, slots, slack)
    choose_piece(table, state, count, tau, cotau, mu)
    for j in range(BLOCK):
        solution = state[SOLUTION + j]
        state[SOLUTION + j] = state[FOUND + j] if state[SETTLED + j] == 0 else solution


@kernel
def forward(
    x: Any, edges: Any, tau: Any, cotau: Any, smoothing: Any, slack: Any, y: Any, endpoints: Any, start: int, stop: int
) -> None:
    """Write the minimisers for the planes start..stop, and the slots at the ends of flat pieces, -1 elsewhere."""
    layout, dtype, at_most = edges.layout, x.dtype, edges.bias.shape[1]
    copy, slots = np.empty(layout.cells.size, dtype), np.empty(at_most, np.int64)
    table, state = np.empty((at_most, 2 * BLOCK), dtype), np.empty(PARTS, dtype)
    for p in range(start, stop):
        c = p % edges.bias.shape[0]
        fill(copy, x[p], layout.cells, dtype.type(1), edges.outside)
        for s in range(0, layout.pixels.size, BLOCK):
            count = read(table, slots, s, copy, x[p], edges, c)
            solve(table, state, slots, count, tau[c], cotau[c], smoothing[c], slack[c])
            write(y[p], state, SOLUTION, s, layout.pixels)
            write(endpoints[0, p], state, FIRST, s, layout.pixels)
            write(endpoints[1, p], state, SECOND, s, layout.pixels)
