"""The implicit gradient for Huber's penalty, by blocks of windows, away from flat pieces.

With y = P / C on its piece (see `huber_piece`) and q = dL/dy / C, neighbour k receives w_k a_k q where it is curved,
its weight a_k l_k q, l_k = v_k - y where it is curved and mu sign(r_k) elsewhere; tau receives sum_k w_k abs(l_k) q,
and mu the sum of w_k a_k sign(r_k) q over the edges that are not curved.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel, plus
from varmorph.kernels.window.blocks import BLOCK, VALUE, WEIGHT, add_back, fill, give_back, read, take
from varmorph.kernels.window.huber_piece import (
    BEST_MASS,
    BEST_POINT,
    BEST_TOLERANCE,
    FREE,
    SETTLED,
    SOLUTION,
    choose_piece,
)

__all__ = ["ASKED", "BY_SMOOTHING", "BY_TAU", "FIRST", "PARTS", "backward", "divide", "pull", "settle", "weigh"]

PRESENT = 2 * BLOCK  # in the table: 1, or 0 where the edge is absent
ASKED, FIRST, BY_TAU, BY_SMOOTHING, PARTS = range(FREE, FREE + 5 * BLOCK, BLOCK)


@kernel
def weigh(table: Any, slots: Any, count: int, weight: Any) -> None:
    """Make weights of the presence of edges, and keep that."""
    for k in range(count):
        w = weight[slots[k]]
        for j in range(BLOCK):
            present = table[k, WEIGHT + j]
            table[k, PRESENT + j] = present
            table[k, WEIGHT + j] = w * present


@kernel
def settle(state: Any) -> None:
    """Mark the lanes without implicit gradient."""
    kind = state.dtype.type
    for j in range(BLOCK):
        solution = state[SOLUTION + j]
        state[SETTLED + j] = kind((state[FIRST + j] >= kind(0)) | (solution != solution))


@kernel
def divide(state: Any) -> None:
    """Divide the gradient of the solution by the mass of its piece."""
    kind = state.dtype.type
    for j in range(BLOCK):
        asked = state[ASKED + j]
        wanted = (state[SETTLED + j] == kind(0)) & (asked != kind(0))
        state[ASKED + j] = asked / state[BEST_MASS + j] if wanted else kind(0)
        state[BY_TAU + j] = kind(0)
        state[BY_SMOOTHING + j] = kind(0)


@kernel
def pull(table: Any, state: Any, k: int, tau: Any, cotau: Any, mu: Any) -> tuple[Any, Any]:
    """Replace the values of edge k by what it gives back to them; return the sums for its offset and its weight."""
    kind = state.dtype.type
    zero = kind(0)
    by_value, by_weight = zero, zero
    for j in range(BLOCK):
        asked, near, by_tau, by_mu = (
            state[ASKED + j],
            state[BEST_TOLERANCE + j],
            state[BY_TAU + j],
            state[BY_SMOOTHING + j],
        )
        v, w = table[k, VALUE + j], table[k, WEIGHT + j]
        residual = v - state[BEST_POINT + j]
        above, curved = residual >= -near, abs(residual) <= mu + near
        sign = kind(1) if residual > zero else kind(-1)
        limited = v - state[SOLUTION + j] if curved else sign * mu
        pulled = (tau if above else cotau) * asked
        given = w * pulled if curved else zero
        table[k, VALUE + j] = given
        state[BY_TAU + j] = by_tau + w * asked * (limited if above else -limited)
        state[BY_SMOOTHING + j] = by_mu + (zero if curved else w * pulled * sign)
        by_value = plus(by_value, given)
        by_weight = plus(by_weight, pulled * table[k, PRESENT + j] * limited)
    return by_value, by_weight


@kernel
def backward(
    grad_y: Any, x: Any, y: Any, endpoints: Any, edges: Any, weight: Any, tau: Any, cotau: Any, smoothing: Any,
    grad_x: Any, grad_bias: Any, grad_weight: Any, grad_tau: Any, grad_smoothing: Any, start: int, stop: int,
) -> None:  # fmt: skip
    """Add the implicit gradients for the planes start..stop; those of the parameters as float64 sums a plane.

    The edges have weight 1 here, or 0 where one is absent.
    """
    layout, dtype, at_most = edges.layout, x.dtype, edges.bias.shape[1]
    copy, grad_copy, slots = (
        np.empty(layout.cells.size, dtype),
        np.empty(layout.cells.size, dtype),
        np.empty(at_most, np.int64),
    )
    table, state = np.empty((at_most, 3 * BLOCK), dtype), np.empty(PARTS, dtype)
    for p in range(start, stop):
        c = p % edges.bias.shape[0]
        fill(copy, x[p], layout.cells, dtype.type(1), edges.outside)
        grad_copy[:] = 0
        for s in range(0, layout.pixels.size, BLOCK):
            count = read(table, slots, s, copy, x[p], edges, c)
            weigh(table, slots, count, weight[c])
            take(state, SOLUTION, y[p], s, layout.pixels, dtype.type(np.nan))
            take(state, ASKED, grad_y[p], s, layout.pixels, dtype.type(0))
            take(state, FIRST, endpoints[0, p], s, layout.pixels, dtype.type(-1))
            settle(state)
            choose_piece(table, state, count, tau[c], cotau[c], smoothing[c])
            divide(state)
            for k in range(count):
                t = slots[k]
                by_value, by_weight = pull(table, state, k, tau[c], cotau[c], smoothing[c])
                grad_bias[p, t] += by_value
                grad_weight[p, t] += by_weight
            give_back(table, slots, count, s, grad_copy, grad_x[p], layout)
            for j in range(BLOCK):
                grad_tau[p] += state[BY_TAU + j]
                grad_smoothing[p] += state[BY_SMOOTHING + j]
        add_back(grad_x[p], grad_copy, layout.cells)
