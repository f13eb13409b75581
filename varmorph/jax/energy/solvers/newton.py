"""Newton's method: reweighted least squares at first, semismooth Newton at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from varmorph.formulas.newton import Duals, conductances, first_duals, next_duals
from varmorph.formulas.per_problem import dot, spread_over
from varmorph.jax.energy.conjugate_gradients import conjugate_gradients, differentiable_solution
from varmorph.jax.energy.energy import Energy, Evaluation, frozen
from varmorph.jax.energy.namespace import xp
from varmorph.jax.energy.relaxation import relaxed
from varmorph.jax.energy.solvers.iteration import Goal, Solver, hold

__all__ = ["Newton"]

MOST_CUTS = 30
SWEEP_STEPS = 10


class _State(NamedTuple):
    at: Evaluation
    duals: Duals


@dataclass(frozen=True, kw_only=True)
class Newton(Solver):
    """Semismooth Newton method with primal-dual weights, its systems solved by conjugate gradients.

    Each step solves H d = -grad E with conductances w a (1 - chi p sign(r)) / max(|r|, mu), chi = 1 where |r| > mu. The
    dual variable p of an edge starts at 0, which gives the matrix of reweighted least squares, and tends to h'(r), which
    gives the Hessian (Chan, Golub and Mulet 1999, SIAM J. Sci. Comput. 20(6), section 3). A share of the former matrix,
    shrinking with the residual, keeps the system regular. Steps are shortened until they lower the energy.
    Known values that pull by Huber's penalty make kinks that each concern one unknown, while a step has one length for
    all of them; there each step follows a sweep of relaxation, which settles the kinks one by one.

    Parameters
    ----------
    tolerance, max_steps, on_failure
        See `Solver`.
    linear_steps : int
        Most conjugate gradient steps in one system.
    """

    descends: ClassVar[bool] = True
    starts_blank: ClassVar[bool] = True

    max_steps: int = 200
    linear_steps: int = 1000

    def start(self, energy: Energy, z: jax.Array, goal: Goal) -> _State:
        at = jax.tree.map(jnp.zeros_like, jax.eval_shape(energy.evaluate, z))._replace(z=z)
        return _State(at, first_duals(xp, energy.edges, at.residuals))

    def step(
        self, energy: Energy, goal: Goal, state: _State, active: jax.Array, residual: jax.Array
    ) -> tuple[_State, jax.Array]:
        if _has_kinks_of_its_own(energy):
            sweep = hold(active, relaxed(energy, state.at.z, SWEEP_STEPS), state.at.z)
            state = state._replace(at=_shortened(energy, state.at, sweep - state.at.z, active, goal.recorded))
        share = 0.1 * jnp.minimum(residual, 1.0)
        matrix = energy.laplacian(conductances(xp, energy.edges, state.at, state.duals, share))
        # Early systems are solved roughly; late ones no better than the tolerance asks for.
        forcing = jnp.minimum(jnp.maximum(jnp.minimum(residual, 0.1), 0.1 * goal.tolerance / residual), 0.1)
        forcing = jnp.where(active, forcing, jnp.inf)
        solve = differentiable_solution if goal.recorded else conjugate_gradients
        solution = solve(matrix, -state.at.gradient, forcing, self.linear_steps)
        direction = hold(active, solution.value, jnp.zeros_like(solution.value))
        at = _shortened(energy, state.at, direction, active, goal.recorded)
        duals = next_duals(xp, energy.edges, state.at.residuals, state.duals, direction, active)
        return _State(at, duals), solution.steps


def _has_kinks_of_its_own(energy: Energy) -> bool:
    """Tell whether kinks belong to single unknowns; those of edges between unknowns gain nothing from relaxation."""
    kinked = [edges.incidence.grounded for edges in energy.edges if edges.penalty.h == "huber"]
    return bool(kinked) and all(kinked)


def _shortened(energy: Energy, at: Evaluation, direction: jax.Array, active: jax.Array, recorded: bool) -> Evaluation:
    """Walk along a direction of descent until the energy falls; problems choose their lengths one by one."""
    length, trial = frozen(_length_and_trial(frozen(energy), frozen(at), stop_gradient(direction), active))
    return energy.evaluate(at.z + length * direction) if recorded else trial


def _length_and_trial(
    energy: Energy, at: Evaluation, direction: jax.Array, active: jax.Array
) -> tuple[jax.Array, Evaluation]:
    """Shorten a step: give its length, in the shape of `spread_over`, and the energy where it leads.

    E is convex, so it has fallen where its slope along the direction is still negative; that is the test that rounding
    spoils least. Else the fall of E must be enough, or be lost in rounding while the slope has become smaller.
    """
    slope = dot(at.gradient, direction)
    value = energy.value(at)
    rounding = spread_over(32 * jnp.finfo(at.z.dtype).eps * value, at.z)
    moving = spread_over(active, at.z) & jnp.isfinite(slope)

    def shorten(state: tuple[Any, ...]) -> tuple[Any, ...]:
        count, length, *_ = state
        trial = energy.evaluate(at.z + length * direction)
        ahead = dot(trial.gradient, direction)
        fallen = spread_over(energy.value(trial) - value, at.z)
        enough = fallen <= 1e-4 * length * slope
        lost = (fallen <= rounding) & (ahead <= -0.9 * slope)
        good = (ahead <= 0) | enough | lost | ~moving
        # The slope along the direction is piecewise linear: go to where a line through both ends would be 0.
        secant = slope / jnp.where(good, 1.0, slope - ahead)
        shorter = jnp.where(good, length, length * jnp.clip(secant, 0.1, 0.7))
        return count + 1, shorter, length, trial, good.all()

    def goes_on(state: tuple[Any, ...]) -> jax.Array:
        return (state[0] < MOST_CUTS) & ~state[4]

    one = jnp.ones_like(slope)
    return jax.lax.while_loop(goes_on, shorten, (jnp.int32(0), one, one, at, jnp.bool_(False)))[2:4]
