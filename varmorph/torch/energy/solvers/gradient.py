"""Accelerated gradient descent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from varmorph.formulas.per_problem import dot, spread_over
from varmorph.torch.energy.energy import Energy, Evaluation
from varmorph.torch.energy.solvers.iteration import Solver, hold

__all__ = ["AcceleratedGradient"]


class _State(NamedTuple):
    at: Evaluation  # at the extrapolated point, where the gradient is needed: that is the iterate
    descended: Tensor  # where the last gradient step led
    momentum: Tensor  # (N, C), the sequence t of FISTA


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

    def start(self, energy: Energy, z: Tensor) -> _State:
        return _State(energy.evaluate(z), z, torch.ones(z.shape[:2], dtype=z.dtype, device=z.device))

    def step(
        self, energy: Energy, state: _State, active: Tensor, residual: Tensor, tolerance: float
    ) -> tuple[_State, Tensor]:
        point = state.at.z
        bound = energy.curvature_bound()
        descended = point - state.at.gradient / bound.where(bound > 0, 1.0)
        uphill = dot(state.at.gradient, descended - state.descended).detach().view(active.shape) > 0
        before = torch.where(uphill, 1.0, state.momentum)
        momentum = (1 + (1 + 4 * before * before).sqrt()) / 2
        share = torch.where(uphill, 0.0, (before - 1) / momentum)
        extrapolated = descended + spread_over(share, point) * (descended - state.descended)
        at = energy.evaluate(hold(active, extrapolated, point))
        return _State(at, descended, momentum), torch.zeros_like(active, dtype=torch.long)
