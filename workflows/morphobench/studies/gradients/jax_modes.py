"""The modes of the gradient study in JAX. Programs are compiled once for all instances of one shape."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import varmorph.jax
from morphobench.studies.cells import Cell, Row
from morphobench.studies.gradients.coupled_methods import methods
from morphobench.studies.gradients.finite_differences import Hull
from morphobench.studies.gradients.perturbations import by_channel, stacked
from morphobench.studies.gradients.rows import HULL_TOLERANCE, Differentiated, mode_rows
from morphobench.studies.instances import Instance
from morphobench.studies.jax_unrolling import gradient_step, neighbours, newton_step, weighted_mean
from morphobench.studies.measurement import Repeated, WallClock
from morphobench.studies.reference import reference_solution, solve_reference
from varmorph.convergence import ConvergenceWarning

__all__ = ["JaxInstance", "differentiate"]

SEPARABLE_STEPS = {"newton": newton_step, "gradient-descent": gradient_step}
DESCRIBED = ("mode", "value", "backend", "dtype", "forward_tolerance", "step", "steps")

Program = Callable[[tuple[jax.Array, ...], jax.Array], tuple[Any, Any, Any]]


class JaxInstance:
    """An instance of the gradient study in JAX (`morphobench.studies.cells.OpenInstance`)."""

    def __init__(self, instance: Instance, device: str, limit: int) -> None:
        self.instance, self.device, self.limit = instance, device, limit
        self.reference, self.clock = solve_reference(instance), WallClock()
        self.found: dict[str, Differentiated] = {}
        self.hulls: dict[str, dict[str, tuple[float, float]]] = {}

    @cached_property
    def hull(self) -> Hull:
        """The test at ties, whose one-sided derivatives serve all modes."""
        return Hull(self.instance, reference_solution, self.limit)

    def prepare(self, cell: Cell) -> None:
        """Compile and differentiate once; at ties, test the hull."""
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            self.found[cell.name] = differentiate(self.instance, cell.settings)
            self.hulls[cell.name] = {}
            if self.reference.ties:
                gradients = _by_output(self.hull.rows, self.instance.channels, cell.settings)
                self.hulls[cell.name] = self.hull.test(gradients, HULL_TOLERANCE[cell.settings["dtype"]])

    def measure(self, cell: Cell) -> Mapping[str, float]:
        """Time one forward and backward pass together, until the device has finished."""
        arguments = _arguments(self.instance, cell.settings["dtype"])
        program = _program_for(self.instance, cell.settings)
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            return {"all": self.clock.measure(lambda: jax.block_until_ready(program(*arguments)))[1]}

    def rows(self, cell: Cell, repeated: Repeated) -> list[Row]:
        """Return one row a parameter group."""
        kernels = cell.settings["backend"] == "kernels" and self.device == "cpu"
        settings = {**cell.settings, "backend": "cpu" if kernels else "xla"}
        found, hulls = self.found[cell.name], self.hulls[cell.name]
        return mode_rows(settings, self.instance, self.reference, found, repeated.seconds.get("all", []), hulls)


def differentiate(instance: Instance, mode: Mapping[str, Any]) -> Differentiated:
    """Differentiate an instance once and read the certificates."""
    found = _program_for(instance, mode)(*_arguments(instance, mode["dtype"]))
    (value, unknowns), gradients, (forward, backward) = jax.tree.map(np.asarray, found)
    return Differentiated(
        value.astype(np.float64),
        unknowns.astype(np.float64),
        {name: array.astype(np.float64) for name, array in zip(instance.arguments, gradients, strict=True)},
        iterations=mode["steps"] if forward is None and mode["mode"] == "unrolled" else _most(forward, "iterations"),
        forward_residual=_most(forward, "residual"),
        adjoint_iterations=_most(backward, "iterations"),
        certificate=_most(backward, "residual"),
    )


def _by_output(batch: Instance, channels: int, mode: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Differentiate the problems of a batch, (C, entries of a channel): so many at a time, for which a program exists."""
    parts = [
        differentiate(stacked(batch, np.arange(first, first + channels)), mode).gradients
        for first in range(0, batch.channels, channels)
    ]
    return {name: np.concatenate([by_channel(part[name]) for part in parts]) for name in batch.arguments}


def _most(certificate: Any, name: str) -> Any:
    return None if certificate is None else getattr(certificate, name).max().item()


def _arguments(instance: Instance, dtype: str) -> tuple[tuple[jax.Array, ...], jax.Array]:
    arrays = tuple(jnp.asarray(array, dtype) for array in instance.arguments.values())
    return arrays, jnp.asarray(instance.cotangent, dtype)


def _program_for(instance: Instance, mode: Mapping[str, Any]) -> Program:
    described = tuple((name, mode[name]) for name in DESCRIBED)
    options = tuple(sorted(instance.options.items()))
    return _program(instance.family, instance.operator, tuple(instance.arguments), options, described)


@functools.cache
def _program(
    family: str,
    operator: str,
    names: tuple[str, ...],
    options: tuple[tuple[str, Any], ...],
    described: tuple[tuple[str, Any], ...],
) -> Program:
    """Return the compiled forward and backward pass: output and unknowns, gradients, certificates of both solves."""
    mode = dict(described)
    backend = "auto" if mode["backend"] == "kernels" else "xla"

    def apply(*arrays: jax.Array) -> jax.Array:
        return _direct(family, operator, mode, dict(zip(names, arrays, strict=True)))

    def direct(arrays: tuple[jax.Array, ...], cotangent: jax.Array) -> tuple[Any, Any, Any]:
        with varmorph.jax.backend(backend):
            value, pull = jax.vjp(apply, *arrays)
            return (value, value), pull(cotangent), (None, None)

    def coupled(arrays: tuple[jax.Array, ...], cotangent: jax.Array) -> tuple[Any, Any, Any]:
        solver, adjoint = methods(varmorph.jax, mode)

        def solve(*arrays: jax.Array) -> Any:
            given = dict(zip(names, arrays, strict=True))
            found = getattr(varmorph.jax, operator)(**given, **dict(options), solver=solver, adjoint=adjoint)
            return found._replace(value=(found.value, found.unknowns))

        with varmorph.jax.backend(backend):
            value, pullback, certificate = varmorph.jax.solve_with_pullback(solve, *arrays)
            cotangents: Any = (cotangent, jnp.zeros_like(value[1]))
            gradients, backward = pullback(cotangents)
        return value, gradients, (certificate.forward, backward)

    return jax.jit(direct if family in ("separable", "geodesic") else coupled)


def _direct(family: str, operator: str, mode: Mapping[str, Any], given: Mapping[str, jax.Array]) -> jax.Array:
    """Apply an operator whose backward pass solves no system, or the iterations that stand for it."""
    if mode["mode"] == "implicit":
        return getattr(varmorph.jax, operator)(**given)
    if family == "geodesic":
        return _reconstructed(mode["steps"], **given)
    window, step = neighbours(**given, erosion=operator == "variational_erosion"), SEPARABLE_STEPS[mode["step"]]
    if mode["mode"] == "one-step":
        return step(window, jax.lax.stop_gradient(getattr(varmorph.jax, operator)(**given)))
    start = weighted_mean(window)
    if mode["mode"] == "truncated":
        start = jax.lax.stop_gradient(getattr(varmorph.jax, operator)(**given))
    # One step of the loop is compiled, however many there are.
    return jax.lax.fori_loop(0, mode["steps"], lambda _, z: step(window, z), start)


def _reconstructed(steps: int, marker: jax.Array, mask: jax.Array, bias: jax.Array) -> jax.Array:
    """Iterate u <- min(mask, dilation(u)); the offset at the origin is 0 and no parameter."""
    offsets = bias.at[:, bias.shape[1] // 2, bias.shape[2] // 2].set(0.0)

    def step(_: int, u: jax.Array) -> jax.Array:
        return jnp.minimum(mask, varmorph.jax.dilation(u, offsets))

    return jax.lax.fori_loop(0, steps, step, jnp.minimum(marker, mask))
