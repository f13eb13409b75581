"""Minimise an energy: a solver finds the minimiser, an adjoint differentiates it, a certificate says how well both went."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from varmorph.convergence import check_start
from varmorph.formulas.per_problem import spread_over
from varmorph.jax.energy.adjoints import Adjoint, LinearAdjoint, Truncated, attach, checked_adjoint, messenger, sent
from varmorph.jax.energy.certificates import (
    ActiveSet,
    BackwardCertificate,
    Certificate,
    ForwardCertificate,
    apply_policy,
)
from varmorph.jax.energy.energy import Energy, frozen
from varmorph.jax.energy.solvers import Newton, Solver
from varmorph.jax.energy.solvers.iteration import Run
from varmorph.jax.shapes import AnyShape, Unknowns

__all__ = [
    "Minimum",
    "Solution",
    "apply_failure_policy",
    "certificate_of",
    "certified",
    "checked_methods",
    "minimise",
    "minimise_parts",
    "minimum",
    "solve_with_pullback",
]


class Solution(NamedTuple):
    """A minimiser and its certificate.

    Parameters
    ----------
    value : array
        The minimiser, differentiable in everything that the energy is made of.
    certificate : Certificate
        That of the forward solve; for the backward one see `solve_with_pullback`.
    unknowns : array
        All unknowns, without gradient: what `start=` takes to start the next solve near this one.
    """

    value: AnyShape
    certificate: Certificate
    unknowns: AnyShape


class Minimum(NamedTuple):
    """What a solve has found of each problem: the minimiser (N, C, ...), NaN where there is none, and numbers (N, C).

    `counts` are steps, linear steps, and when the pieces were identified.
    """

    z: jax.Array
    converged: jax.Array
    residual: jax.Array
    margin: jax.Array
    counts: tuple[jax.Array, jax.Array, jax.Array]
    unique: jax.Array


def minimise(
    energy: Energy, z0: Unknowns | None = None, *, solver: Solver | None = None, adjoint: Adjoint | None = None
) -> Solution:
    """Minimise an energy.

    Parameters
    ----------
    energy : Energy
        Families of edges between unknowns z (N, C, ...) and known values.
    z0 : (N, C, ...), optional
        Where to start; default: the reweighted mean of the known values around each unknown.
    solver : Solver
        Default `Newton()`.
    adjoint : Adjoint
        Default `Implicit()`.

    Returns
    -------
    Solution
        The certificate's arrays are (N,). An unknown that no path of edges joins to a known value has no minimiser:
        it is NaN. So is a problem with a known value that is not finite; its sample is not converged.

    Raises
    ------
    TypeError, ValueError
        If solver or adjoint is not one, or the solver cannot treat a penalty.
    ConvergenceError
        If a sample has not converged and the policy is "raise"; inside `jit` the error is that of `equinox.error_if`.

    Examples
    --------
    Two unknowns, pulled to 0 and 1 by squares, and to each other by Huber's penalty.

    >>> import jax.numpy as jnp
    >>> from varmorph.jax import Edges, Energy, Penalty, DataEdges, GridEdges, minimise
    >>> known = jnp.array([[[[0.0, 1.0]]]])
    >>> pulls = Edges(DataEdges(), known[None], jnp.ones(()), Penalty("square"))
    >>> between = Edges(GridEdges(-1), jnp.zeros(()), jnp.array(0.2), Penalty("huber", smoothing=jnp.array(0.1)))
    >>> minimise(Energy([pulls, between], jnp.zeros((1, 1, 1, 2)))).value.round(3)
    Array([[[[0.2, 0.8]]]], dtype=float32)
    """
    return minimise_parts(energy, z0, solver, adjoint, (energy.zeros.shape[0],))


def checked_methods(solver: Solver | None, adjoint: Adjoint | None) -> tuple[Solver, Adjoint]:
    """Require a solver and an adjoint, or None for the default of either."""
    solver = Newton() if solver is None else solver
    if not isinstance(solver, Solver):
        raise TypeError(
            f"solver must be one of varmorph.jax's solvers, such as Newton(), found {type(solver).__name__}"
        )
    adjoint = checked_adjoint(adjoint)
    return solver, adjoint


def minimise_parts(
    energy: Energy, z0: jax.Array | None, solver: Solver | None, adjoint: Adjoint | None, shape: tuple[int, ...]
) -> Solution:
    """Minimise, with certificates of a given shape: (N,), or () for one graph."""
    solver, adjoint = checked_methods(solver, adjoint)
    check_start(z0, energy.zeros.shape)
    probe = sent(shape, "linear" if isinstance(adjoint, LinearAdjoint) else "unrolled")
    value, found = _solved(energy, z0, probe, solver, adjoint, shape)
    value = apply_failure_policy(solver, found, value)
    return Solution(value, Certificate(certificate_of(found, shape)), stop_gradient(value))


@partial(jax.jit, static_argnums=(3, 4, 5))  # one program, even where an operator is called outside of any
def _solved(
    energy: Energy,
    z0: jax.Array | None,
    probe: jax.Array | None,
    solver: Solver,
    adjoint: Adjoint,
    shape: tuple[int, ...],
) -> tuple[jax.Array, Minimum]:
    """Minimise, and attach the derivative that the adjoint has."""
    start = frozen(energy).weighted_mean() if z0 is None else z0
    start = stop_gradient(start).astype(energy.zeros.dtype)
    if adjoint.unrolls:
        run = solver.run(energy, start, recorded=True)
        found, value = _minimum_of(frozen(energy), frozen(run)), run.at.z
    else:
        found = minimum(frozen(energy), start, solver)
        value = jnp.where(jnp.isnan(found.z), 0.0, found.z)
    if isinstance(adjoint, Truncated):
        value = adjoint.through.run(energy, value, fixed_steps=adjoint.steps).at.z
    elif isinstance(adjoint, LinearAdjoint):
        value = attach(adjoint, energy, value, shape, probe)
    return jnp.where(jnp.isnan(found.z), jnp.nan, value), found


@partial(jax.jit, static_argnums=2)
def minimum(energy: Energy, start: jax.Array, solver: Solver) -> Minimum:
    """Find the minimiser, without derivatives."""
    energy = frozen(energy)
    return _minimum_of(energy, solver.run(energy, start))


def _minimum_of(energy: Energy, run: Run) -> Minimum:
    extent, connections, residuals = energy.extent(), energy.connections(), run.at.residuals
    joined = connections.reaches_known()
    # Squares are curved everywhere: their Hessian joins what the weights join.
    squares = all(edges.penalty.h == "square" for edges in energy.edges)
    regular = (joined if squares else energy.hessian(residuals).reaches_known()) | (connections.diagonal <= 0)
    unique = regular.all(tuple(range(2, regular.ndim)))
    finite = spread_over(jnp.isfinite(extent.spread), run.at.z)
    z = jnp.where(joined & finite, run.at.z, jnp.nan)
    counts = run.iterations, run.linear_steps, run.identified
    return Minimum(z, run.converged, run.residual, energy.margin(residuals, extent), counts, unique)


def certified(energy: Energy, z: jax.Array) -> Minimum:
    """Say what is known of a minimiser that was found without iterations; it counts as converged where it is a number."""
    energy, z = frozen(energy), stop_gradient(z)
    at, extent, none = energy.evaluate(z), energy.extent(), jnp.zeros(z.shape[:2], jnp.int32)
    residual = jnp.zeros_like(extent.spread) if energy.has_corner else energy.relative_residual(at, extent)
    return _minimum_of(energy, Run(at, jnp.isfinite(extent.spread), none, residual, none, none))


def apply_failure_policy(solver: Solver, found: Minimum, value: jax.Array) -> jax.Array:
    """Do what the solver's policy asks for where a problem (N, C) has not converged; return the value."""
    what = f"{solver} in {value.dtype}"
    return apply_policy(solver.on_failure, ~found.converged.all(1), value, found.residual.max(1), what)


def certificate_of(found: Minimum, shape: tuple[int, ...]) -> ForwardCertificate:
    """Join what is known of each problem."""
    iterations, linear_steps, identified = (count.max(1).reshape(shape) for count in found.counts)
    return ForwardCertificate(
        converged=found.converged.all(1).reshape(shape),
        iterations=iterations,
        residual=found.residual.max(1).reshape(shape),
        linear_steps=linear_steps,
        unique=found.unique.all(1).reshape(shape),
        active=ActiveSet(found.margin.min(1).reshape(shape), identified),
    )


def solve_with_pullback(
    operator: Callable[..., Solution], *arguments: Any, **options: Any
) -> tuple[AnyShape, Callable[[AnyShape], tuple[Any, BackwardCertificate | None]], Certificate]:
    """Solve, and keep what it takes to differentiate with a certificate, which `jax.grad` has no place for.

    Parameters
    ----------
    operator : callable
        A coupled operator, such as `regularised_dilation`, or a function that makes one `Solution`.
    arguments
        Its positional arguments, in which it is differentiated; None, and arrays of integers, may be among them.
    options
        Its other arguments, as they are.

    Returns
    -------
    value : array
        The value of the solution.
    pullback : callable
        Takes a cotangent of the value; gives the gradients of all `arguments`, and the `BackwardCertificate` of the adjoint
        solve, None for `Unrolled` and `Truncated`, which solve nothing.
    certificate : Certificate
        That of the forward solve.

    Raises
    ------
    ValueError
        If the operator makes no solve, or more than one.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from varmorph.jax import regularised_dilation
    >>> x = jnp.array([[[[0.0, 0.0, 4.0, 0.0, 0.0]]]])
    >>> value, pullback, certificate = solve_with_pullback(regularised_dilation, x, jnp.zeros((1, 3)), 4.0, 1.0)
    >>> gradients, backward = pullback(jnp.ones_like(value))
    >>> gradients[0].sum().round(3), backward.converged
    (Array(5., dtype=float32), Array([ True], dtype=bool))
    """
    with messenger(None) as announced:
        shapes = jax.eval_shape(lambda arguments: operator(*arguments, **options), arguments)
    shape, kind = announced.heard()

    def solve(arguments: Any, probe: jax.Array) -> tuple[jax.Array, tuple[Any, ...]]:
        with messenger(probe) as again:
            solution = operator(*arguments, **options)
        again.heard()
        return solution.value, (solution.value, solution.certificate)

    probe = jnp.zeros((4, *shape), shapes.unknowns.dtype)
    _, pull, (value, certificate) = jax.vjp(solve, arguments, probe, has_aux=True)

    def pullback(cotangent: jax.Array) -> tuple[Any, BackwardCertificate | None]:
        gradients, numbers = pull(cotangent)
        return gradients, _read(kind, numbers)

    return value, pullback, certificate


def _read(kind: str, numbers: jax.Array) -> BackwardCertificate | None:
    """Read a certificate from its numbers (4, ...)."""
    if kind == "unrolled":
        return None
    converged, iterations, residual, singular = numbers
    exact = kind == "exact"  # nothing was solved for, so that nothing was written
    return BackwardCertificate((converged > 0) | exact, iterations.astype(jnp.int32), residual, singular > 0)
