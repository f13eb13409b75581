"""Differentiating a minimiser: which adjoint, and with what accuracy.

H v = dL/dz*, then dL/dtheta = -v^T d(grad_z E)/dtheta (mathematics.md section 5). The adjoints differ in how they find v;
nothing of the forward solver is stored for them. For an equilibrium z = f(z) the matrix is I - J^T, J the Jacobian of f, and
D = I: GMRES takes the place of conjugate gradients, and "relaxation" is f itself.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from varmorph.convergence import OnFailure, check_settings

__all__ = ["Adjoint", "Implicit", "LinearAdjoint", "Neumann", "OneStep", "Unrolled", "check_steps"]


class Adjoint:
    """A way to differentiate a minimiser."""

    unrolls: ClassVar[bool] = False


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

    def resolved_tolerance(self, double: bool) -> float:
        """Relative residual up to which v counts as converged; double : whether numbers have double precision."""
        if self.tolerance is not None:
            return self.tolerance
        return 1e-10 if double else 1e-6


def check_steps(name: str, steps: object) -> None:
    """Require a positive number of steps."""
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"{name} must be a positive integer, found {steps!r}")


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
        """As `LinearAdjoint`."""
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
        check_steps("terms", self.terms)
        super().__post_init__()

    @property
    def method(self) -> tuple[int, int]:
        """As `LinearAdjoint`."""
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
        """As `LinearAdjoint`."""
        return (0, self.max_steps) if self.step == "newton" else (1, 0)


@dataclass(frozen=True)
class Unrolled(Adjoint):
    """Automatic differentiation through every iteration of the solver.

    Memory grows with their number. It gives the gradient of what was computed, so that there is no backward certificate;
    the gradient lags behind the solution. `FixedPoint` and `AcceleratedGradient` are the usual solvers to unroll.
    """

    unrolls: ClassVar[bool] = True
