"""Fixed points of nonlinear relaxation, or of any map: the equilibrium view, plain and accelerated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from varmorph.convergence import check_memory, check_share
from varmorph.formulas.per_problem import dot, power_of_two, spread_over
from varmorph.jax.energy.energy import Energy, Evaluation
from varmorph.jax.energy.relaxation import relaxed
from varmorph.jax.energy.solvers.iteration import Goal, MapSolver, hold, no_steps

__all__ = ["Anderson", "FixedPoint"]


class _State(NamedTuple):
    at: Evaluation
    energy: jax.Array  # (N, C)
    share: jax.Array  # (N, C), of each sweep that is taken


@dataclass(frozen=True, kw_only=True)
class FixedPoint(MapSolver):
    """Nonlinear Jacobi iteration: every unknown becomes the separable solution between its neighbours, all at once.

    It reaches a coarse solution quickly; then the error shrinks by a constant factor that tends to 1 as the coupling
    grows, so that high accuracy takes many steps. Where a sweep does not lower the energy (neighbours that answer each
    other may swing), half of each further one is taken: on a grid, whose pixels have two colours, that lowers it always.
    For `equilibrium` a sweep is the map that is given, and the same share of each is taken.

    Parameters
    ----------
    tolerance, max_steps, on_failure
        See `Solver`.
    inner_steps : int
        Most steps of the scalar problems; a map has none.
    share : float
        Share of each sweep that is taken, in (0, 1]; less than 1 damps the iteration. Of energies: at first.
    """

    max_steps: int = 2000
    inner_steps: int = 10
    share: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share(self.share)

    def first(self, z: jax.Array) -> None:
        return None

    def advance(self, history: None, z: jax.Array, image: jax.Array) -> tuple[jax.Array, None]:
        return (image if self.share == 1 else z + self.share * (image - z)), None

    def start(self, energy: Energy, z: jax.Array, goal: Goal) -> _State:
        at = energy.evaluate(z)
        return _State(at, stop_gradient(energy.value(at)), jnp.full(z.shape[:2], self.share, z.dtype))

    def step(
        self, energy: Energy, goal: Goal, state: _State, active: jax.Array, residual: jax.Array
    ) -> tuple[_State, jax.Array]:
        z = state.at.z
        moved = z + spread_over(state.share, z) * (relaxed(energy, z, self.inner_steps) - z)
        at = energy.evaluate(hold(active, moved, z))
        value = stop_gradient(energy.value(at))
        share = jnp.where(value < state.energy, state.share, jnp.minimum(state.share, 0.5))
        return _State(at, value, share), no_steps(active)


class History(NamedTuple):
    """The last sweeps of an accelerated iteration."""

    images: jax.Array  # (memory, N, C, ...), where they led
    moves: jax.Array  # what each sweep added, 0 where there is none yet
    norm: jax.Array  # (N, C), of the last move that was accepted
    last_sweep: jax.Array  # of the shape of z


class _Accelerated(NamedTuple):
    at: Evaluation
    history: History


@dataclass(frozen=True, kw_only=True)
class Anderson(MapSolver):
    """Anderson acceleration of `FixedPoint`: the combination of the last sweeps that would have moved least.

    A combination after which the sweep moves twice as far as before is dropped for a plain sweep, and its history with
    it. D. G. Anderson (1965), Iterative procedures for nonlinear integral equations, J. ACM 12(4), 547-560.

    Parameters
    ----------
    tolerance, max_steps, on_failure
        See `Solver`.
    memory : int
        Number of sweeps that are combined.
    regularisation : float
        Added to the normal equations, relative to their trace.
    inner_steps : int
        Most steps of the scalar problems; a map has none.
    """

    max_steps: int = 1000
    memory: int = 6
    regularisation: float = 1e-10
    inner_steps: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        check_memory(self.memory)

    def first(self, z: jax.Array) -> History:
        none = jnp.zeros((self.memory, *z.shape), z.dtype)
        return History(none, none, jnp.full(z.shape[:2], jnp.inf, z.dtype), z)

    def advance(self, history: History, z: jax.Array, image: jax.Array) -> tuple[jax.Array, History]:
        move = image - z
        norm = jnp.sqrt(stop_gradient(dot(move, move))).reshape(z.shape[:2])
        worse = norm > 2 * history.norm
        # A problem that has become worse starts again from its last plain sweep, with a history of one.
        forgotten = spread_over(worse, z)
        image = jnp.where(forgotten, history.last_sweep, image)
        images = jnp.concatenate((jnp.where(forgotten, 0.0, history.images[1:]), image[None]))
        moves = jnp.where(forgotten, 0.0, jnp.concatenate((history.moves[1:], move[None])))
        combined = jnp.where(forgotten, image, self._combine(images, moves))
        return combined, History(images, moves, jnp.where(worse, jnp.inf, norm), image)

    def start(self, energy: Energy, z: jax.Array, goal: Goal) -> _Accelerated:
        return _Accelerated(energy.evaluate(z), self.first(z))

    def step(
        self, energy: Energy, goal: Goal, state: _Accelerated, active: jax.Array, residual: jax.Array
    ) -> tuple[_Accelerated, jax.Array]:
        z = state.at.z
        combined, history = self.advance(state.history, z, relaxed(energy, z, self.inner_steps))
        return _Accelerated(energy.evaluate(hold(active, combined, z)), history), no_steps(active)

    def _combine(self, images: jax.Array, moves: jax.Array) -> jax.Array:
        """Minimise |sum_j c_j moves_j| over sum c = 1, and combine the sweeps by c."""
        count = moves.shape[0]
        flat = jnp.moveaxis(moves.reshape(*moves.shape[:3], -1), 0, 2)  # (N, C, count, unknowns)
        flat = flat / power_of_two(jnp, stop_gradient(flat), (2, 3))  # squares of small moves would vanish
        gram = flat @ flat.swapaxes(-1, -2)
        diagonal = jnp.diagonal(gram, axis1=-2, axis2=-1)
        number, trace = jnp.finfo(gram.dtype), diagonal.sum(-1, keepdims=True)
        trace = jnp.where(trace > 0, trace, 1.0)
        empty = diagonal <= 0
        identity = jnp.eye(count, dtype=gram.dtype)
        matrix = gram / trace[..., None] + (self.regularisation + number.eps + empty[..., None]) * identity
        matrix = jnp.where(jnp.isfinite(matrix).all((-1, -2), keepdims=True), matrix, identity)
        solved = jnp.linalg.solve(matrix, jnp.ones_like(diagonal)[..., None])[..., 0]
        solved = jnp.where(empty & ~empty.all(-1, keepdims=True), 0.0, solved)
        share = jnp.moveaxis(solved / solved.sum(-1, keepdims=True), -1, 0)
        return (share.reshape(*share.shape, *(1,) * (images.ndim - 3)) * images).sum(0)
