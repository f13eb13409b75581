"""Linear systems of many independent problems at once: conjugate gradients, each with a stop of its own, and a series.

`lineax.CG` and `jax.scipy.sparse.linalg.cg` stop all problems of an array at once, or under `vmap` at a tolerance that is
the same constant for all. A Newton step asks each problem for an accuracy of its own, which depends on how far that problem
has come, and a certificate wants the steps and the residual of each.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from varmorph.formulas.per_problem import dot, power_of_two
from varmorph.jax.energy.laplacian import Laplacian

__all__ = ["LinearSolution", "conjugate_gradients", "differentiable_solution", "neumann_series"]


class LinearSolution(NamedTuple):
    """Solution of the shape of z, and for each problem (N, C) the steps taken and the residual relative to the right side."""

    value: jax.Array
    steps: jax.Array
    residual: jax.Array


class _State(NamedTuple):
    value: jax.Array
    residual: jax.Array
    direction: jax.Array
    product: jax.Array
    steps: jax.Array
    norm: jax.Array
    turn: jax.Array


def _ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """Quotient, 0 where the denominator is not positive: nothing is left to do there, or the matrix is singular."""
    safe = denominator > 0
    return jnp.where(safe, numerator, 0.0) / jnp.where(safe, denominator, 1.0)


def conjugate_gradients(
    matrix: Laplacian, right: jax.Array, tolerance: jax.Array | float, max_steps: int
) -> LinearSolution:
    """Solve matrix(v) = right, preconditioned by the diagonal, until the residual norm is tolerance times that of right.

    right : (N, C, ...).  tolerance : number or (N, C).  A problem that has stopped does not move any more; one that
    holds NaN stops at once and keeps residual NaN.
    """
    inverse = _ratio(jnp.ones_like(matrix.diagonal), matrix.diagonal)
    # Scaled to norm 1, so that squares neither overflow nor vanish in single precision: those of the norm itself included.
    unit = power_of_two(jnp, right, range(2, right.ndim))
    scaled = right / unit
    size = jnp.sqrt(dot(scaled, scaled))
    size = jnp.where(size > 0, size, 1.0)
    residual = scaled / size
    problems = right.shape[:2]

    def norm_of(residual: jax.Array) -> jax.Array:
        return jnp.sqrt(dot(residual, residual)).reshape(problems)

    def step(state: _State) -> _State:
        active = state.norm > tolerance
        image = matrix(state.direction)
        # A step of length 0 holds a problem that has stopped; where it would go does not matter.
        length = jnp.where(active.reshape(size.shape), _ratio(state.product, dot(state.direction, image)), 0.0)
        residual = state.residual - length * image
        conditioned = inverse * residual
        product = dot(residual, conditioned)
        direction = conditioned + _ratio(product, state.product) * state.direction
        value = state.value + length * state.direction
        steps = state.steps + active
        return _State(value, residual, direction, product, steps, norm_of(residual), state.turn + 1)

    def goes_on(state: _State) -> jax.Array:
        return (state.turn < max_steps) & (state.norm > tolerance).any()

    first = inverse * residual
    none = jnp.zeros(problems, jnp.int32)
    begin = _State(jnp.zeros_like(right), residual, first, dot(residual, first), none, norm_of(residual), jnp.int32(0))
    end = jax.lax.while_loop(goes_on, step, begin)
    return LinearSolution(end.value * size * unit, end.steps, end.norm)


def neumann_series(matrix: Laplacian, right: jax.Array, terms: int) -> LinearSolution:
    """Add up sum_{j < terms} (I - D^-1 matrix)^j D^-1 right, D the diagonal of the matrix."""
    inverse = _ratio(jnp.ones_like(matrix.diagonal), matrix.diagonal)
    unit = power_of_two(jnp, right, range(2, right.ndim))
    scaled = right / unit

    def add(_: jax.Array, value: jax.Array) -> jax.Array:
        return value + inverse * (scaled - matrix(value))

    value = jax.lax.fori_loop(1, terms, add, inverse * scaled)
    residual, size = scaled - matrix(value), jnp.sqrt(dot(scaled, scaled))
    relative = (jnp.sqrt(dot(residual, residual)) / jnp.where(size > 0, size, 1.0)).reshape(right.shape[:2])
    return LinearSolution(value * unit, jnp.full(right.shape[:2], terms, jnp.int32), relative)


def differentiable_solution(
    matrix: Laplacian, right: jax.Array, tolerance: jax.Array | float, max_steps: int
) -> LinearSolution:
    """Solve as `conjugate_gradients`, with the derivative of the exact solution in the matrix and in the right side."""
    fine = 1e-12 if right.dtype == jnp.float64 else 1e-6

    def solve(accuracy: jax.Array | float, b: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        found = conjugate_gradients(matrix, b, accuracy, max_steps)
        return found.value, (found.steps, found.residual)

    value, (steps, residual) = jax.lax.custom_linear_solve(
        lambda v: matrix(v),
        right,
        lambda _, b: solve(tolerance, b),
        lambda _, b: solve(fine, b),
        symmetric=True,
        has_aux=True,
    )
    return LinearSolution(value, steps, residual)
