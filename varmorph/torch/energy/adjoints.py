"""Differentiating a minimiser in PyTorch: see `varmorph.adjoints`.

With H the Hessian and G the gradient of the energy at the minimiser, H v = dL/dz and dL/dtheta = -v^T dG/dtheta. For second
derivatives v counts as what it is, a function of H and dL/dz, and the minimiser in H and G as a function of theta.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from varmorph.adjoints import Adjoint, Implicit, LinearAdjoint, Neumann, OneStep, Unrolled, check_steps
from varmorph.torch.energy.certificates import BackwardCertificate, Certificate, apply_policy
from varmorph.torch.energy.conjugate_gradients import LinearSolution, conjugate_gradients, neumann_series
from varmorph.torch.energy.energy import Energy, Evaluation
from varmorph.torch.energy.laplacian import Laplacian
from varmorph.torch.energy.solvers import FixedPoint, Solver

__all__ = [
    "Adjoint",
    "Implicit",
    "LinearAdjoint",
    "Neumann",
    "OneStep",
    "Truncated",
    "Unrolled",
    "apply_failure_policy",
    "attach",
    "certify",
    "checked_adjoint",
    "implicit_gradients",
    "linear_solve",
    "resolved_tolerance",
    "solved",
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


def attach(
    adjoint: Adjoint, energy: Energy, at: Evaluation, certificate: Certificate, shape: tuple[int, ...]
) -> Tensor:
    """Return the minimiser `at.z` with a gradient in the parameters of the energy.

    certificate : its field `backward` is filled by the backward pass, with tensors of the given shape.
    """
    if isinstance(adjoint, Truncated):
        return adjoint.through.run(energy, at.z.detach(), fixed_steps=adjoint.steps).at.z
    if not isinstance(adjoint, LinearAdjoint):
        return at.z
    residuals = tuple(r.detach() for r in at.residuals)
    parameters = energy.parameters()
    kept = (*residuals, *energy.endpoints_given())
    return _Attached.apply(at.z.detach(), adjoint, energy, certificate, shape, len(parameters), *parameters, *kept)


def resolved_tolerance(adjoint: LinearAdjoint, dtype: torch.dtype) -> float:
    """Relative residual up to which the adjoint solve counts as converged."""
    return adjoint.resolved_tolerance(dtype == torch.float64)


def _solve(adjoint: LinearAdjoint, hessian: Laplacian, q: Tensor) -> LinearSolution:
    """Find v with H v = q."""
    terms, max_steps = adjoint.method
    if terms:
        return neumann_series(hessian, q, terms)
    return conjugate_gradients(hessian, q, resolved_tolerance(adjoint, q.dtype), max_steps)


def checked_adjoint(adjoint: Adjoint | None) -> Adjoint:
    """Require an adjoint, or None for the default."""
    adjoint = Implicit() if adjoint is None else adjoint
    if not isinstance(adjoint, Adjoint):
        raise TypeError(
            f"adjoint must be one of varmorph.torch's adjoints, such as Implicit(), found {type(adjoint).__name__}"
        )
    return adjoint


def certify(
    adjoint: LinearAdjoint, iterations: Tensor, residual: Tensor, singular: Tensor, shape: tuple[int, ...]
) -> BackwardCertificate:
    """Certify the backward pass: steps and residual of each problem (N, C), and whether a sample (N,) is singular."""
    worst = residual.amax(1)
    entries = (worst <= resolved_tolerance(adjoint, residual.dtype), iterations.amax(1), worst, singular)
    return BackwardCertificate(*(entry.view(shape) for entry in entries))


def apply_failure_policy(adjoint: LinearAdjoint, found: BackwardCertificate, v: Tensor) -> Tensor:
    """Do what the policy asks for where the backward pass failed; return v, with NaN in failed samples for "nan"."""
    if adjoint.on_failure is None:
        return v
    failed = (~found.converged | found.singular).view(-1)
    return apply_policy(adjoint.on_failure, failed, v, found.residual.view(-1), f"backward pass of {adjoint}")


class _Attached(torch.autograd.Function):
    """Give a minimiser the gradient in everything that its energy is made of."""

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        adjoint: LinearAdjoint,
        energy: Energy,
        certificate: Certificate,
        shape: tuple[int, ...],
        count: int,
        *tensors: Tensor | None,
    ) -> Tensor:
        ctx.parts = (adjoint, energy, certificate, shape, count)
        value = z.clone()
        # All that the backward pass reads is saved: reading it fails where it was changed in place in between.
        ctx.save_for_backward(value, *tensors)
        return value

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        (q,) = cotangents
        adjoint, energy, certificate, shape, count = ctx.parts
        z, *tensors = ctx.saved_tensors
        parameters, residuals = tensors[:count], tensors[count : count + len(energy.edges)]
        if energy.has_corner:
            raise ValueError(
                "a coupled problem with penalty 'quantile' has no implicit gradient: use 'huber' and a ridge,"
                " or adjoint Unrolled() with solver PrimalDual()"
            )

        solve = linear_solve(adjoint, energy, residuals, certificate, shape)
        wanted = ctx.needs_input_grad[6 : 6 + count]
        gradients = implicit_gradients(solve, q, energy.with_parameters, parameters, wanted, z, residuals)
        return (*(None,) * 6, *gradients, *(None,) * (len(tensors) - count))


def linear_solve(
    adjoint: LinearAdjoint,
    energy: Energy,
    residuals: Sequence[Tensor],
    certificate: Certificate,
    shape: tuple[int, ...],
) -> Callable[[Tensor], Tensor]:
    """Make the function q -> v, H v = q, that fills in the certificate of the backward pass and heeds the failure policy."""
    with torch.no_grad():
        hessian = energy.hessian(residuals)
        singular = (~hessian.reaches_known() & energy.connections.joined).flatten(1).any(1)

    def solve(q: Tensor) -> Tensor:
        found = _solve(adjoint, hessian, q)
        certificate.backward = certify(adjoint, found.steps, found.residual, singular, shape)
        return apply_failure_policy(adjoint, certificate.backward, found.value)

    return solve


def implicit_gradients(
    solve: Callable[[Tensor], Tensor],
    q: Tensor,
    energy_of: Callable[[Sequence[Tensor | None]], Energy],
    parameters: Sequence[Tensor | None],
    wanted: Sequence[bool],
    z: Tensor,
    residuals: Sequence[Tensor],
) -> list[Tensor | None]:
    """Give the gradients -v^T dG/dtheta of the wanted parameters, H v = q; differentiable where autograd records.

    Parameters
    ----------
    solve : callable
        q -> v.
    q : Tensor
        Gradient of the minimiser.
    energy_of : callable
        The energy made of parameters, in tensor code.
    parameters, wanted
        Its parameters, and of which the gradient is asked.
    z, residuals
        The minimiser and its residuals. Where autograd records, z is the result of the solve that is differentiated.
    """
    twice = torch.is_grad_enabled()

    def hessian(z: Tensor, *parameters: Tensor | None) -> Laplacian:
        energy = energy_of(parameters)
        moving = [edges.residual(z) for edges in energy.edges]
        # The pieces on which the solver left the residuals: rounding must not choose others.
        return energy.hessian([fixed + (r - r.detach()) for fixed, r in zip(residuals, moving, strict=True)])

    v = solved(solve, hessian, q, z, *parameters)
    with torch.enable_grad():
        own, chosen = _in_their_places(parameters, wanted)
        gradient = energy_of(own).gradient(z if twice else z.detach())
        found = iter(torch.autograd.grad(gradient, chosen, -v, create_graph=twice, allow_unused=True))
    return [next(found) if needed else None for needed in wanted]


def _in_their_places(
    tensors: Sequence[Tensor | None], wanted: Sequence[bool]
) -> tuple[list[Tensor | None], list[Tensor]]:
    """Give the tensors under names of their own, and those by which to differentiate.

    One may be computed from another; by a name of its own each has the gradient of the place where it stands.
    """
    own: list[Tensor | None] = []
    for tensor, needed in zip(tensors, wanted, strict=True):
        if tensor is not None:
            recorded = torch.is_grad_enabled() and tensor.requires_grad
            tensor = tensor.view_as(tensor) if recorded else tensor.detach().requires_grad_(needed)
        own.append(tensor)
    return own, [tensor for tensor, needed in zip(own, wanted, strict=True) if needed and tensor is not None]


def solved(
    solve: Callable[[Tensor], Tensor],
    matrix: Callable[..., Callable[[Tensor], Tensor]],
    q: Tensor,
    *parts: Tensor | None,
) -> Tensor:
    """Solve a symmetric linear system, differentiably as often as anyone asks.

    Parameters
    ----------
    solve : callable
        q -> v with A v = q, by any method.
    matrix : callable
        Maps what A is made of to the function v -> A v, by operations that are differentiable.
    q, *parts
        Right side, and what A is made of.
    """
    if torch.is_grad_enabled():
        return _Solved.apply(solve, matrix, q, *parts)
    return solve(q)


class _Solved(torch.autograd.Function):
    """With w the solution for the gradient of v: w is the gradient of q, and -w^T (dA/dtheta) v that of a parameter of A."""

    @staticmethod
    def forward(ctx: Any, solve: Any, matrix: Any, q: Tensor, *parts: Tensor | None) -> Tensor:
        ctx.functions = (solve, matrix)
        v = solve(q)
        ctx.save_for_backward(v, *parts)
        return v

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        (solve, matrix), (v, *parts), wanted = ctx.functions, ctx.saved_tensors, ctx.needs_input_grad[3:]
        w, again = solved(solve, matrix, cotangents[0], *parts), torch.is_grad_enabled()
        with torch.enable_grad():
            own, chosen = _in_their_places(parts, wanted)
            image = matrix(*own)(v if again else v.detach())
            if not image.requires_grad:
                return None, None, w, *(None for _ in wanted)
            found = iter(torch.autograd.grad(image, chosen, -w, create_graph=again, allow_unused=True))
        return None, None, w, *(next(found) if needed else None for needed in wanted)
