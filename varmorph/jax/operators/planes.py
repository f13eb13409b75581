"""The regularised dilation: by compiled code plane by plane, or as an energy.

The compiled code has a backward pass of its own; minimiser, certificate and gradient are those of the energy.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from varmorph.adjoints import Adjoint, LinearAdjoint
from varmorph.jax.backend.choice import kernels_are_excluded, on_platform
from varmorph.jax.backend.ffi import call_kernel
from varmorph.jax.energy.adjoints import AdjointSolution, apply_failure_policy, certify, numbers_of, pull_back, sent
from varmorph.jax.energy.certificates import BackwardCertificate, Certificate
from varmorph.jax.energy.energy import Edges, Energy, Ridge
from varmorph.jax.energy.incidence import DataEdges, GridEdges
from varmorph.jax.energy.minimisation import Minimum, Solution, certificate_of, minimise_parts, minimum
from varmorph.jax.energy.minimisation import apply_failure_policy as apply_forward_policy
from varmorph.jax.energy.penalties import named_penalty
from varmorph.jax.energy.solvers import Newton, Solver
from varmorph.jax.separable import minimisation as separable
from varmorph.windows import Geometry

__all__ = ["Planes", "minimise_planes"]

KERNELS = "planes.regularised.regularised"


class Planes(NamedTuple):
    """Image and parameters of a regularised dilation: arrays of one dtype.

    `x` is (N, C, H, W), `bias` and `weight` are (C, K), `edge_weights` (N, 1 or C, 2, H, W), the others (C,), None where
    there is none.
    """

    x: Any
    bias: Any
    weight: Any
    tau: Any
    cotau: Any
    coupling: Any
    smoothing: jax.Array | None
    edge_weights: jax.Array | None
    edge_smoothing: jax.Array | None
    ridge: jax.Array | None


class Plain(NamedTuple):
    """What is not an array: how the window moves, the value beyond the image, the penalties, and the methods."""

    geometry: Geometry
    outside: float | None
    penalty: str
    edge_penalty: str
    solver: Solver
    adjoint: Adjoint


def minimise_planes(planes: Planes, start: jax.Array | None, plain: Plain) -> Solution:
    """Minimise, with certificates (N,); without a start from the separable dilation on."""
    if start is None:
        problem = tuple(map(stop_gradient, planes[:5]))
        start = jnp.nan_to_num(separable.solve(problem, (plain.geometry, plain.outside, "expectile")), nan=0.0)
    start = stop_gradient(start).astype(planes.x.dtype)
    solver, adjoint, shape = plain.solver, plain.adjoint, (planes.x.shape[0],)
    # As in `varmorph.torch`, kernels go with Newton's method and a linear adjoint.
    by_planes = plain.penalty != "quantile" and type(solver) is Newton and isinstance(adjoint, LinearAdjoint)
    if not by_planes or kernels_are_excluded():
        return minimise_parts(_energy(planes, plain), start, solver, adjoint, shape)
    probe = sent(shape, "linear")
    z, numbers = _minimum(planes, start, jnp.zeros((4, *shape), planes.x.dtype) if probe is None else probe, plain)
    residual, margin, *counts, unique = stop_gradient(numbers)
    steps, linear_steps, identified = (count.astype(jnp.int32) for count in counts)
    converged = residual <= solver.resolved_tolerance(z.dtype == jnp.float64)
    found = Minimum(z, converged, residual, margin, (steps, linear_steps, identified), unique > 0)
    value = apply_forward_policy(solver, found, found.z)
    return Solution(value, Certificate(certificate_of(found, shape)), stop_gradient(value))


def _energy(planes: Planes, plain: Plain) -> Energy:
    image, kappa, factors = planes.x, planes.ridge, planes.edge_weights
    known = (planes.x, planes.bias, planes.weight, planes.tau, planes.cotau)
    values, weights, *_ = separable.window_pulls(known, (plain.geometry, plain.outside, plain.penalty))
    data = named_penalty(plain.penalty, (planes.tau, planes.cotau), planes.smoothing)
    families = [Edges(DataEdges(), values, weights, data)]
    between = named_penalty(plain.edge_penalty, None, planes.edge_smoothing)
    for channel, dim in enumerate((-2, -1)):
        weight = planes.coupling[:, None, None]
        if factors is not None:
            weight = weight * jax.lax.slice_in_dim(factors[:, :, channel], 0, -1, axis=dim)
        families.append(Edges(GridEdges(dim), jnp.zeros((), image.dtype), weight, between))
    ridge = None if kappa is None else Ridge(kappa[:, None, None], image)
    return Energy(tuple(families), jnp.zeros_like(image), ridge)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _minimum(planes: Planes, start: jax.Array, probe: jax.Array, plain: Plain) -> tuple[jax.Array, jax.Array]:
    """Give the minimiser, and the other entries of `Minimum` but the first as numbers (6, N, C)."""
    return _forward(planes, start, probe, plain)[0]


def _forward(planes: Planes, start: jax.Array, probe: jax.Array, plain: Plain) -> tuple[Any, tuple[Any, ...]]:
    x, solver = planes.x, plain.solver
    assert isinstance(solver, Newton)
    problems = x.shape[:2]
    results = [
        jax.ShapeDtypeStruct(x.shape, x.dtype), jax.ShapeDtypeStruct((2, *problems), x.dtype),
        jax.ShapeDtypeStruct((3, *problems), jnp.int32), jax.ShapeDtypeStruct(problems, jnp.bool_),
    ]  # fmt: skip

    def by_kernel(planes: Planes, start: jax.Array) -> tuple[jax.Array, ...]:
        goal = solver.resolved_tolerance(x.dtype == jnp.float64)
        options = (plain.geometry, plain.outside, goal, solver.max_steps, solver.linear_steps)
        return call_kernel(f"{KERNELS}_minimum", results, planes.x, tuple(planes[1:]), start, options=options)

    def by_xla(planes: Planes, start: jax.Array) -> tuple[jax.Array, ...]:
        found = minimum(_energy(planes, plain), start, solver)
        return found.z, jnp.stack((found.residual, found.margin)), jnp.stack(found.counts), found.unique

    z, numbers, counts, unique = on_platform(by_kernel, by_xla, planes, start)
    # As floating point numbers all of them: JAX would give those of other types a derivative of no type.
    return (z, jnp.concatenate((numbers, counts, unique[None]), dtype=x.dtype)), (planes, z)


def _backward(
    plain: Plain, kept: tuple[Planes, jax.Array], cotangents: tuple[jax.Array, jax.Array]
) -> tuple[Planes, jax.Array, jax.Array]:
    planes, z = kept
    adjoint = plain.adjoint
    assert isinstance(adjoint, LinearAdjoint)
    problems, dtype = z.shape[:2], z.dtype
    like = [None if part is None else jax.ShapeDtypeStruct(part.shape, part.dtype) for part in planes]
    results = [
        *(part for part in like if part is not None), jax.ShapeDtypeStruct(problems, dtype),
        jax.ShapeDtypeStruct((2, *problems), jnp.int32),
    ]  # fmt: skip

    def by_kernel(q: jax.Array, z: jax.Array, planes: Planes) -> tuple[jax.Array, ...]:
        terms, max_steps = adjoint.method
        options = (plain.geometry, plain.outside, terms, adjoint.resolved_tolerance(dtype == jnp.float64), max_steps)
        arrays = (q, planes.x, z, tuple(planes[1:]))
        return call_kernel(f"{KERNELS}_adjoint", results, *arrays, options=options)

    def by_xla(q: jax.Array, z: jax.Array, planes: Planes) -> tuple[jax.Array, ...]:
        undefined = jnp.isnan(z)
        z, q = jnp.where(undefined, 0.0, z), jnp.where(undefined, 0.0, q)
        solved = pull_back(adjoint, _energy(planes, plain), z, q)
        (found,) = jax.vjp(lambda planes: _energy(planes, plain).gradient(z), planes)[1](-solved.v)
        counts = jnp.stack((solved.steps, solved.singular.astype(jnp.int32)))
        return (*(part for part in found if part is not None), solved.residual, counts)

    *found, residual, counts = on_platform(by_kernel, by_xla, cotangents[0], z, planes)
    certificate = certify(adjoint, AdjointSolution(z, counts[0], residual, counts[1] > 0))
    gradients = iter(found)
    change = Planes(*[None if part is None else next(gradients) for part in planes])
    return _settled(adjoint, certificate, change), jnp.zeros_like(z), numbers_of(certificate, (z.shape[0],), z)


_minimum.defvjp(_forward, _backward)


def _settled(adjoint: LinearAdjoint, found: BackwardCertificate, change: Planes) -> Planes:
    """Do what the policy asks for; NaN goes to every gradient that a failed sample takes part in."""
    change = change._replace(x=apply_failure_policy(adjoint, found, change.x))
    if adjoint.on_failure != "nan":
        return change
    failed = ~found.converged | found.singular

    def without(part: jax.Array) -> jax.Array:
        own = failed.reshape(-1, 1, 1, 1, 1) if part.ndim == 5 else failed.any()
        return jnp.where(own, jnp.nan, part)

    return Planes(change.x, *jax.tree.map(without, tuple(change[1:])))
