"""Linear systems without symmetry, many at once: GMRES, each with a stop of its own, and the geometric series.

See `varmorph.torch.energy.gmres`. `jax.scipy.sparse.linalg.gmres` sees the whole of an array as one system, so that the
solution of a sample would depend on its batch, and it tells neither steps nor residuals. Y. Saad, M. H. Schultz (1986), GMRES: a
generalized minimal residual algorithm for solving nonsymmetric linear systems, SIAM J. Sci. Stat. Comput. 7(3), 856-869.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from varmorph.formulas.per_problem import power_of_two

__all__ = ["RESTART", "GeneralSolution", "geometric_series", "minimal_residuals"]

RESTART = 20  # directions that are kept before GMRES starts afresh: what bounds its memory

Operator = Callable[[jax.Array], jax.Array]


class GeneralSolution(NamedTuple):
    """Solution (N, D), and for each problem (N,) the steps, the residual relative to the right side, and whether it is stuck.

    A problem is stuck where the Krylov space ended before the solution was found: the matrix is singular.
    """

    value: jax.Array
    steps: jax.Array
    residual: jax.Array
    stuck: jax.Array


class _Progress(NamedTuple):
    value: jax.Array
    residual: jax.Array
    norm: jax.Array
    active: jax.Array
    stuck: jax.Array
    steps: jax.Array
    taken: jax.Array


def minimal_residuals(matrix: Operator, right: jax.Array, tolerance: float, max_steps: int) -> GeneralSolution:
    """Solve matrix(v) = right until the residual norm is tolerance times that of right.

    matrix : maps (N, D) to (N, D), each problem for itself.  right : (N, D).  A problem that has stopped does not move any
    more; one that holds NaN stops at once and keeps residual NaN. The residual that is returned is computed from v, not
    the one that GMRES carries along. A problem that a whole cycle brings no nearer has met rounding, and stops.
    """
    unit = power_of_two(jnp, right, (1,))
    size = _norm(right / unit)
    size = jnp.where(size > 0, size, 1.0)
    scaled = right / unit / size[:, None]
    norm = _norm(scaled)

    def goes_on(now: _Progress) -> jax.Array:
        return (now.taken < max_steps) & now.active.any()

    def improve(now: _Progress) -> _Progress:
        cycle = _cycle(matrix, now.residual, now.active, tolerance, max_steps - now.taken)
        value = now.value + _change(cycle)
        residual = scaled - matrix(value)
        norm = _norm(residual)
        stuck = now.stuck | (cycle.stuck & (norm > tolerance))
        active = (norm > tolerance) & (norm < 0.9 * now.norm) & ~stuck
        return _Progress(value, residual, norm, active, stuck, now.steps + cycle.steps, now.taken + cycle.taken)

    none = jnp.zeros(norm.shape, jnp.int32)
    begin = _Progress(
        jnp.zeros_like(right), scaled, norm, norm > tolerance, jnp.zeros(norm.shape, bool), none, jnp.int32(0)
    )
    end = jax.lax.while_loop(goes_on, improve, begin)
    return GeneralSolution(end.value * size[:, None] * unit, end.steps, end.norm, end.stuck)


def geometric_series(matrix: Operator, right: jax.Array, terms: int) -> GeneralSolution:
    """Add up sum_{j < terms} (I - matrix)^j right."""
    unit = power_of_two(jnp, right, (1,))
    scaled = right / unit
    value = jax.lax.fori_loop(1, terms, lambda _, value: value + scaled - matrix(value), scaled)
    size = _norm(scaled)
    relative = _norm(scaled - matrix(value)) / jnp.where(size > 0, size, 1.0)
    steps = jnp.full(size.shape, terms, jnp.int32)
    return GeneralSolution(value * unit, steps, relative, jnp.zeros(size.shape, bool))


def _norm(vectors: jax.Array) -> jax.Array:
    return jnp.linalg.norm(vectors, axis=-1)


class _Cycle(NamedTuple):
    """One cycle of GMRES: an orthonormal basis of the Krylov space of each problem, and its Hessenberg matrix.

    Columns that are not filled, or that a problem at rest does not fill, are 0 but for a 1 below the diagonal. They leave the
    least squares problem of the others as it is, and their coefficients are 0.
    """

    norm: jax.Array  # (N,), of the residual it starts from
    basis: jax.Array  # (N, RESTART + 1, D)
    hessenberg: jax.Array  # (N, RESTART + 1, RESTART)
    going: jax.Array
    stuck: jax.Array
    steps: jax.Array
    taken: jax.Array


def _cycle(matrix: Operator, residual: jax.Array, active: jax.Array, tolerance: float, most: jax.Array) -> _Cycle:
    problems, unknowns = residual.shape
    norm = _norm(residual)
    first = _kept(active, residual / jnp.where(active, norm, 1.0)[:, None])
    basis = jnp.zeros((problems, RESTART + 1, unknowns), residual.dtype).at[:, 0].set(first)
    rest = jnp.broadcast_to(jnp.eye(RESTART + 1, RESTART, -1, residual.dtype), (problems, RESTART + 1, RESTART))
    none = jnp.zeros(problems, jnp.int32)
    begin = _Cycle(norm, basis, rest, active, jnp.zeros(problems, bool), none, jnp.int32(0))

    def goes_on(cycle: _Cycle) -> jax.Array:
        return (cycle.taken < jnp.minimum(RESTART, most)) & cycle.going.any()

    def extend(cycle: _Cycle) -> _Cycle:
        cycle = _extended(cycle, matrix(cycle.basis[:, cycle.taken]))
        last = jnp.linalg.qr(cycle.hessenberg, mode="complete").Q[:, 0, -1]
        return cycle._replace(going=cycle.going & (cycle.norm * jnp.abs(last) > tolerance))

    return jax.lax.while_loop(goes_on, extend, begin)


def _extended(cycle: _Cycle, image: jax.Array) -> _Cycle:
    """Add the image (N, D) of the last direction to the basis."""
    length, place, column = _norm(image), cycle.taken, jnp.zeros_like(cycle.basis[..., 0])
    for _ in range(2):  # twice, so that rounding does not cost orthogonality
        part = jnp.einsum("nkd,nd->nk", cycle.basis, image)
        image, column = image - jnp.einsum("nkd,nk->nd", cycle.basis, part), column + part
    rest = _norm(image)
    epsilon = jnp.finfo(rest.dtype).eps
    ended = rest <= 100 * epsilon * length
    column = column.at[:, place + 1].set(jnp.where(ended, 0.0, rest))
    before = cycle.hessenberg[..., place]
    filled = cycle.hessenberg.at[..., place].set(jnp.where(cycle.going[:, None], column, before))
    # The Krylov space has ended: the matrix is singular if the triangle is. That column is dropped.
    diagonal = jnp.abs(jnp.diagonal(jnp.linalg.qr(filled).R, axis1=-2, axis2=-1))
    small = diagonal[:, place] <= 1e3 * epsilon * jnp.maximum(diagonal.max(-1), 1.0)
    singular = ended & cycle.going & small
    grows = cycle.going & ~ended
    return _Cycle(
        cycle.norm,
        cycle.basis.at[:, place + 1].set(_kept(grows, image / jnp.where(grows, rest, 1.0)[:, None])),
        filled.at[..., place].set(jnp.where(singular[:, None], before, filled[..., place])),
        grows,
        cycle.stuck | singular,
        cycle.steps + cycle.going,
        place + 1,
    )


def _change(cycle: _Cycle) -> jax.Array:
    """Combination of the basis (N, D) that leaves the least residual."""
    orthogonal, triangular = jnp.linalg.qr(cycle.hessenberg)
    target = orthogonal[:, 0, :, None] * jnp.where(jnp.isfinite(cycle.norm), cycle.norm, 0.0)[:, None, None]
    share = jax.scipy.linalg.solve_triangular(triangular, target, lower=False)
    return jnp.einsum("nkd,nk->nd", cycle.basis[:, :-1], share[..., 0])


def _kept(where: jax.Array, vectors: jax.Array) -> jax.Array:
    """Vectors (N, D) where a problem goes on (N,), 0 elsewhere."""
    return jnp.where(where[:, None], vectors, 0.0)
