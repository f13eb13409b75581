"""The loop that all solvers share: who is done, who goes on, and the certificate.

The fixed-point loops of `optimistix` stop a whole array at once, by a norm of its last movement. Here every problem of a batch
has a stop of its own, at a residual of the energy's gradient; what has stopped is held, so that the result of a sample does not
depend on its batch. Where a solver is differentiated step by step, the loop is Equinox's, which keeps checkpoints.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from varmorph.convergence import SolverSettings
from varmorph.formulas.per_problem import spread_over
from varmorph.jax.energy.energy import Energy, Evaluation, Extent, frozen

__all__ = ["Goal", "MapSolver", "Run", "Solver", "hold", "no_steps"]


def hold(active: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    """Move the problems that are still active (N, C), hold the others."""
    return jnp.where(spread_over(active, new), new, old)


def no_steps(active: jax.Array) -> jax.Array:
    """Count no linear steps."""
    return jnp.zeros(active.shape, jnp.int32)


class Run(NamedTuple):
    """Where a solver ended. `at` is the energy there; the others are numbers of problems (N, C)."""

    at: Evaluation
    converged: jax.Array
    iterations: jax.Array
    residual: jax.Array
    linear_steps: jax.Array
    identified: jax.Array


class _Progress(NamedTuple):
    state: Any
    residual: jax.Array
    iterations: jax.Array
    linear_steps: jax.Array
    identified: jax.Array
    pieces: tuple[jax.Array, ...]
    moved: jax.Array
    turn: jax.Array


class Goal(NamedTuple):
    """Where a run is to lead.

    `extent` is that of the energy, `tolerance` the residual that is asked for, and `recorded` tells whether the iterations are
    to be differentiated in reverse mode.
    """

    extent: Extent
    tolerance: float
    recorded: bool


class Solver(SolverSettings, ABC):
    """An iteration towards the minimiser of an energy, with the settings of `SolverSettings`."""

    # Whether a step that moves nothing means that no later one will.
    descends: ClassVar[bool] = False
    # Whether the first step, taken by no problem, is what evaluates the energy at the start: that code is compiled once then.
    starts_blank: ClassVar[bool] = False

    @abstractmethod
    def start(self, energy: Energy, z: jax.Array, goal: Goal) -> Any:
        """Make the first state; its attribute `at` is the energy evaluated at the iterate."""

    @abstractmethod
    def step(
        self, energy: Energy, goal: Goal, state: Any, active: jax.Array, residual: jax.Array
    ) -> tuple[Any, jax.Array]:
        """Make the next state, holding `state.at` for problems that are not active; return it and the linear steps taken.

        active : (N, C) bool.  residual : (N, C), at the state.
        """

    def residual(self, energy: Energy, extent: Extent, state: Any) -> jax.Array:
        """Residual of each problem (N, C)."""
        return energy.relative_residual(state.at, extent)

    def final_residual(self, energy: Energy, extent: Extent, state: Any) -> jax.Array:
        """Residual of each problem (N, C) where the iterations end: ties are looked at."""
        residual = self.residual(energy, extent, state)
        return jnp.minimum(residual, energy.residual_at_ties(state.at, extent))

    def check(self, energy: Energy) -> None:
        """Refuse an energy that the solver cannot minimise."""
        if energy.has_corner:
            raise ValueError(
                f"{type(self).__name__} needs penalties with a derivative, found 'quantile': use PrimalDual() or ADMM(),"
                " or penalty 'huber' with a small smoothing"
            )

    def run(self, energy: Energy, z: jax.Array, *, fixed_steps: int | None = None, recorded: bool = False) -> Run:
        """Iterate from z until every problem is done; with `fixed_steps`, that many steps for all of them.

        recorded : whether the iterations are to be differentiated in reverse mode, as those of `fixed_steps` can be always.
        """
        self.check(energy)
        extent, none = energy.extent(), jnp.zeros(z.shape[:2], jnp.int32)
        goal = Goal(extent, self.resolved_tolerance(z.dtype == jnp.float64), recorded or fixed_steps is not None)
        state = self.start(energy, z, goal)
        residual = jnp.full(z.shape[:2], jnp.inf, z.dtype)
        if not self.starts_blank:
            residual = stop_gradient(self.residual(energy, extent, state))
        pieces = energy.pieces(state.at.residuals)
        begin = _Progress(state, residual, none, none, none, pieces, jnp.bool_(True), jnp.int32(-self.starts_blank))

        def step(now: _Progress) -> _Progress:
            active = now.residual > goal.tolerance if fixed_steps is None else jnp.ones(z.shape[:2], bool)
            active &= now.turn >= 0
            state, linear = self.step(energy, goal, now.state, active, now.residual)
            iterations, pieces = now.iterations + active, energy.pieces(state.at.residuals)
            identified = jnp.where(energy.differ(pieces, now.pieces) & active, iterations, now.identified)
            moved = (state.at.z != now.state.at.z).any() | (now.turn < 0) if self.descends else now.moved
            residual = stop_gradient(self.residual(energy, extent, state))
            steps = now.linear_steps + linear
            return _Progress(state, residual, iterations, steps, identified, pieces, moved, now.turn + 1)

        def goes_on(now: _Progress) -> jax.Array:
            return (now.residual > goal.tolerance).any() & now.moved & (now.turn < self.max_steps)

        if recorded:
            most = self.max_steps + self.starts_blank
            end = eqxi.while_loop(goes_on, step, begin, max_steps=most, kind="checkpointed")
        elif fixed_steps is not None:
            steps = fixed_steps + self.starts_blank
            end = jax.lax.scan(lambda now, _: (step(now), None), begin, length=steps)[0]
        else:
            end = jax.lax.while_loop(goes_on, step, begin)
        last = stop_gradient(self.final_residual(frozen(energy), extent, frozen(end.state)))
        last = jnp.where(end.residual > goal.tolerance, last, end.residual)
        return Run(end.state.at, last <= goal.tolerance, end.iterations, last, end.linear_steps, end.identified)


class MapSolver(Solver):
    """A solver that finds the fixed points of any map, not only of the relaxation of an energy."""

    @abstractmethod
    def first(self, z: jax.Array) -> Any:
        """Make the history of an iteration that starts at z (N, C, ...)."""

    @abstractmethod
    def advance(self, history: Any, z: jax.Array, image: jax.Array) -> tuple[jax.Array, Any]:
        """Return the iterate that follows z and the image of z, and the history with both."""
