"""Differentiating a minimiser in JAX: see `varmorph.adjoints`.

The rule of an implicit derivative is one for the forward mode: H dz = -d(grad_z E), a linear system whose transpose JAX knows,
so that both modes and all orders follow. What a backward pass certifies cannot leave `jax.grad`. Under `solve_with_pullback` it
leaves as the "gradient" of an argument that takes part in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from varmorph.adjoints import Adjoint, Implicit, LinearAdjoint, Neumann, OneStep, Unrolled, check_steps
from varmorph.jax.energy.certificates import BackwardCertificate, apply_policy
from varmorph.jax.energy.conjugate_gradients import conjugate_gradients, neumann_series
from varmorph.jax.energy.energy import Energy, frozen
from varmorph.jax.energy.laplacian import Laplacian
from varmorph.jax.energy.solvers import FixedPoint, Solver

__all__ = [
    "Adjoint",
    "AdjointSolution",
    "Implicit",
    "LinearAdjoint",
    "Messenger",
    "Neumann",
    "OneStep",
    "Truncated",
    "Unrolled",
    "apply_failure_policy",
    "attach",
    "certify",
    "checked_adjoint",
    "messenger",
    "numbers_of",
    "pull_back",
    "sent",
]


@dataclass(frozen=True, kw_only=True)
class Truncated(Adjoint):
    """Automatic differentiation through some iterations of a solver that is started again at the minimiser.

    Parameters
    ----------
    steps : int
        Number of iterations that are stored.
    through : Solver
        The solver that is differentiated.
    """

    steps: int = 5
    through: Solver = field(default_factory=FixedPoint)

    def __post_init__(self) -> None:
        check_steps("steps", self.steps)
        if not isinstance(self.through, Solver):
            raise TypeError(f"through must be a solver such as FixedPoint(), found {type(self.through).__name__}")


@dataclass
class Messenger:
    """Brings the certificate of one backward pass to where it is asked for.

    Parameters
    ----------
    probe : (4, ...), optional
        Zeros, whose cotangent is the certificate.
    announced : list
        Shape of its entries and kind of each solve: "linear"; "exact" where no system is solved; "unrolled".
    """

    probe: jax.Array | None = None
    announced: list[tuple[tuple[int, ...], str]] = field(default_factory=list)

    def heard(self) -> tuple[tuple[int, ...], str]:
        """Require one solve; return its shape and kind."""
        if len(self.announced) != 1:
            raise ValueError(
                f"the operator must solve one coupled problem, found {len(self.announced)}"
                " (one inside a function that jit has compiled is not seen: compile the whole call instead)"
            )
        return self.announced[0]


_messenger: ContextVar[Messenger | None] = ContextVar("messenger", default=None)


@contextmanager
def messenger(probe: jax.Array | None) -> Iterator[Messenger]:
    """Wait for the certificate of the solve within the block."""
    waiting = Messenger(probe)
    before = _messenger.set(waiting)
    try:
        yield waiting
    finally:
        _messenger.reset(before)


def sent(shape: tuple[int, ...], kind: str) -> jax.Array | None:
    """Announce a solve with certificates of a shape to who waits for them; return the probe, if there is one."""
    waiting = _messenger.get()
    if waiting is None:
        return None
    waiting.announced.append((shape, kind))
    return waiting.probe


def numbers_of(certificate: BackwardCertificate, shape: tuple[int, ...], like: jax.Array) -> jax.Array:
    """Write a certificate as numbers (4, ...)."""
    return jnp.stack([entry.reshape(shape).astype(like.dtype) for entry in certificate])


def attach(
    adjoint: LinearAdjoint, energy: Energy, z: jax.Array, shape: tuple[int, ...], probe: jax.Array | None
) -> jax.Array:
    """Return the minimiser z with an implicit derivative in the parameters of the energy.

    probe : what `sent` has returned: without one the derivative is one for both modes and all orders.
    """
    if probe is None:
        return _minimiser(adjoint, energy, z)
    return _certified(adjoint, shape, energy, z, probe)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _minimiser(adjoint: LinearAdjoint, energy: Energy, z: jax.Array) -> jax.Array:
    return z


@_minimiser.defjvp
def _differentiate(
    adjoint: LinearAdjoint, primals: tuple[Energy, jax.Array], tangents: tuple[Energy, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    energy, z = primals
    z = _minimiser(adjoint, energy, z)
    hessian = _hessian(energy, z)
    _, moved = jax.jvp(lambda energy: energy.gradient(z), (energy,), (tangents[0],))

    def solve(_: Callable[[jax.Array], jax.Array], right: jax.Array) -> jax.Array:
        found = pull_back(adjoint, energy, z, right)
        return apply_failure_policy(adjoint, certify(adjoint, found), found.v)

    change = jax.lax.custom_linear_solve(lambda v: hessian(v), -moved, solve, solve, symmetric=True)
    return z, change


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _certified(
    adjoint: LinearAdjoint, shape: tuple[int, ...], energy: Energy, z: jax.Array, probe: jax.Array
) -> jax.Array:
    return z


def _backward(
    adjoint: LinearAdjoint, shape: tuple[int, ...], kept: tuple[Energy, jax.Array], q: jax.Array
) -> tuple[Energy, jax.Array, jax.Array]:
    energy, z = kept
    found = pull_back(adjoint, energy, z, q)
    certificate = certify(adjoint, found)
    (change,) = jax.vjp(lambda energy: energy.gradient(z), energy)[1](
        -apply_failure_policy(adjoint, certificate, found.v)
    )
    return change, jnp.zeros_like(z), numbers_of(certificate, shape, z)


_certified.defvjp(lambda adjoint, shape, energy, z, probe: (z, (energy, z)), _backward)


class AdjointSolution(NamedTuple):
    """The vector v with H v = q, and numbers of each problem (N, C): steps, relative residual, whether H is singular."""

    v: jax.Array
    steps: jax.Array
    residual: jax.Array
    singular: jax.Array


def _hessian(energy: Energy, z: jax.Array) -> Laplacian:
    if energy.has_corner:
        raise ValueError(
            "a coupled problem with penalty 'quantile' has no implicit gradient: use 'huber' and a ridge,"
            " or adjoint Unrolled() with solver PrimalDual()"
        )
    return energy.hessian([edges.residual(z) for edges in energy.edges])


@partial(jax.jit, static_argnums=0)
def pull_back(adjoint: LinearAdjoint, energy: Energy, z: jax.Array, q: jax.Array) -> AdjointSolution:
    """Find v with H v = q at the minimiser z, without derivatives."""
    energy = frozen(energy)
    hessian, (terms, max_steps) = _hessian(energy, stop_gradient(z)), adjoint.method
    tolerance = adjoint.resolved_tolerance(q.dtype == jnp.float64)
    found = neumann_series(hessian, q, terms) if terms else conjugate_gradients(hessian, q, tolerance, max_steps)
    alone = ~hessian.reaches_known() & (energy.connections().diagonal > 0)
    return AdjointSolution(*found, alone.any(tuple(range(2, alone.ndim))))


def checked_adjoint(adjoint: Adjoint | None) -> Adjoint:
    """Require an adjoint, or None for the default."""
    adjoint = Implicit() if adjoint is None else adjoint
    if not isinstance(adjoint, Adjoint):
        raise TypeError(
            f"adjoint must be one of varmorph.jax's adjoints, such as Implicit(), found {type(adjoint).__name__}"
        )
    return adjoint


def certify(adjoint: LinearAdjoint, found: AdjointSolution) -> BackwardCertificate:
    """Certify the backward pass of each sample."""
    worst = found.residual.max(1)
    converged = worst <= adjoint.resolved_tolerance(worst.dtype == jnp.float64)
    return BackwardCertificate(converged, found.steps.max(1), worst, found.singular.any(1))


def apply_failure_policy(adjoint: LinearAdjoint, found: BackwardCertificate, v: jax.Array) -> jax.Array:
    """Do what the policy asks for where the backward pass failed; return v, with NaN in failed samples for "nan"."""
    if adjoint.on_failure is None:
        return v
    failed = ~found.converged | found.singular
    return apply_policy(adjoint.on_failure, failed, v, found.residual, f"backward pass of {adjoint}")
