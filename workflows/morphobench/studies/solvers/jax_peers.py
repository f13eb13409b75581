"""Libraries beside varmorph in the solver study, on JAX's side: each on an instance that varmorph solves too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import varmorph.jax
from morphobench.studies.jax_unrolling import curvature, neighbours
from morphobench.studies.solvers.jax_programs import Program, solve_to
from morphobench.studies.solvers.problems import MOST_STEPS_OF_PEERS, about_peer, coupled_problem
from morphobench.studies.solvers.rows import Found, accurate, search

__all__ = ["peer_program", "relaxation"]


def peer_program(wanted: Mapping[str, Any], settings: Mapping[str, Any]) -> Program:
    """Return the call of a peer.

    Raises
    ------
    FrameworkUnavailable
        If it is not installed.
    """
    name = wanted["solver"]
    about = about_peer(wanted)
    if name == "varmorph":
        program = solve_to(wanted, settings["seed"], varmorph.jax.Newton)
    else:
        program = _fixed_point({"jaxopt": _jaxopt, "optimistix": _optimistix}[name], wanted, settings["seed"])
    program.found.about |= about
    return program


def relaxation(leaves: Mapping[str, Array], z: Array) -> Array:
    """One sweep of reweighted relaxation for the regularised dilation, as one would write it without varmorph.

    Every pixel is set to the minimiser of its own energy, its four neighbours and the signs of its residuals being held.
    """
    window = neighbours(*(leaves[name] for name in ("x", "bias", "weight", "logit_level")), erosion=False)
    stiffness = curvature(window, z)
    coupling = leaves["coupling"][:, None, None]
    beside, degree = (_beside(field) for field in (z, jnp.ones_like(z)))
    return ((stiffness * window.value).sum(2) + coupling * beside) / (stiffness.sum(2) + coupling * degree)


def _beside(field: Array) -> Array:
    """Sum of the four neighbours, zero beyond the image."""
    padded = jnp.pad(field, ((0, 0), (0, 0), (1, 1), (1, 1)))
    return padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1] + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]


Solve = Callable[[Any, Mapping[str, Array]], tuple[Array, Array]]  # tolerance and leaves to value and iterations


def _fixed_point(solve: Solve, wanted: Mapping[str, Any], seed: int) -> Program:
    """Let a library find the fixed point of the relaxation, its own tolerance lowered until the error is small enough."""
    case, exact = coupled_problem(wanted, seed)
    names = list(case.arguments)
    leaves = [jnp.asarray(array) for array in case.arguments.values()]

    def run(tolerance: Any, *arguments: Array) -> tuple[Array, Array]:
        return solve(tolerance, dict(zip(names, arguments, strict=True)))

    compiled = jax.jit(run)  # once for all tolerances

    def attempt(tolerance: float) -> tuple[float, tuple[float, int]]:
        value, iterations = compiled(tolerance, *leaves)
        return accurate(np.asarray(value), exact), (tolerance, int(iterations))

    error, (tolerance, iterations), reached = search(wanted["tolerance"], attempt)
    about = {"dtype": "float64", "error": error, "reached": reached, "iterations": iterations}
    found = Found(about, pixels=case.cotangent.size)
    return Program(lambda *given: run(tolerance, *given), leaves, jnp.asarray(case.cotangent), found)


def _jaxopt(tolerance: Any, leaves: Mapping[str, Array]) -> tuple[Array, Array]:
    """Anderson's acceleration with the implicit derivative; it stops by the norm of the change."""
    import jaxopt

    solver = jaxopt.AndersonAcceleration(
        lambda z, given: relaxation(given, z), maxiter=MOST_STEPS_OF_PEERS, tol=tolerance, implicit_diff=True
    )
    found = solver.run(leaves["x"], dict(leaves))
    return found.params, found.state.iter_num


def _optimistix(tolerance: Any, leaves: Mapping[str, Array]) -> tuple[Array, Array]:
    """Fixed-point iteration with the implicit derivative."""
    import optimistix

    found = optimistix.fixed_point(
        lambda z, given: relaxation(given, z),
        optimistix.FixedPointIteration(rtol=tolerance, atol=tolerance),
        leaves["x"],
        args=dict(leaves),
        max_steps=MOST_STEPS_OF_PEERS,
        throw=False,
    )
    return found.value, found.stats["num_steps"]
