"""Methods that split the edges from the unknowns, and need no derivative of the penalties: primal-dual and ADMM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from varmorph.formulas.splitting import duality_gap, edge_stiffness, prox
from varmorph.torch.energy.conjugate_gradients import conjugate_gradients
from varmorph.torch.energy.energy import Energy, Evaluation
from varmorph.torch.energy.namespace import xp
from varmorph.torch.energy.solvers.iteration import Solver, hold

__all__ = ["ADMM", "PrimalDual"]


def _stiffnesses(energy: Energy) -> list[Tensor]:
    spread = energy.extent().spread
    return [edge_stiffness(xp, edges, edges.residual(energy.zeros), spread).detach() for edges in energy.edges]


class _Splitting(Solver):
    """What the two methods share: the residual is the duality gap where a penalty has a corner."""

    def check(self, energy: Energy) -> None:
        """Accept every penalty; a corner only where the dual energy is known, without offsets between unknowns."""
        if energy.has_corner and any(
            bool((edges.offset != 0).any()) for edges in energy.edges if not edges.incidence.grounded
        ):
            raise ValueError("penalty 'quantile' with offsets between unknowns has no certificate: use 'huber'")

    def residual(self, energy: Energy, state: Any) -> Tensor:
        """Relative residual of the gradient, or the duality gap where there is none."""
        if energy.has_corner:
            extent, total = energy.extent(), energy.value(state.at)
            return duality_gap(xp, energy, state.at.z, total, extent, state.duals)
        return super().residual(energy, state)

    def final_residual(self, energy: Energy, state: Any, tolerance: float) -> Tensor:
        """The duality gap needs no second look."""
        if energy.has_corner:
            return self.residual(energy, state)
        return super().final_residual(energy, state, tolerance)


class _PrimalDualState(NamedTuple):
    at: Evaluation
    stiffnesses: list[Tensor]
    duals: tuple[Tensor, ...]
    extrapolated: Tensor


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

    def start(self, energy: Energy, z: Tensor) -> _PrimalDualState:
        at = energy.evaluate(z)
        return _PrimalDualState(at, _stiffnesses(energy), energy.forces(at.residuals), z)

    def step(
        self, energy: Energy, state: _PrimalDualState, active: Tensor, residual: Tensor, tolerance: float
    ) -> tuple[_PrimalDualState, Tensor]:
        duals, total = [], torch.zeros_like(state.at.z)
        upwards = torch.zeros_like(state.at.z)
        for edges, stiffness, p in zip(energy.edges, state.stiffnesses, state.duals, strict=True):
            endpoints = 1 if edges.incidence.grounded else 2
            sigma = stiffness / endpoints
            pulled = p + sigma * edges.residual(state.extrapolated)
            # Moreau: prox of the conjugate from the prox of the penalty.
            r = pulled / sigma.where(sigma > 0, 1.0)
            duals.append((pulled - sigma * prox(xp, edges, r, sigma)).where(sigma > 0, 0.0))
            total = total + edges.incidence.degree(stiffness)
            upwards = upwards + edges.incidence.divergence(duals[-1])
        total = total.where(total > 0, 1.0)
        z = state.at.z - upwards / total
        if energy.ridge is not None:
            ridge = energy.ridge
            z = (total * z + ridge.weight * ridge.anchor) / (total + ridge.weight)
        at = energy.evaluate(hold(active, z, state.at.z))
        extrapolated = 2 * z - state.at.z
        return _PrimalDualState(at, state.stiffnesses, tuple(duals), extrapolated), torch.zeros_like(
            active, dtype=torch.long
        )


class _SplitState(NamedTuple):
    at: Evaluation
    stiffnesses: list[Tensor]
    duals: tuple[Tensor, ...]  # forces on the edges
    copies: tuple[Tensor, ...]  # of the residuals


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

    def start(self, energy: Energy, z: Tensor) -> _SplitState:
        at = energy.evaluate(z)
        return _SplitState(at, _stiffnesses(energy), energy.forces(at.residuals), at.residuals)

    def step(
        self, energy: Energy, state: _SplitState, active: Tensor, residual: Tensor, tolerance: float
    ) -> tuple[_SplitState, Tensor]:
        stiffnesses = state.stiffnesses
        matrix = energy.laplacian(stiffnesses)
        right = torch.zeros_like(state.at.z)
        for edges, k, r, q, p in zip(
            energy.edges, stiffnesses, state.at.residuals, state.copies, state.duals, strict=True
        ):
            right = right - edges.incidence.divergence(k * (r - q) + p)
        if energy.ridge is not None:
            right = right - energy.ridge.gradient(state.at.z)
        accuracy = torch.where(active, 0.1 * residual.clamp(max=0.1), torch.inf)
        solution = conjugate_gradients(matrix, right, accuracy, self.linear_steps)
        at = energy.evaluate(hold(active, state.at.z + solution.value, state.at.z))
        copies, duals = [], []
        for edges, k, r, q, p in zip(energy.edges, stiffnesses, at.residuals, state.copies, state.duals, strict=True):
            mixed = self.relaxation * r + (1 - self.relaxation) * q
            target = mixed + p / k.where(k > 0, 1.0)
            copies.append(prox(xp, edges, target, k))
            duals.append((k * (target - copies[-1])).where(k > 0, 0.0))
        return _SplitState(at, stiffnesses, tuple(duals), tuple(copies)), solution.steps
