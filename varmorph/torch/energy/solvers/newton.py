"""Newton's method: reweighted least squares at first, semismooth Newton at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from varmorph.formulas.newton import Duals, conductances, first_duals, next_duals
from varmorph.formulas.per_problem import dot, spread_over
from varmorph.torch.energy.conjugate_gradients import conjugate_gradients
from varmorph.torch.energy.energy import Energy, Evaluation
from varmorph.torch.energy.namespace import xp
from varmorph.torch.energy.relaxation import relaxed
from varmorph.torch.energy.solvers.iteration import Solver, hold

__all__ = ["Newton"]

MOST_CUTS = 30
SWEEP_STEPS = 10


class _State(NamedTuple):
    at: Evaluation
    duals: Duals


@dataclass(frozen=True, kw_only=True)
class Newton(Solver):
    """Semismooth Newton method with primal-dual weights, its systems solved by conjugate gradients.

    Each step solves H d = -grad E with conductances w a (1 - chi p sign(r)) / max(|r|, mu), chi = 1 where |r| > mu. The
    dual variable p of an edge starts at 0, which gives the matrix of reweighted least squares, and tends to h'(r), which
    gives the Hessian (Chan, Golub and Mulet 1999, SIAM J. Sci. Comput. 20(6), section 3). A share of the former matrix,
    shrinking with the residual, keeps the system regular. Steps are shortened until they lower the energy.
    Known values that pull by Huber's penalty make kinks that each concern one unknown, while a step has one length for
    all of them; there each step follows a sweep of relaxation, which settles the kinks one by one.

    Parameters
    ----------
    tolerance, max_steps, on_failure
        See `Solver`.
    linear_steps : int
        Most conjugate gradient steps in one system.
    """

    descends: ClassVar[bool] = True

    max_steps: int = 200
    linear_steps: int = 1000

    def start(self, energy: Energy, z: Tensor) -> _State:
        at = energy.evaluate(z)
        return _State(at, first_duals(xp, energy.edges, at.residuals))

    def step(
        self, energy: Energy, state: _State, active: Tensor, residual: Tensor, tolerance: float
    ) -> tuple[_State, Tensor]:
        if _has_kinks_of_its_own(energy):
            sweep = hold(active, relaxed(energy, state.at.z, SWEEP_STEPS), state.at.z)
            state = state._replace(at=_shortened(energy, state.at, sweep - state.at.z, active))
        share = 0.1 * residual.clamp(max=1.0)
        matrix = energy.laplacian(conductances(xp, energy.edges, state.at, state.duals, share))
        # Early systems are solved roughly; late ones no better than the tolerance asks for.
        forcing = torch.maximum(residual.clamp(max=0.1), 0.1 * tolerance / residual).clamp(max=0.1)
        forcing = torch.where(active, forcing, torch.inf)
        solution = conjugate_gradients(matrix, -state.at.gradient, forcing, self.linear_steps)
        direction = hold(active, solution.value, torch.zeros_like(solution.value))
        at = _shortened(energy, state.at, direction, active)
        duals = next_duals(xp, energy.edges, state.at.residuals, state.duals, direction, active)
        return _State(at, duals), solution.steps


def _has_kinks_of_its_own(energy: Energy) -> bool:
    """Tell whether kinks belong to single unknowns; those of edges between unknowns gain nothing from relaxation."""
    kinked = [edges.incidence.grounded for edges in energy.edges if edges.penalty.h == "huber"]
    return bool(kinked) and all(kinked)


def _shortened(energy: Energy, at: Evaluation, direction: Tensor, active: Tensor) -> Evaluation:
    """Walk along a direction of descent until the energy falls; problems choose their lengths one by one.

    E is convex, so it has fallen where its slope along the direction is still negative; that is the test that rounding
    spoils least. Else the fall of E must be enough, or be lost in rounding while the slope has become smaller.
    """
    slope = dot(at.gradient, direction).detach()
    value = energy.value(at).detach()
    rounding = 32 * torch.finfo(at.z.dtype).eps * value
    length = torch.ones_like(slope)
    for _ in range(MOST_CUTS):
        trial = energy.evaluate(at.z + length * direction)
        ahead = dot(trial.gradient, direction).detach()
        fallen = spread_over(energy.value(trial).detach() - value, at.z)
        enough = fallen <= 1e-4 * length * slope
        lost = (fallen <= spread_over(rounding, at.z)) & (ahead <= -0.9 * slope)
        good = (ahead <= 0) | enough | lost | ~spread_over(active, at.z) | ~slope.isfinite()
        if bool(good.all()):
            break
        # The slope along the direction is piecewise linear: go to where a line through both ends would be 0.
        secant = (slope / (slope - ahead).masked_fill(good, 1.0)).clamp(0.1, 0.7)
        length = torch.where(good, length, length * secant)
    return trial
