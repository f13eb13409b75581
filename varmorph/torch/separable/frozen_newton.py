"""The implicit gradient of a separable operator as one Newton step with frozen signs."""

from __future__ import annotations

from torch import Tensor

__all__ = ["frozen_newton_step"]


def frozen_newton_step(values: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor, solution: Tensor) -> Tensor:
    """Repeat the last Newton step at the solution, with the signs of the residuals held fixed.

    The step returns the solution again. Newton's map has zero derivative at its fixed point, so differentiating this
    one step gives the exact implicit gradient with respect to values, weight and level (one-step differentiation:
    Bolte, Pauwels and Vaiter, NeurIPS 2023). The signs are frozen, not the curvatures: those depend on tau.

    Parameters
    ----------
    values : (T, N, C, H, W)
        Value at the start of each edge plus its offset.
    weight : broadcastable to values
        Nonnegative edge weights, 0 where an edge is absent.
    tau, cotau : broadcastable to values
        The level and one minus the level.
    solution : (N, C, H, W)
        Minimiser of the energy; carries no gradient.
    """
    above = values.detach() >= solution.detach()
    conductance = weight * tau.where(above, cotau)
    return (conductance * values).sum(0) / conductance.sum(0)
