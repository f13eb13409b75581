"""Equilibria z = f(z) of any map: a solver finds one, an adjoint differentiates it, a certificate says how well both went.

See `varmorph.torch.equilibrium`. Here the rule is one for the forward mode, (I - J) dz = df, a linear system whose transpose JAX
knows. S. Bai, J. Z. Kolter, V. Koltun (2019), Deep equilibrium models, NeurIPS.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun
from jax.lax import stop_gradient

from varmorph.adjoints import Adjoint, LinearAdjoint
from varmorph.jax.energy.adjoints import Truncated, checked_adjoint, numbers_of, sent
from varmorph.jax.energy.adjoints import apply_failure_policy as apply_backward_policy
from varmorph.jax.energy.certificates import (
    ActiveSet,
    BackwardCertificate,
    Certificate,
    ForwardCertificate,
    apply_policy,
)
from varmorph.jax.energy.gmres import GeneralSolution, geometric_series, minimal_residuals
from varmorph.jax.energy.minimisation import Solution
from varmorph.jax.energy.solvers import Anderson
from varmorph.jax.energy.solvers.iteration import MapSolver, hold
from varmorph.jax.shapes import AnyShape

__all__ = ["equilibrium"]

Function = Callable[[AnyShape], AnyShape]


def equilibrium(
    function: Function,
    start: AnyShape,
    *,
    solver: MapSolver | None = None,
    adjoint: Adjoint | None = None,
    batched: bool = True,
) -> Solution:
    """Find z with z = function(z), differentiable in every array that the function closes over.

    Outside of `jax.jit` the function is compiled at each call: compile what calls this.

    Parameters
    ----------
    function : callable
        Maps z (N, ...) to the same shape and dtype, each sample for itself.
    start : (N, ...)
        Where to start; carries no gradient. Zeros are usual.
    solver : FixedPoint or Anderson
        Default `Anderson()`. Its tolerance is for the residual max |f(z) - z| / max(1, max |f(z)|) of each sample; a
        sample that has reached it stays where it is while others go on, so that its result does not depend on its batch.
    adjoint : Adjoint
        Default `Implicit()`: GMRES on products with the Jacobian, with a tolerance and a certificate of its own, in both
        modes and all orders. `Neumann(terms=k)` is the first k terms of sum_j (J^T)^j dL/dz, `OneStep(step="relaxation")`
        the first alone, the Jacobian-free gradient (Fung et al., AAAI 2022); `OneStep()`, one Newton step, solves the
        system of `Implicit`. `Unrolled()` stores checkpoints of the iterations, `Truncated()` iterations.
    batched : bool
        Whether the first dimension counts samples; else all of z is one problem, such as a graph, and certificates have shape ().

    Returns
    -------
    Solution
        `value` is f(z), one application of the function beyond the iterate that `certificate.forward.residual` was measured at.
        The certificate cannot know whether the equilibrium is the only one (`unique` is False), nor how far kinks are
        (`active.margin` is 0). That of the backward pass comes from `solve_with_pullback`; its `singular` says that I - J is.

    Raises
    ------
    TypeError
        If solver or adjoint cannot treat a map.
    ValueError
        If the function returns another shape or dtype.
    ConvergenceError
        If a sample has not converged and the policy is "raise"; inside `jit` the error is that of `equinox.error_if`.

    Examples
    --------
    z = cos(a z) at a = 1, and dz/da = -z sin z / (1 + sin z).

    >>> import jax, jax.numpy as jnp
    >>> from varmorph.jax import equilibrium
    >>> def solved(a):
    ...     return equilibrium(lambda z: jnp.cos(a * z), jnp.zeros((1, 1))).value.sum()
    >>> value, slope = jax.jit(jax.value_and_grad(solved))(jnp.ones(()))
    >>> round(float(value), 4), round(float(slope), 4)
    (0.7391, -0.2975)
    """
    solver, adjoint = _checked_methods(solver, adjoint)
    start = _checked_start(start, batched)
    shape = start.shape[:1] if batched else ()
    samples = start.shape[0] if batched else 1
    begin = stop_gradient(start).reshape(samples, 1, -1)
    probe = sent(shape, "linear" if isinstance(adjoint, LinearAdjoint) else "unrolled")
    problem = _map(function, begin, start.shape)
    found = _iterate(solver, problem if adjoint.unrolls else stop_gradient(problem), begin, recorded=adjoint.unrolls)
    if isinstance(adjoint, Truncated):
        assert isinstance(adjoint.through, MapSolver)
        value = _iterate(adjoint.through, problem, stop_gradient(found.z), fixed_steps=adjoint.steps - 1).image
    elif isinstance(adjoint, LinearAdjoint):
        value = _attach(adjoint, problem, found.z, shape, probe)
    else:
        value = found.image
    what = f"{solver} in {start.dtype}"
    value = apply_policy(solver.on_failure, ~found.converged[:, 0], value, found.residual[:, 0], what)
    value = value.reshape(start.shape)
    return Solution(value, Certificate(_forward_certificate(found, shape)), stop_gradient(value))


def _checked_methods(solver: MapSolver | None, adjoint: Adjoint | None) -> tuple[MapSolver, Adjoint]:
    solver = Anderson() if solver is None else solver
    if not isinstance(solver, MapSolver):
        raise TypeError(
            f"solver must be FixedPoint() or Anderson(), found {type(solver).__name__}: the others minimise an energy"
        )
    adjoint = checked_adjoint(adjoint)
    if isinstance(adjoint, Truncated) and not isinstance(adjoint.through, MapSolver):
        raise TypeError(f"Truncated goes through FixedPoint() or Anderson() here, found {adjoint.through}")
    return solver, adjoint


def _checked_start(start: jax.Array, batched: bool) -> jax.Array:
    start = jnp.asarray(start)
    if not jnp.issubdtype(start.dtype, jnp.floating):
        raise TypeError(f"start must be an array of floating-point numbers, found {start.dtype}")
    if batched and not start.ndim:
        raise ValueError("start must have shape (N, ...), found (): give batched=False for one problem")
    if not math.prod(start.shape[1:] if batched else start.shape):
        raise ValueError(f"start must hold unknowns for each sample, found shape {start.shape}")
    return start


class _Map(eqx.Module):
    """A function of z (N, 1, unknowns), the form in which solvers see each sample as one problem.

    What it closes over, traced or not, is taken out of it, so that derivatives can be taken in it.
    """

    arrays: list[jax.Array]
    program: Jaxpr = eqx.field(static=True)

    def __call__(self, z: jax.Array) -> jax.Array:
        (image,) = jaxpr_as_fun(ClosedJaxpr(self.program, self.arrays))(z)
        return image


def _map(function: Function, begin: jax.Array, shape: tuple[int, ...]) -> _Map:
    """Write a function of arrays of a shape as one of arrays of the shape of `begin`."""

    def flat(z: jax.Array) -> jax.Array:
        image = function(z.reshape(shape))
        if image.shape != shape or image.dtype != z.dtype:
            raise ValueError(
                f"the function must return shape {shape} and {z.dtype} as it is given,"
                f" found {image.shape} and {image.dtype}"
            )
        return image.reshape(z.shape)

    closed = jax.make_jaxpr(flat)(begin)
    return _Map([jnp.asarray(array) for array in closed.consts], closed.jaxpr)


class _Iterate(NamedTuple):
    """Where a solver ended: z and f(z) (N, 1, unknowns), and numbers of problems (N, 1)."""

    z: jax.Array
    image: jax.Array
    converged: jax.Array
    iterations: jax.Array
    residual: jax.Array


class _Progress(NamedTuple):
    z: jax.Array
    image: jax.Array
    history: Any
    residual: jax.Array
    iterations: jax.Array
    turn: jax.Array


def _residual(z: jax.Array, image: jax.Array) -> jax.Array:
    z, image = stop_gradient((z, image))
    return jnp.abs(image - z).max(-1) / jnp.maximum(jnp.abs(image).max(-1), 1.0)


def _iterate(
    solver: MapSolver, problem: _Map, z: jax.Array, *, fixed_steps: int | None = None, recorded: bool = False
) -> _Iterate:
    """Iterate from z until every sample is done; with `fixed_steps`, that many steps for all of them.

    recorded : whether the iterations are to be differentiated in reverse mode, as those of `fixed_steps` can be always.
    """
    tolerance = solver.resolved_tolerance(z.dtype == jnp.float64)

    def step(now: _Progress) -> _Progress:
        active = now.residual > tolerance if fixed_steps is None else jnp.ones(z.shape[:2], bool)
        moved, history = solver.advance(now.history, now.z, now.image)
        moved = hold(active, moved, now.z)
        image = problem(moved)
        iterations = now.iterations + active
        return _Progress(moved, image, history, _residual(moved, image), iterations, now.turn + 1)

    def goes_on(now: _Progress) -> jax.Array:
        return (now.residual > tolerance).any() & (now.turn < solver.max_steps)

    image = problem(z)
    none = jnp.zeros(z.shape[:2], jnp.int32)
    begin = _Progress(z, image, solver.first(z), _residual(z, image), none, jnp.int32(0))
    if recorded:
        end = eqxi.while_loop(goes_on, step, begin, max_steps=solver.max_steps, kind="checkpointed")
    elif fixed_steps is not None:
        end = jax.lax.scan(lambda now, _: (step(now), None), begin, length=fixed_steps)[0]
    else:
        end = jax.lax.while_loop(goes_on, step, begin)
    return _Iterate(end.z, end.image, end.residual <= tolerance, end.iterations, end.residual)


def _forward_certificate(found: _Iterate, shape: tuple[int, ...]) -> ForwardCertificate:
    converged, iterations, residual = (
        entry.reshape(shape) for entry in (found.converged, found.iterations, found.residual)
    )
    none = jnp.zeros_like(iterations)
    unknown = ActiveSet(jnp.zeros_like(residual), none)
    return ForwardCertificate(converged, iterations, residual, none, jnp.zeros_like(converged), unknown)


def _attach(
    adjoint: LinearAdjoint, problem: _Map, z: jax.Array, shape: tuple[int, ...], probe: jax.Array | None
) -> jax.Array:
    """Return f(z) with an implicit derivative in what the function closes over; probe : see `varmorph.jax.energy.adjoints.attach`."""
    if probe is None:
        return _image(adjoint, problem, z)
    return _certified(adjoint, shape, problem, z, probe)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _image(adjoint: LinearAdjoint, problem: _Map, z: jax.Array) -> jax.Array:
    return problem(z)


@_image.defjvp
def _differentiate(
    adjoint: LinearAdjoint, primals: tuple[Any, jax.Array], tangents: tuple[Any, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    problem, z = primals
    z = _image(adjoint, problem, z)
    _, moved = jax.jvp(lambda problem: problem(z), (problem,), (tangents[0],))
    _, along = jax.linearize(problem, z)

    def solve(matrix: Function, right: jax.Array) -> jax.Array:
        found = _pull_back(adjoint, matrix, right)
        return apply_backward_policy(adjoint, _certify(adjoint, found), found.value.reshape(right.shape))

    return z, jax.lax.custom_linear_solve(lambda v: v - along(v), moved, solve, solve)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _certified(
    adjoint: LinearAdjoint, shape: tuple[int, ...], problem: _Map, z: jax.Array, probe: jax.Array
) -> jax.Array:
    return problem(z)


def _forward(
    adjoint: LinearAdjoint, shape: tuple[int, ...], problem: _Map, z: jax.Array, probe: jax.Array
) -> tuple[jax.Array, tuple[Any, jax.Array]]:
    image = problem(z)
    return image, (problem, image)


def _backward(
    adjoint: LinearAdjoint, shape: tuple[int, ...], kept: tuple[Any, jax.Array], q: jax.Array
) -> tuple[Any, jax.Array, jax.Array]:
    problem, z = kept
    _, pull = jax.vjp(lambda problem, z: problem(z), problem, z)
    found = _pull_back(adjoint, lambda v: v - pull(v)[1], q)
    certificate = _certify(adjoint, found)
    change, _ = pull(apply_backward_policy(adjoint, certificate, found.value.reshape(q.shape)))
    return change, jnp.zeros_like(z), numbers_of(certificate, shape, z)


_certified.defvjp(_forward, _backward)


def _pull_back(adjoint: LinearAdjoint, matrix: Function, right: jax.Array) -> GeneralSolution:
    """Solve matrix(v) = right, both of the shape (N, 1, unknowns) of the solvers; the value is (N, unknowns)."""

    def flat(v: jax.Array) -> jax.Array:
        return matrix(v.reshape(right.shape)).reshape(v.shape)

    terms, max_steps = adjoint.method
    q = right.reshape(right.shape[0], -1)
    if terms:
        return geometric_series(flat, q, terms)
    return minimal_residuals(flat, q, adjoint.resolved_tolerance(q.dtype == jnp.float64), max_steps)


def _certify(adjoint: LinearAdjoint, found: GeneralSolution) -> BackwardCertificate:
    converged = found.residual <= adjoint.resolved_tolerance(found.residual.dtype == jnp.float64)
    return BackwardCertificate(converged, found.steps, found.residual, found.stuck)
