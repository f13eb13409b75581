"""Methods that split the edges from the unknowns, and need no derivative of the penalties: primal-dual and ADMM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from varmorph.formulas.splitting import duality_gap, edge_stiffness, prox
from varmorph.jax.energy.conjugate_gradients import conjugate_gradients, differentiable_solution
from varmorph.jax.energy.energy import Energy, Evaluation, Extent
from varmorph.jax.energy.namespace import xp
from varmorph.jax.energy.solvers.iteration import Goal, Solver, hold, no_steps

__all__ = ["ADMM", "PrimalDual"]


def _stiffnesses(energy: Energy, extent: Extent) -> tuple[jax.Array, ...]:
    residuals = [edges.residual(energy.zeros) for edges in energy.edges]
    families = zip(energy.edges, residuals, strict=True)
    return tuple(stop_gradient(edge_stiffness(xp, edges, r, extent.spread)) for edges, r in families)


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
            return duality_gap(xp, energy, state.at.z, energy.value(state.at), extent, state.duals)
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
            duals.append(jnp.where(sigma > 0, pulled - sigma * prox(xp, edges, r, sigma), 0.0))
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
        matrix = energy.laplacian(stiffnesses)
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
            copies.append(prox(xp, edges, target, k))
            duals.append(jnp.where(k > 0, k * (target - copies[-1]), 0.0))
        return _SplitState(at, stiffnesses, tuple(duals), tuple(copies)), solution.steps
