"""Libraries beside varmorph in the solver study, on JAX's side: each on an instance that varmorph solves too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import varmorph.jax
from morphobench.contract import FrameworkUnavailable
from morphobench.studies.cost_instances import WINDOW, coupled_instance, reference
from morphobench.studies.cost_rows import Found, accurate, named, search
from morphobench.studies.jax_costs import Program, solve_to

__all__ = ["peer_program", "relaxation"]

MOST_STEPS = 2000


def peer_program(wanted: Mapping[str, Any], settings: Mapping[str, Any]) -> Program:
    """Return the call of a peer.

    Raises
    ------
    FrameworkUnavailable
        If it is not installed.
    """
    name = wanted["solver"]
    about = {"role": "peer", "family": wanted["problem"], "solver": name, "batch": 1, "channels": 1, "backend": "auto"}
    about |= named(wanted, "tolerance", "image_size", "coupling") | {"kernel_size": WINDOW}
    if name != "varmorph" and find_spec(name) is None:
        raise FrameworkUnavailable("not installed")
    about["version"] = version(name)
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
    x, bias, weight = leaves["x"], leaves["bias"], leaves["weight"]
    height, width = x.shape[-2:]
    reach = bias.shape[-1] // 2
    margin = ((0, 0), (0, 0), (reach, reach), (reach, reach))
    padded, inside = jnp.pad(x, margin), jnp.pad(jnp.ones_like(x), margin)
    tau = jax.nn.sigmoid(leaves["logit_level"])[:, None, None]
    pull, stiffness = jnp.zeros_like(z), jnp.zeros_like(z)
    for i in range(bias.shape[-2]):
        for j in range(bias.shape[-1]):
            here = (..., slice(i, i + height), slice(j, j + width))
            value = padded[here] + bias[:, i, j, None, None]
            strength = weight[:, i, j, None, None] * inside[here] * jnp.where(value >= z, tau, 1 - tau)
            pull, stiffness = pull + strength * value, stiffness + strength
    coupling = leaves["coupling"][:, None, None]
    beside, degree = (_beside(field) for field in (z, jnp.ones_like(z)))
    return (pull + coupling * beside) / (stiffness + coupling * degree)


def _beside(field: Array) -> Array:
    """Sum of the four neighbours, zero beyond the image."""
    padded = jnp.pad(field, ((0, 0), (0, 0), (1, 1), (1, 1)))
    return padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1] + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]


Solve = Callable[[float, Mapping[str, Array]], Array]


def _fixed_point(solve: Solve, wanted: Mapping[str, Any], seed: int) -> Program:
    """Let a library find the fixed point of the relaxation, its own tolerance lowered until the error is small enough."""
    key = (wanted["operator"], wanted["image_size"], wanted["coupling"], seed)
    case, exact = coupled_instance(*key), reference(*key)
    names = list(case.arguments)
    leaves = [jnp.asarray(array) for array in case.arguments.values()]

    def run(tolerance: float, *arguments: Array) -> Array:
        return solve(tolerance, dict(zip(names, arguments, strict=True)))

    def attempt(tolerance: float) -> tuple[float, float]:
        return accurate(np.asarray(run(tolerance, *leaves)), exact), tolerance

    error, tolerance, reached = search(wanted["tolerance"], attempt)
    found = Found({"dtype": "float64", "error": error, "reached": reached}, pixels=case.cotangent.size)
    return Program(lambda *given: (run(tolerance, *given), None), leaves, jnp.asarray(case.cotangent), found)


def _jaxopt(tolerance: float, leaves: Mapping[str, Array]) -> Array:
    """Anderson's acceleration with the implicit derivative; it stops by the norm of the change."""
    import jaxopt

    solver = jaxopt.AndersonAcceleration(
        lambda z, given: relaxation(given, z), maxiter=MOST_STEPS, tol=tolerance, implicit_diff=True
    )
    return solver.run(leaves["x"], dict(leaves)).params


def _optimistix(tolerance: float, leaves: Mapping[str, Array]) -> Array:
    """Fixed-point iteration with the implicit derivative."""
    import optimistix

    found = optimistix.fixed_point(
        lambda z, given: relaxation(given, z),
        optimistix.FixedPointIteration(rtol=tolerance, atol=tolerance),
        leaves["x"],
        args=dict(leaves),
        max_steps=MOST_STEPS,
        throw=False,
    )
    return found.value
