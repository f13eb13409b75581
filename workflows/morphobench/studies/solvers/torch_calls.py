"""A call that is timed in PyTorch, and the solve of a coupled instance as such a call."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import varmorph.torch
from morphobench.studies.measurement import Clock
from morphobench.studies.solvers.problems import MOST_STEPS, coupled_problem
from morphobench.studies.solvers.rows import Found, about_solve, accurate, search
from morphobench.studies.torch_measurement import growth_of_peak
from varmorph.torch.energy.solvers import Solver

__all__ = ["TimedCall", "solve_to"]


@dataclass
class TimedCall:
    """A call that is timed: `run` maps the leaves to the output; without a cotangent only forwards."""

    run: Callable[..., Tensor]
    leaves: Sequence[Tensor]
    cotangent: Tensor | None
    found: Found = field(default_factory=lambda: Found({}))

    def once(self, clock: Clock) -> dict[str, float]:
        """Run forwards and backwards once and return the seconds of both."""
        if self.cotangent is None:
            with torch.no_grad():
                _, forward = clock.measure(lambda: self.run(*self.leaves))
            return {"forward": forward}
        leaves = [leaf.detach().requires_grad_() for leaf in self.leaves]
        value, forward = clock.measure(lambda: self.run(*leaves))
        _, backward = clock.measure(lambda: torch.autograd.grad(value, leaves, self.cotangent, allow_unused=True))
        return {"forward": forward, "backward": backward}

    def peak(self, device: str) -> dict[str, float]:
        """Growth of memory in each phase; what the forward pass keeps counts there and not again in the backward pass."""
        if self.cotangent is None:
            return {"forward": growth_of_peak(lambda: self.run(*self.leaves), device)[1]}
        leaves = [leaf.detach().requires_grad_() for leaf in self.leaves]
        value, forward = growth_of_peak(lambda: self.run(*leaves), device)
        backward = growth_of_peak(
            lambda: torch.autograd.grad(value, leaves, self.cotangent, allow_unused=True), device
        )[1]
        return {"forward": forward, "backward": backward}


def solve_to(wanted: Mapping[str, Any], seed: int, device: str, make: Callable[..., Solver]) -> TimedCall:
    """Return the solve of a coupled instance by a solver whose tolerance is as loose as the wanted error allows."""
    case, exact = coupled_problem(wanted, seed)
    leaves = [torch.as_tensor(array, device=device) for array in case.arguments.values()]
    function = getattr(varmorph.torch, case.operator)

    def solve(solver: Solver, *arguments: Tensor) -> varmorph.torch.Solution:
        with warnings.catch_warnings():  # that it did not converge stands in the table
            warnings.simplefilter("ignore", varmorph.torch.ConvergenceWarning)
            return function(**dict(zip(case.arguments, arguments, strict=True)), solver=solver)

    def attempt(tolerance: float) -> tuple[float, tuple[Solver, varmorph.torch.Solution]]:
        steps = {} if make is varmorph.torch.Newton else {"max_steps": MOST_STEPS}
        solver = make(tolerance=tolerance, **steps)
        with torch.no_grad():
            solution = solve(solver, *leaves)
        return accurate(solution.value.cpu().numpy(), exact), (solver, solution)

    error, (solver, solution), reached = search(wanted["tolerance"], attempt)
    about = about_solve(wanted, error, reached, solution.certificate.forward, case.arguments["bias"])
    cotangent = torch.as_tensor(case.cotangent, device=device)
    found = Found(about, pixels=case.cotangent.size)
    return TimedCall(lambda *arguments: solve(solver, *arguments).value, leaves, cotangent, found)
