"""Differentiating a minimiser in PyTorch: see `varmorph.adjoints`."""

from __future__ import annotations

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
    "SECOND_DERIVATIVES",
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
    "refuse_second_derivatives",
    "resolved_tolerance",
]


SECOND_DERIVATIVES = "coupled operators have first derivatives only, found create_graph=True"


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
    z = at.z.detach()
    gradient = energy.gradient(z)
    if not gradient.requires_grad:
        return z
    residuals = tuple(r.detach() for r in at.residuals)
    return _Attached.apply(gradient, z, adjoint, energy, certificate, shape, *residuals)


def resolved_tolerance(adjoint: LinearAdjoint, dtype: torch.dtype) -> float:
    """Relative residual up to which the adjoint solve counts as converged."""
    return adjoint.resolved_tolerance(dtype == torch.float64)


def _pull_back(adjoint: LinearAdjoint, hessian: Laplacian, q: Tensor) -> LinearSolution:
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


def refuse_second_derivatives() -> None:
    """Require that nobody differentiates the backward pass that is running.

    v depends on the parameters too: a graph without it would give a second derivative that is silently wrong.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(SECOND_DERIVATIVES)


class _Attached(torch.autograd.Function):
    """Give a minimiser the gradient -v in the gradient of its energy; automatic differentiation does the rest."""

    @staticmethod
    def forward(
        ctx: Any,
        gradient: Tensor,
        z: Tensor,
        adjoint: LinearAdjoint,
        energy: Energy,
        certificate: Certificate,
        shape: tuple[int, ...],
        *residuals: Tensor,
    ) -> Tensor:
        ctx.parts = (adjoint, energy, certificate, shape, len(residuals))
        # What the Hessian is made of is saved besides: reading it fails where it was changed in place in between.
        ctx.save_for_backward(*residuals, *(part.detach() for part in energy.hessian_parts()))
        return z.clone()

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        (q,) = cotangents
        adjoint, energy, certificate, shape, families = ctx.parts
        residuals = ctx.saved_tensors[:families]
        refuse_second_derivatives()
        if energy.has_corner:
            raise ValueError(
                "a coupled problem with penalty 'quantile' has no implicit gradient: use 'huber' and a ridge,"
                " or adjoint Unrolled() with solver PrimalDual()"
            )
        hessian = energy.hessian(residuals)
        v, iterations, residual = _pull_back(adjoint, hessian, q)
        singular = (~hessian.reaches_known() & energy.connections.joined).flatten(1).any(1)
        certificate.backward = certify(adjoint, iterations, residual, singular, shape)
        return (-apply_failure_policy(adjoint, certificate.backward, v), *(None,) * (5 + len(residuals)))
