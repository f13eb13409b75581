"""Accelerated gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from varmorph.formulas.per_problem import dot, spread_over
from varmorph.jax.energy.energy import Energy, Evaluation
from varmorph.jax.energy.solvers.iteration import Goal, Solver, hold, no_steps

__all__ = ["AcceleratedGradient"]


class _State(NamedTuple):
    at: Evaluation  # at the extrapolated point, where the gradient is needed: that is the iterate
    descended: jax.Array  # where the last gradient step led
    momentum: jax.Array  # (N, C), the sequence t of FISTA


@dataclass(frozen=True, kw_only=True)
class AcceleratedGradient(Solver):
    """Accelerated gradient descent (FISTA) with restarts, scaled by the diagonal.

    The step of each unknown is the inverse of a bound of the Hessian's row sums: greatest curvatures, twice those of edges
    between unknowns. Where the momentum points uphill it is dropped. A. Beck, M. Teboulle (2009), SIAM J. Imaging Sci. 2(1),
    183-202; B. O'Donoghue, E. Candes (2015), Adaptive restart, Found. Comput. Math. 15, 715-732, section 3.2.

    Parameters
    ----------
    tolerance, max_steps, on_failure
        See `Solver`.
    """

    max_steps: int = 5000

    def start(self, energy: Energy, z: jax.Array, goal: Goal) -> _State:
        return _State(energy.evaluate(z), z, jnp.ones(z.shape[:2], z.dtype))

    def step(
        self, energy: Energy, goal: Goal, state: _State, active: jax.Array, residual: jax.Array
    ) -> tuple[_State, jax.Array]:
        point = state.at.z
        bound = energy.curvature_bound()
        descended = point - state.at.gradient / jnp.where(bound > 0, bound, 1.0)
        uphill = stop_gradient(dot(state.at.gradient, descended - state.descended)).reshape(active.shape) > 0
        before = jnp.where(uphill, 1.0, state.momentum)
        momentum = (1 + jnp.sqrt(1 + 4 * before * before)) / 2
        share = jnp.where(uphill, 0.0, (before - 1) / momentum)
        extrapolated = descended + spread_over(share, point) * (descended - state.descended)
        at = energy.evaluate(hold(active, extrapolated, point))
        return _State(at, descended, momentum), no_steps(active)
