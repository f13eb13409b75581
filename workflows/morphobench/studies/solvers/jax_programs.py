"""A compiled program that is timed in JAX, and the solve of a coupled instance as such a program."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import varmorph.jax
from morphobench.studies.measurement import WallClock, growth_of_resident_peak
from morphobench.studies.solvers.problems import MOST_STEPS, coupled_problem
from morphobench.studies.solvers.rows import Found, about_solve, accurate, search

__all__ = ["Program", "solve_to"]

CLOCK = WallClock()


@dataclass
class Program:
    """A function compiled forwards, and backwards from what the forward program keeps.

    It returns its value and what is to be known besides; without a cotangent the value alone, and it goes only forwards.
    """

    function: Callable[..., Any]
    leaves: Sequence[Array]
    cotangent: Array | None
    found: Found = field(default_factory=lambda: Found({}))

    def compile(self) -> Any:
        """Trace, lower and compile both programs, note the seconds, and return what the forward program says besides."""
        began = time.perf_counter()
        if self.cotangent is None:
            self._forward = jax.jit(self.function).lower(*self.leaves).compile()
            besides = None
        else:
            forward = jax.jit(lambda *leaves: jax.vjp(self.function, *leaves, has_aux=True)).lower(*self.leaves)
            self._forward = forward.compile()
            _, pullback, besides = self._forward(*self.leaves)
            self._backward = jax.jit(lambda pull, cotangent: pull(cotangent)).lower(pullback, self.cotangent).compile()
        self.found.compile_s = time.perf_counter() - began
        return besides

    def once(self) -> dict[str, float]:
        """Run forwards and backwards once and return the seconds of both."""
        result, forward = CLOCK.measure(lambda: jax.block_until_ready(self._forward(*self.leaves)))
        if self.cotangent is None:
            return {"forward": forward}
        _, backward = CLOCK.measure(lambda: jax.block_until_ready(self._backward(result[1], self.cotangent)))
        return {"forward": forward, "backward": backward}

    def peak(self, device: str) -> dict[str, float]:
        """Growth of memory forwards; on a GPU XLA's mark is one of the whole process, so that nothing is said."""
        if device != "cpu":
            return {}
        _, grown = growth_of_resident_peak(lambda: jax.block_until_ready(self._forward(*self.leaves)))
        return {"forward": grown}


def solve_to(wanted: Mapping[str, Any], seed: int, make: Callable[..., Any]) -> Program:
    """Return the solve of a coupled instance by a solver whose tolerance is as loose as the wanted error allows."""
    case, exact = coupled_problem(wanted, seed)
    leaves = [jnp.asarray(array) for array in case.arguments.values()]
    function = getattr(varmorph.jax, case.operator)
    steps = {} if make is varmorph.jax.Newton else {"max_steps": MOST_STEPS}
    cotangent = jnp.asarray(case.cotangent)

    def attempt(tolerance: float) -> tuple[float, tuple[Program, Any]]:
        # "nan" and "raise" would change the program, and warnings call back into Python: the table says what converged.
        solver = make(tolerance=tolerance, **steps)

        def solve(*arguments: Array) -> tuple[Array, Any]:
            solution = function(**dict(zip(case.arguments, arguments, strict=True)), solver=solver)
            return solution.value, (solution.value, solution.certificate.forward)

        program = Program(solve, leaves, cotangent)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value, certificate = program.compile()
        return accurate(np.asarray(value), exact), (program, certificate)

    error, (program, certificate), reached = search(wanted["tolerance"], attempt)
    about = about_solve(wanted, error, reached, certificate, case.arguments["bias"])
    program.found = Found(about, pixels=case.cotangent.size, compile_s=program.found.compile_s)
    return program
