"""The piece of a Huber energy on which a solution lies: the edges that are above it, and those that are curved.

On a piece the minimiser is a quotient: sum_k w_k a_k p_k / sum_k w_k a_k c_k, c_k = 1 and p_k = v_k where the edge is
curved, |r_k| <= mu, c_k = 0 and p_k = mu sign(r_k) elsewhere. The parts of a state that the forward and the backward
pass share come first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel, plus
from varmorph.kernels.window.blocks import BLOCK, VALUE, WEIGHT

__all__ = [
    "BEST_MASS",
    "BEST_POINT",
    "BEST_TOLERANCE",
    "FOUND",
    "FREE",
    "MASS",
    "POINT",
    "PULL",
    "SETTLED",
    "SOLUTION",
    "choose_piece",
    "rounding",
]

SOLUTION, SETTLED, POINT, TOLERANCE, PULL, MASS = range(0, 6 * BLOCK, BLOCK)
FOUND, ERROR, BEST_POINT, BEST_TOLERANCE, BEST_MASS, FREE = range(6 * BLOCK, 12 * BLOCK, BLOCK)


@kernel
def rounding(z: Any, mu: Any, unit: Any) -> Any:
    """Return how far a residual may lie from 0, or from mu, by rounding alone."""
    return unit * (abs(z) + mu)


@kernel
def _solve_piece(table: Any, state: Any, count: int, tau: Any, cotau: Any, mu: Any) -> None:
    """Write numerator and denominator of the piece at POINT; a residual within TOLERANCE is above, and curved."""
    kind = state.dtype.type
    for j in range(BLOCK):
        state[PULL + j] = kind(0)
        state[MASS + j] = kind(0)
    for k in range(count):
        for j in range(BLOCK):
            near, pull, mass = state[TOLERANCE + j], state[PULL + j], state[MASS + j]
            v = table[k, VALUE + j]
            residual = v - state[POINT + j]
            factor = table[k, WEIGHT + j] * (tau if residual >= -near else cotau)
            curved = abs(residual) <= mu + near
            flat = mu if residual > kind(0) else -mu
            state[PULL + j] = pull + factor * (v if curved else flat)
            state[MASS + j] = mass + (factor if curved else kind(0))


@kernel
def _try_point(state: Any, trial: int, mu: Any) -> None:
    """Choose a point and a tolerance: the solution with its rounding, without, and its neighbours on both sides."""
    kind = state.dtype.type
    unit = kind(64 * np.finfo(state.dtype).eps)
    shift = kind(trial == 2) - kind(trial == 3)
    share = kind(trial == 0)
    for j in range(BLOCK):
        z = state[SOLUTION + j]
        near = rounding(z, mu, unit)
        state[POINT + j] = z + shift * near
        state[TOLERANCE + j] = share * near


@kernel
def _keep_best(state: Any, trial: int, mu: Any) -> Any:
    """Keep the trial whose piece leads back to the solution; return how many lanes still look for one."""
    kind = state.dtype.type
    unit = kind(64 * np.finfo(state.dtype).eps)
    looking = kind(0)
    for j in range(BLOCK):
        z, least, settled = state[SOLUTION + j], state[ERROR + j], state[SETTLED + j]
        found = state[PULL + j] / state[MASS + j]
        error = abs(found - z)
        error = error if error > kind(4) * rounding(z, mu, unit) else kind(0)
        error = error if found - found == kind(0) else kind(np.inf)  # where no edge is curved
        better = (error < least) | (trial == 0)
        state[ERROR + j] = error if better else least
        best_found, best_mass = state[FOUND + j], state[BEST_MASS + j]
        best_point, best_tolerance = state[BEST_POINT + j], state[BEST_TOLERANCE + j]
        state[FOUND + j] = found if better else best_found
        state[BEST_MASS + j] = state[MASS + j] if better else best_mass
        state[BEST_POINT + j] = state[POINT + j] if better else best_point
        state[BEST_TOLERANCE + j] = state[TOLERANCE + j] if better else best_tolerance
        looking = plus(looking, kind((settled == kind(0)) & (min(error, least) > kind(0))))
    return looking


@kernel
def choose_piece(table: Any, state: Any, count: int, tau: Any, cotau: Any, mu: Any) -> None:
    """Find the point and the tolerance at which the piece leads back to SOLUTION, for lanes that are not SETTLED.

    Ties count as above and as curved, unless the piece then leads elsewhere: see `varmorph.torch.separable.quantiles`.
    """
    for j in range(BLOCK):
        state[ERROR + j] = np.inf
    for trial in range(4):
        _try_point(state, trial, mu)
        _solve_piece(table, state, count, tau, cotau, mu)
        if _keep_best(state, trial, mu) == 0:
            break
