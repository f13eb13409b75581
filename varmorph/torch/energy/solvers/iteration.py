"""The loop that all solvers share: who is done, who goes on, and the certificate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from varmorph.convergence import SolverSettings
from varmorph.formulas.per_problem import spread_over
from varmorph.torch.energy.energy import Energy, Evaluation

__all__ = ["MapSolver", "Run", "Solver", "hold"]


def hold(active: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Move the problems that are still active (N, C), hold the others."""
    return torch.where(spread_over(active, new), new, old)


class Run(NamedTuple):
    """Where a solver ended. `at` is the energy there; the others are numbers of problems (N, C)."""

    at: Evaluation
    converged: Tensor
    iterations: Tensor
    residual: Tensor
    linear_steps: Tensor
    identified: Tensor


class Solver(SolverSettings, ABC):
    """An iteration towards the minimiser of an energy, with the settings of `SolverSettings`."""

    # Whether a step that moves nothing means that no later one will.
    descends: ClassVar[bool] = False

    @abstractmethod
    def start(self, energy: Energy, z: Tensor) -> Any:
        """Make the first state; its attribute `at` is the energy evaluated at the iterate."""

    @abstractmethod
    def step(
        self, energy: Energy, state: Any, active: Tensor, residual: Tensor, tolerance: float
    ) -> tuple[Any, Tensor]:
        """Make the next state, holding `state.at` for problems that are not active; return it and the linear steps taken.

        active : (N, C) bool.  residual : (N, C), at the state.  tolerance : the residual that is asked for.
        """

    def residual(self, energy: Energy, state: Any) -> Tensor:
        """Residual of each problem (N, C)."""
        return energy.relative_residual(state.at, energy.extent())

    def final_residual(self, energy: Energy, state: Any, tolerance: float) -> Tensor:
        """Residual of each problem (N, C) where the iterations end: ties are looked at where it matters."""
        residual = self.residual(energy, state)
        if bool((residual > tolerance).any()):
            return torch.minimum(residual, energy.residual_at_ties(state.at, energy.extent()))
        return residual

    def check(self, energy: Energy) -> None:
        """Refuse an energy that the solver cannot minimise."""
        if energy.has_corner:
            raise ValueError(
                f"{type(self).__name__} needs penalties with a derivative, found 'quantile': use PrimalDual() or ADMM(),"
                " or penalty 'huber' with a small smoothing"
            )

    def run(self, energy: Energy, z: Tensor, *, fixed_steps: int | None = None) -> Run:
        """Iterate from z until every problem is done; with `fixed_steps`, that many steps for all of them."""
        self.check(energy)
        tolerance = self.resolved_tolerance(z.dtype == torch.float64)
        state = self.start(energy, z)
        iterations = torch.zeros(z.shape[:2], dtype=torch.long, device=z.device)
        linear_steps, identified = iterations, iterations
        pieces: Sequence[Tensor] = energy.pieces(state.at.residuals)
        for _ in range(self.max_steps if fixed_steps is None else fixed_steps):
            residual = self.residual(energy, state).detach()
            active = residual > tolerance if fixed_steps is None else torch.ones_like(residual, dtype=torch.bool)
            if not bool(active.any()):
                break
            before_step = state.at.z
            state, linear = self.step(energy, state, active, residual, tolerance)
            iterations, linear_steps = iterations + active, linear_steps + linear
            before, pieces = pieces, energy.pieces(state.at.residuals)
            identified = torch.where(energy.differ(pieces, before), iterations, identified)
            if self.descends and fixed_steps is None and torch.equal(state.at.z, before_step):
                break
        residual = self.final_residual(energy, state, tolerance).detach()
        return Run(state.at, residual <= tolerance, iterations, residual, linear_steps, identified)


class MapSolver(Solver):
    """A solver that finds the fixed points of any map, not only of the relaxation of an energy."""

    @abstractmethod
    def first(self, z: Tensor) -> Any:
        """Make the history of an iteration that starts at z (N, C, ...)."""

    @abstractmethod
    def advance(self, history: Any, z: Tensor, image: Tensor) -> tuple[Tensor, Any]:
        """Return the iterate that follows z and the image of z, and the history with both."""
