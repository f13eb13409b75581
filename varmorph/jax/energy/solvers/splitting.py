"""Methods that split the edges from the unknowns, and need no derivative of the penalties: primal-dual and ADMM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from varmorph.jax.energy.conjugate_gradients import conjugate_gradients, differentiable_solution
from varmorph.jax.energy.energy import Edges, Energy, Evaluation, Extent
from varmorph.jax.energy.laplacian import Laplacian
from varmorph.jax.energy.solvers.iteration import Goal, Solver, hold, no_steps, spread_over

__all__ = ["ADMM", "PrimalDual"]


def _stiffness(energy: Energy, edges: Edges, extent: Extent) -> jax.Array:
    """Scale of an edge's penalty: its mean curvature, or what replaces it where the penalty has a corner.

    Any positive number gives a convergent method; this one makes edges of different weights move alike.
    """
    edge = edges.residual(energy.zeros)
    scale = edges.incidence.over_edges(jnp.where(extent.spread > 0, extent.spread, 1.0), edge)
    rho = edges.penalty
    side = 1.0 if rho.tau is None or rho.cotau is None else jnp.sqrt(rho.tau * rho.cotau)
    width = jnp.ones_like(scale) if rho.h == "square" else 0.1 * scale
    if rho.smoothing is not None:
        width = jnp.maximum(rho.smoothing, width)
    return stop_gradient(jnp.broadcast_to(edges.weight * side / width, edge.shape))


def _stiffnesses(energy: Energy, extent: Extent) -> tuple[jax.Array, ...]:
    return tuple(_stiffness(energy, edges, extent) for edges in energy.edges)


def _prox(edges: Edges, r: jax.Array, stiffness: jax.Array) -> jax.Array:
    """Minimise w rho(q) + stiffness / 2 (q - r)^2 over q; an edge of weight 0 leaves r alone."""
    return edges.penalty.prox(r, edges.weight / jnp.where(stiffness > 0, stiffness, 1.0))


def duality_gap(energy: Energy, extent: Extent, at: Evaluation, duals: tuple[jax.Array, ...]) -> jax.Array:
    """Energy minus the dual energy of forces p on the edges, relative to the energy's scale, of each problem (N, C).

    The minimiser lies in the range [l, u] of the known values and offsets. Over that box the dual energy is finite for
    every ridge: sum_e (p_e b_e - (w rho)*(p_e)) + sum_i min over z_i in [l, u] of (A'p)_i z_i + kappa / 2 (z_i - anchor_i)^2.
    """
    low, high = (spread_over(bound, at.z) for bound in (extent.least, extent.greatest))
    upwards, total = jnp.zeros_like(at.z), energy.value(at)
    wide, scale = total.dtype, jnp.zeros_like(total)
    for edges, p in zip(energy.edges, duals, strict=True):
        endpoints = edges.incidence
        inner = (p * edges.offset).astype(wide) - edges.penalty.conjugate(p, edges.weight).astype(wide)
        total = total - endpoints.per_problem(inner).sum(-1)
        upwards = upwards + endpoints.divergence(p)
        scale = scale + endpoints.per_problem((edges.weight * jnp.ones_like(p)).astype(wide)).sum(-1) * extent.spread
    if energy.ridge is None:
        least = jnp.minimum(upwards * low, upwards * high)
    else:
        ridge, anchor = jnp.broadcast_to(energy.ridge.weight, at.z.shape), energy.ridge.anchor
        free = anchor - upwards / jnp.where(ridge > 0, ridge, 1.0)
        z = jnp.clip(jnp.where(ridge > 0, free, jnp.where(upwards > 0, low, high)), low, high)
        least = upwards * z + ridge / 2 * (z - anchor) ** 2
    total = total - least.astype(wide).sum(tuple(range(2, least.ndim)))
    return jnp.maximum(jnp.where(scale > 0, total / scale, 0.0), 0).astype(at.z.dtype)


class _Splitting(Solver):
    """What the two methods share: the residual is the duality gap where a penalty has a corner."""

    def check(self, energy: Energy) -> None:
        """Accept every penalty; a corner only where the dual energy is known, without offsets between unknowns."""
        offsets = [edges.offset for edges in energy.edges if not edges.incidence.grounded]
        known = [offset for offset in offsets if not isinstance(offset, jax.core.Tracer)]
        if energy.has_corner and any(bool((offset != 0).any()) for offset in known):
            raise ValueError("penalty 'quantile' with offsets between unknowns has no certificate: use 'huber'")

    def residual(self, energy: Energy, extent: Extent, state: Any) -> jax.Array:
        """Relative residual of the gradient, or the duality gap where there is none."""
        if energy.has_corner:
            return duality_gap(energy, extent, state.at, state.duals)
        return super().residual(energy, extent, state)

    def final_residual(self, energy: Energy, extent: Extent, state: Any) -> jax.Array:
        """The duality gap needs no second look."""
        if energy.has_corner:
            return self.residual(energy, extent, state)
        return super().final_residual(energy, extent, state)


class _PrimalDualState(NamedTuple):
    at: Evaluation
    stiffnesses: tuple[jax.Array, ...]
    duals: tuple[jax.Array, ...]
    extrapolated: jax.Array


@dataclass(frozen=True, kw_only=True)
class PrimalDual(_Splitting):
    """Primal-dual hybrid gradient with a step for each edge and each unknown.

    A. Chambolle, T. Pock (2011), J. Math. Imaging Vis. 40, 120-145; the diagonal steps of T. Pock, A. Chambolle (2011), ICCV,
    lemma 2, weighted by the stiffness of the edges.

    Parameters
    ----------
    tolerance, max_steps, on_failure
        See `Solver`. With the quantile penalty the tolerance is that of the duality gap.
    """

    max_steps: int = 20000

    def start(self, energy: Energy, z: jax.Array, goal: Goal) -> _PrimalDualState:
        at = energy.evaluate(z)
        return _PrimalDualState(at, _stiffnesses(energy, goal.extent), energy.forces(at.residuals), z)

    def step(
        self, energy: Energy, goal: Goal, state: _PrimalDualState, active: jax.Array, residual: jax.Array
    ) -> tuple[_PrimalDualState, jax.Array]:
        duals, total = [], jnp.zeros_like(state.at.z)
        upwards = jnp.zeros_like(state.at.z)
        for edges, stiffness, p in zip(energy.edges, state.stiffnesses, state.duals, strict=True):
            endpoints = 1 if edges.incidence.grounded else 2
            sigma = stiffness / endpoints
            pulled = p + sigma * edges.residual(state.extrapolated)
            # Moreau: prox of the conjugate from the prox of the penalty.
            r = pulled / jnp.where(sigma > 0, sigma, 1.0)
            duals.append(jnp.where(sigma > 0, pulled - sigma * _prox(edges, r, sigma), 0.0))
            total = total + edges.incidence.degree(stiffness)
            upwards = upwards + edges.incidence.divergence(duals[-1])
        total = jnp.where(total > 0, total, 1.0)
        z = state.at.z - upwards / total
        if energy.ridge is not None:
            ridge = energy.ridge
            z = (total * z + ridge.weight * ridge.anchor) / (total + ridge.weight)
        at = energy.evaluate(hold(active, z, state.at.z))
        extrapolated = 2 * z - state.at.z
        return _PrimalDualState(at, state.stiffnesses, tuple(duals), extrapolated), no_steps(active)


class _SplitState(NamedTuple):
    at: Evaluation
    stiffnesses: tuple[jax.Array, ...]
    duals: tuple[jax.Array, ...]  # forces on the edges
    copies: tuple[jax.Array, ...]  # of the residuals


@dataclass(frozen=True, kw_only=True)
class ADMM(_Splitting):
    """Alternating direction method of multipliers on copies of the residuals, over-relaxed.

    Each step solves one linear system, by conjugate gradients from the last solution. S. Boyd, N. Parikh, E. Chu,
    B. Peleato, J. Eckstein (2011), Found. Trends Mach. Learn. 3(1), 1-122, sections 3 and 3.4.3.

    Parameters
    ----------
    tolerance, max_steps, on_failure
        See `Solver`. With the quantile penalty the tolerance is that of the duality gap.
    relaxation : float
        Over-relaxation, between 1 and 2.
    linear_steps : int
        Most conjugate gradient steps in one system.
    """

    max_steps: int = 10000
    relaxation: float = 1.6
    linear_steps: int = 200

    def start(self, energy: Energy, z: jax.Array, goal: Goal) -> _SplitState:
        at = energy.evaluate(z)
        return _SplitState(at, _stiffnesses(energy, goal.extent), energy.forces(at.residuals), at.residuals)

    def step(
        self, energy: Energy, goal: Goal, state: _SplitState, active: jax.Array, residual: jax.Array
    ) -> tuple[_SplitState, jax.Array]:
        stiffnesses = state.stiffnesses
        matrix = Laplacian(energy, stiffnesses)
        right = jnp.zeros_like(state.at.z)
        for edges, k, r, q, p in zip(
            energy.edges, stiffnesses, state.at.residuals, state.copies, state.duals, strict=True
        ):
            right = right - edges.incidence.divergence(k * (r - q) + p)
        if energy.ridge is not None:
            right = right - energy.ridge.gradient(state.at.z)
        accuracy = jnp.where(active, 0.1 * jnp.minimum(residual, 0.1), jnp.inf)
        solve = differentiable_solution if goal.recorded else conjugate_gradients
        solution = solve(matrix, right, accuracy, self.linear_steps)
        at = energy.evaluate(hold(active, state.at.z + solution.value, state.at.z))
        copies, duals = [], []
        for edges, k, r, q, p in zip(energy.edges, stiffnesses, at.residuals, state.copies, state.duals, strict=True):
            mixed = self.relaxation * r + (1 - self.relaxation) * q
            target = mixed + p / jnp.where(k > 0, k, 1.0)
            copies.append(_prox(edges, target, k))
            duals.append(jnp.where(k > 0, k * (target - copies[-1]), 0.0))
        return _SplitState(at, stiffnesses, tuple(duals), tuple(copies)), solution.steps
