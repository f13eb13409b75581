"""Libraries beside varmorph in the solver study, on JAX's side: each on an instance that varmorph solves too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import varmorph.jax
from morphobench.studies.cost_instances import WINDOW, coupled_instance, installed_version, reference
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
    about["version"] = installed_version(name)
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
    x, bias, weight = (leaves[name] for name in ("x", "bias", "weight"))
    value = _window(x, bias.shape) + bias.reshape(bias.shape[0], -1, 1, 1)
    tau = jax.nn.sigmoid(leaves["logit_level"])[:, None, None, None]
    slope = jnp.where(value >= z[:, :, None], tau, 1 - tau)
    stiffness = weight.reshape(*value.shape[1:3], 1, 1) * _window(jnp.ones_like(x), bias.shape) * slope
    coupling = leaves["coupling"][:, None, None]
    beside, degree = (_beside(field) for field in (z, jnp.ones_like(z)))
    return ((stiffness * value).sum(2) + coupling * beside) / (stiffness.sum(2) + coupling * degree)


def _window(x: Array, shape: tuple[int, ...]) -> Array:
    """Values that a window (C, kh, kw) sees, (N, C, kh * kw, H, W); zero beyond the image."""
    (height, width), (rows, columns) = x.shape[-2:], shape[-2:]
    padded = jnp.pad(x, ((0, 0), (0, 0), (rows // 2, rows // 2), (columns // 2, columns // 2)))
    # Stacked, not summed in turn: XLA takes seconds to compile the derivative of so many fused terms.
    return jnp.stack([padded[..., i : i + height, j : j + width] for i in range(rows) for j in range(columns)], 2)


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
