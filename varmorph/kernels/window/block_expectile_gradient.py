"""The implicit gradient of the separable expectile by blocks of windows: see `expectile_gradient` for the formulas."""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel, plus
from varmorph.kernels.window.blocks import BLOCK, VALUE, WEIGHT, add_back, fill, give_back, read, take

__all__ = ["backward"]

SOLUTION, PULL, CURVATURE, BY_TAU, PARTS = range(0, 5 * BLOCK, BLOCK)


@kernel
def _divide(table: Any, state: Any, weight: Any, slots: Any, count: int, tau: Any, cotau: Any) -> None:
    """Divide the gradient of the solution by the curvature of the energy."""
    kind = state.dtype.type
    for j in range(BLOCK):
        state[CURVATURE + j] = kind(0)
    for k in range(count):
        w = weight[slots[k]]
        for j in range(BLOCK):
            a = tau if table[k, VALUE + j] >= state[SOLUTION + j] else cotau
            state[CURVATURE + j] += w * table[k, WEIGHT + j] * a
    for j in range(BLOCK):
        # A lane without gradient may have no curvature either; 0 / 0 must not spread from there.
        pull = state[PULL + j]
        state[PULL + j] = pull / (state[CURVATURE + j] + kind(pull == kind(0)))
        state[BY_TAU + j] = kind(0)


@kernel
def _pull(table: Any, state: Any, k: int, w: Any, tau: Any, cotau: Any) -> tuple[Any, Any]:
    """Replace the values of edge k by what it gives back to them; return the sums for its offset and its weight."""
    kind = state.dtype.type
    by_value, by_weight = kind(0), kind(0)
    for j in range(BLOCK):
        by_tau = state[BY_TAU + j]
        # Values that no wanted output has read may be NaN.
        residual = table[k, VALUE + j] - state[SOLUTION + j] if state[PULL + j] != kind(0) else kind(0)
        pull = state[PULL + j] * table[k, WEIGHT + j]
        pulled = pull * (tau if residual >= kind(0) else cotau)
        table[k, VALUE + j] = w * pulled
        state[BY_TAU + j] = by_tau + w * pull * abs(residual)
        by_value = plus(by_value, w * pulled)
        by_weight = plus(by_weight, pulled * residual)
    return by_value, by_weight


@kernel
def backward(
    grad_y: Any, x: Any, y: Any, edges: Any, weight: Any, tau: Any, cotau: Any,
    grad_x: Any, grad_bias: Any, grad_weight: Any, grad_tau: Any, start: int, stop: int,
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
    table, state = np.empty((at_most, 2 * BLOCK), dtype), np.empty(PARTS, dtype)
    for p in range(start, stop):
        c = p % edges.bias.shape[0]
        fill(copy, x[p], layout.cells, dtype.type(1), edges.outside)
        grad_copy[:] = 0
        for s in range(0, layout.pixels.size, BLOCK):
            count = read(table, slots, s, copy, x[p], edges, c)
            take(state, SOLUTION, y[p], s, layout.pixels, dtype.type(0))
            take(state, PULL, grad_y[p], s, layout.pixels, dtype.type(0))
            _divide(table, state, weight[c], slots, count, tau[c], cotau[c])
            for k in range(count):
                t = slots[k]
                by_value, by_weight = _pull(table, state, k, weight[c, t], tau[c], cotau[c])
                grad_bias[p, t] += by_value
                grad_weight[p, t] += by_weight
            give_back(table, slots, count, s, grad_copy, grad_x[p], layout)
            for j in range(BLOCK):
                grad_tau[p] += state[BY_TAU + j]
        add_back(grad_x[p], grad_copy, layout.cells)
