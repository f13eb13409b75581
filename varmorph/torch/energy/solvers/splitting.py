"""Methods that split the edges from the unknowns, and need no derivative of the penalties: primal-dual and ADMM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from varmorph.torch.energy.conjugate_gradients import conjugate_gradients
from varmorph.torch.energy.energy import Edges, Energy, Evaluation
from varmorph.torch.energy.laplacian import Laplacian
from varmorph.torch.energy.solvers.iteration import Solver, hold, spread_over

__all__ = ["ADMM", "PrimalDual"]


def _stiffness(energy: Energy, edges: Edges) -> Tensor:
    """Scale of an edge's penalty: its mean curvature, or what replaces it where the penalty has a corner.

    Any positive number gives a convergent method; this one makes edges of different weights move alike.
    """
    edge = edges.residual(energy.zeros)
    scale = edges.incidence.over_edges(energy.spread.where(energy.spread > 0, 1.0), edge)
    rho = edges.penalty
    side = 1.0 if rho.tau is None or rho.cotau is None else (rho.tau * rho.cotau).sqrt()
    width = torch.ones_like(scale) if rho.h == "square" else 0.1 * scale
    if rho.smoothing is not None:
        width = torch.maximum(rho.smoothing, width)
    stiffness = edges.weight * side / width
    return stiffness.detach().expand(edge.shape)


def _stiffnesses(energy: Energy) -> list[Tensor]:
    return [_stiffness(energy, edges) for edges in energy.edges]


def _prox(edges: Edges, r: Tensor, stiffness: Tensor) -> Tensor:
    """Minimise w rho(q) + stiffness / 2 (q - r)^2 over q; an edge of weight 0 leaves r alone."""
    return edges.penalty.prox(r, edges.weight / stiffness.where(stiffness > 0, 1.0))


def duality_gap(energy: Energy, at: Evaluation, duals: tuple[Tensor, ...]) -> Tensor:
    """Energy minus the dual energy of forces p on the edges, relative to the energy's scale, of each problem (N, C).

    The minimiser lies in the range [l, u] of the known values and offsets. Over that box the dual energy is finite for
    every ridge: sum_e (p_e b_e - (w rho)*(p_e)) + sum_i min over z_i in [l, u] of (A'p)_i z_i + kappa / 2 (z_i - anchor_i)^2.
    """
    low, high = (spread_over(bound, at.z) for bound in energy.box)
    upwards, total, scale = torch.zeros_like(at.z), energy.value(at), torch.zeros_like(energy.spread)
    total, scale = total.to(torch.float64), scale.to(torch.float64)
    for edges, p in zip(energy.edges, duals, strict=True):
        endpoints = edges.incidence
        inner = (p * edges.offset).double() - edges.penalty.conjugate(p, edges.weight).double()
        total = total - endpoints.per_problem(inner).sum(-1)
        upwards = upwards + endpoints.divergence(p)
        scale = scale + endpoints.per_problem((edges.weight * torch.ones_like(p)).double()).sum(-1) * energy.spread
    if energy.ridge is None:
        least = torch.minimum(upwards * low, upwards * high)
    else:
        ridge, anchor = energy.ridge.weight.expand_as(at.z), energy.ridge.anchor
        free = anchor - upwards / ridge.where(ridge > 0, 1.0)
        z = torch.where(ridge > 0, free, torch.where(upwards > 0, low, high)).clamp(low, high)
        least = upwards * z + ridge / 2 * (z - anchor) ** 2
    total = total - least.double().flatten(2).sum(-1)
    return (total / scale).where(scale > 0, 0.0).clamp(min=0).to(at.z.dtype)


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
            return duality_gap(energy, state.at, state.duals)
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
            duals.append((pulled - sigma * _prox(edges, r, sigma)).where(sigma > 0, 0.0))
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
        matrix = Laplacian(energy, stiffnesses)
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
            copies.append(_prox(edges, target, k))
            duals.append((k * (target - copies[-1])).where(k > 0, 0.0))
        return _SplitState(at, stiffnesses, tuple(duals), tuple(copies)), solution.steps
