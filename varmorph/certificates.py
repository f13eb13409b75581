"""What a solve says of itself, sample by sample: certificates hold arrays of either framework."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["ActiveSet", "BackwardCertificate", "ForwardCertificate"]

Array = Any  # of either framework


class ActiveSet(NamedTuple):
    """On which pieces of their penalties the residuals lie at the solution.

    Parameters
    ----------
    margin : (N,)
        Distance of the residuals to the nearest kink of their penalty, relative to the range of the data.
    identified : (N,)
        Iteration after which no residual changed its piece any more.
    """

    margin: Array
    identified: Array


class ForwardCertificate(NamedTuple):
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
        Distance to a kink, and when the pieces were identified; both 0 for an equilibrium, whose map is not looked into.
    """

    converged: Array
    iterations: Array
    residual: Array
    linear_steps: Array
    unique: Array
    active: ActiveSet


class BackwardCertificate(NamedTuple):
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

    converged: Array
    iterations: Array
    residual: Array
    singular: Array
