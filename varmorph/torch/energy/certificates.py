"""What a solve says of itself: whether it converged, sample by sample, and what happens where it did not."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from varmorph.convergence import ConvergenceError, ConvergenceWarning, OnFailure, failure_message, warning_message

__all__ = [
    "ActiveSet",
    "BackwardCertificate",
    "Certificate",
    "ForwardCertificate",
    "apply_policy",
]


@dataclass
class ActiveSet:
    """On which pieces of their penalties the residuals lie at the solution.

    Parameters
    ----------
    margin : (N,)
        Distance of the residuals to the nearest kink of their penalty, relative to the range of the data.
    identified : (N,)
        Iteration after which no residual changed its piece any more.
    """

    margin: Tensor
    identified: Tensor


@dataclass
class ForwardCertificate:
    """The forward solve, sample by sample: shape (N,) for images, () for one graph, (B,) for a batch of graphs.

    Parameters
    ----------
    converged : bool
        Whether the residual is within the solver's tolerance.
    iterations : int
        Steps of the solver, of the slowest channel.
    residual : float
        Greatest gradient of the energy over diagonal and range of the data; with the quantile penalty the duality gap
        over the energy's scale; for an equilibrium the greatest abs(f(z) - z), over that of f(z) where it exceeds 1. NaN
        where the data are not finite.
    linear_steps : int
        Steps of conjugate gradients inside the solver.
    unique : bool
        Whether the minimiser is known to be the only one: the Hessian is regular there. Of an equilibrium nothing is known.
    active : ActiveSet
        Distance to a kink, and when the pieces were identified; NaN and 0 for an equilibrium, whose map is not looked into.
    """

    converged: Tensor
    iterations: Tensor
    residual: Tensor
    linear_steps: Tensor
    unique: Tensor
    active: ActiveSet


@dataclass
class BackwardCertificate:
    """The adjoint solve, sample by sample; see `ForwardCertificate`.

    Parameters
    ----------
    converged : bool
        Whether the residual is within the adjoint's tolerance.
    iterations : int
        Steps of conjugate gradients (of GMRES for an equilibrium), or terms of the series.
    residual : float
        Norm of H v - dL/dz over that of dL/dz; I - J^T stands for H where an equilibrium is differentiated.
    singular : bool
        Whether that matrix is singular: the gradient is then no implicit gradient.
    """

    converged: Tensor
    iterations: Tensor
    residual: Tensor
    singular: Tensor


@dataclass
class Certificate:
    """Both solves of one call; `backward` is None until the backward pass has run, and stays None for `Unrolled`."""

    forward: ForwardCertificate
    backward: BackwardCertificate | None = None


def apply_policy(policy: OnFailure, failed: Tensor, value: Tensor, residual: Tensor, what: str) -> Tensor:
    """Do what was asked for where a solve failed; return the value, with NaN in failed samples for "nan".

    failed, residual : (N,).  value : (N, ...).  what : the solve, with its tolerance and limit.
    """
    if not bool(failed.any()):
        return value
    if policy == "nan":
        return value.masked_fill(failed.view(-1, *(1,) * (value.ndim - 1)), torch.nan)
    if policy == "raise":
        samples = failed.nonzero().flatten().tolist()
        raise ConvergenceError(failure_message(what, samples, residual[failed].tolist()))
    warnings.warn(warning_message(what), ConvergenceWarning, stacklevel=2)
    return value
