"""How a minimiser is differentiated: implicitly, by a series, by one step, or through the iterations (section 5).

At a minimiser z* grad_z E(z*, theta) = 0. With H the generalised Hessian there, a loss L has the derivative

    H v = dL/dz*,    dL/dtheta = -v^T d(grad_z E)/dtheta.

The three adjoints without iterations differ in how they find v; nothing of the forward solver is stored for them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from varmorph.torch.certificates import BackwardCertificate, Certificate, OnFailure, apply_policy, check_settings
from varmorph.torch.conjugate_gradients import LinearSolution, conjugate_gradients, neumann_series
from varmorph.torch.energy import Energy, Evaluation
from varmorph.torch.laplacian import Laplacian
from varmorph.torch.solvers import FixedPoint, Solver

__all__ = [
    "Adjoint",
    "Implicit",
    "LinearAdjoint",
    "Neumann",
    "OneStep",
    "Truncated",
    "Unrolled",
    "refuse_second_derivatives",
]


class Adjoint(ABC):
    """A way to differentiate a minimiser."""

    unrolls: ClassVar[bool] = False

    @abstractmethod
    def attach(self, energy: Energy, at: Evaluation, certificate: Certificate, shape: tuple[int, ...]) -> Tensor:
        """Return the minimiser `at.z` with a gradient in the parameters of the energy.

        certificate : its field `backward` is filled by the backward pass, with tensors of the given shape.
        """


class LinearAdjoint(Adjoint):
    """What the adjoints that compute v share: they need nothing of the forward solve but the minimiser."""

    tolerance: float | None
    on_failure: OnFailure | None

    def __post_init__(self) -> None:
        check_settings(self.tolerance, self.on_failure)

    @property
    @abstractmethod
    def method(self) -> tuple[int, int]:
        """How v is found: the number of terms of a Neumann series, 0 for conjugate gradients, and their most steps."""

    def attach(self, energy: Energy, at: Evaluation, certificate: Certificate, shape: tuple[int, ...]) -> Tensor:
        z = at.z.detach()
        gradient = energy.gradient(z)
        if not gradient.requires_grad:
            return z
        residuals = tuple(r.detach() for r in at.residuals)
        return _Attached.apply(gradient, z, self, energy, certificate, shape, *residuals)

    def pull_back(self, hessian: Laplacian, q: Tensor) -> LinearSolution:
        """Find v with H v = q."""
        terms, max_steps = self.method
        if terms:
            return neumann_series(hessian, q, terms)
        return conjugate_gradients(hessian, q, self.goal(q.dtype), max_steps)

    def goal(self, dtype: torch.dtype) -> float:
        """Relative residual up to which v counts as converged."""
        if self.tolerance is not None:
            return self.tolerance
        return 1e-10 if dtype == torch.float64 else 1e-6

    def certify(
        self, iterations: Tensor, residual: Tensor, singular: Tensor, shape: tuple[int, ...]
    ) -> BackwardCertificate:
        """Certify the backward pass: steps and residual of each problem (N, C), and whether a sample (N,) is singular."""
        worst = residual.amax(1)
        entries = (worst <= self.goal(residual.dtype), iterations.amax(1), worst, singular)
        return BackwardCertificate(*(entry.view(shape) for entry in entries))

    def settle(self, found: BackwardCertificate, v: Tensor) -> Tensor:
        """Do what the policy asks for where the backward pass failed; return v, with NaN in failed samples for "nan"."""
        if self.on_failure is None:
            return v
        failed = (~found.converged | found.singular).view(-1)
        return apply_policy(self.on_failure, failed, v, found.residual.view(-1), f"backward pass of {self}")


def refuse_second_derivatives() -> None:
    """Require that nobody differentiates the backward pass that is running.

    v depends on the parameters too: a graph without it would give a second derivative that is silently wrong.
    """
    if torch.is_grad_enabled():
        raise RuntimeError("coupled operators have first derivatives only, found create_graph=True")


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
        ctx.parts = (adjoint, energy, certificate, shape)
        ctx.save_for_backward(*residuals)
        return z.clone()

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        (q,) = cotangents
        adjoint, energy, certificate, shape = ctx.parts
        residuals = ctx.saved_tensors
        refuse_second_derivatives()
        if energy.has_corner:
            raise ValueError(
                "a coupled problem with penalty 'quantile' has no implicit gradient: use 'huber' and a ridge,"
                " or adjoint Unrolled() with solver PrimalDual()"
            )
        hessian = energy.hessian(residuals)
        v, iterations, residual = adjoint.pull_back(hessian, q)
        singular = (~hessian.reaches_known() & (energy.connections.diagonal > 0)).flatten(1).any(1)
        certificate.backward = adjoint.certify(iterations, residual, singular, shape)
        return (-adjoint.settle(certificate.backward, v), *(None,) * (5 + len(residuals)))


@dataclass(frozen=True, kw_only=True)
class Implicit(LinearAdjoint):
    """The implicit gradient: H v = dL/dz* by conjugate gradients, with a tolerance and a certificate of its own.

    At kinks H holds the selection of `Penalty.curvature`; the result is then an element of a conservative Jacobian if H
    is regular for every selection (Bolte, Le, Pauwels, Silveti-Falls, NeurIPS 2021, theorem 2). Where H is singular the
    certificate says so.

    Parameters
    ----------
    tolerance : float, optional
        Norm of the residual relative to dL/dz*. Default: 1e-10 in float64, 1e-6 in float32.
    max_steps : int
        Most conjugate gradient steps.
    on_failure : {"warn", "raise", "nan"}
        As for solvers; "nan" gives NaN to every gradient that the sample takes part in.
    """

    tolerance: float | None = None
    max_steps: int = 2000
    on_failure: OnFailure = "warn"

    @property
    def method(self) -> tuple[int, int]:
        return 0, self.max_steps


@dataclass(frozen=True, kw_only=True)
class Neumann(LinearAdjoint):
    """A truncated Neumann series, v = sum_{j < terms} (I - D^-1 H)^j D^-1 dL/dz*, D the diagonal of H.

    The series of the fixed-point iteration of `FixedPoint`, whose Jacobian is I - D^-1 H. It converges as that does:
    slowly where the coupling is strong. An approximation by choice: its residual stands in the certificate, and is no
    failure.

    Parameters
    ----------
    terms : int
        Number of terms; 1 is the Jacobian-free gradient.
    tolerance : float, optional
        Residual up to which the certificate says `converged`; as `Implicit`.
    """

    terms: int = 10
    tolerance: float | None = None
    on_failure: None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.terms, int) or self.terms < 1:
            raise ValueError(f"terms must be a positive integer, found {self.terms!r}")
        super().__post_init__()

    @property
    def method(self) -> tuple[int, int]:
        return self.terms, 0


@dataclass(frozen=True, kw_only=True)
class OneStep(LinearAdjoint):
    """The derivative of one more step of a method at the minimiser (Bolte, Pauwels, Vaiter, NeurIPS 2023).

    Newton's step has derivative 0 in its starting point, so that differentiating one of them, with the Hessian held fixed,
    is exact: it solves the system of `Implicit`. A step of relaxation costs no solve; this is the Jacobian-free gradient of
    deep equilibrium models (Fung et al., AAAI 2022), as wrong as relaxation is slow.

    Parameters
    ----------
    step : {"newton", "relaxation"}
        The step that is differentiated.
    tolerance, max_steps, on_failure
        Of Newton's system, as `Implicit`.
    """

    step: Literal["newton", "relaxation"] = "newton"
    tolerance: float | None = None
    max_steps: int = 2000
    on_failure: OnFailure | None = "warn"

    def __post_init__(self) -> None:
        if self.step not in ("newton", "relaxation"):
            raise ValueError(f"step must be 'newton' or 'relaxation', found {self.step!r}")
        if self.step == "relaxation":  # an approximation by choice, as Neumann's
            object.__setattr__(self, "on_failure", None)
        super().__post_init__()

    @property
    def method(self) -> tuple[int, int]:
        return (0, self.max_steps) if self.step == "newton" else (1, 0)


@dataclass(frozen=True)
class Unrolled(Adjoint):
    """Automatic differentiation through every iteration of the solver.

    Memory grows with their number. It gives the gradient of what was computed, so that there is no backward certificate;
    the gradient lags behind the solution. `FixedPoint` and `AcceleratedGradient` are the usual solvers to unroll.
    """

    unrolls: ClassVar[bool] = True

    def attach(self, energy: Energy, at: Evaluation, certificate: Certificate, shape: tuple[int, ...]) -> Tensor:
        return at.z


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
        if not isinstance(self.steps, int) or self.steps < 1:
            raise ValueError(f"steps must be a positive integer, found {self.steps!r}")
        if not isinstance(self.through, Solver):
            raise TypeError(f"through must be a solver such as FixedPoint(), found {type(self.through).__name__}")

    def attach(self, energy: Energy, at: Evaluation, certificate: Certificate, shape: tuple[int, ...]) -> Tensor:
        return self.through.run(energy, at.z.detach(), fixed_steps=self.steps).at.z
