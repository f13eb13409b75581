"""Expectiles: Newton's method for them, and their implicit gradient as one Newton step with frozen signs.

With rho_tau(r) = a_tau(r) r^2 / 2, a_tau(r) = tau where r >= 0 and 1 - tau elsewhere, the minimiser of
sum_k w_k rho_tau(v_k - z) is the weighted expectile of v.
"""

from __future__ import annotations

import torch
from torch import Tensor

from varmorph.torch.backend.choice import numbers_are_known

__all__ = ["frozen_newton_step", "minimise_expectile", "sides_of"]


def sides_of(level: Tensor) -> tuple[Tensor, Tensor]:
    """Give tau and 1 - tau, whose logit is the level."""
    return torch.sigmoid(level), torch.sigmoid(-level)


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


@torch.no_grad()
def minimise_expectile(values: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor) -> tuple[Tensor, int]:
    """Find the expectile by Newton's method; return it and the number of updates that moved some pixel.

    Newton's map z <- sum(w a v) / sum(w a), a from the signs of v - z, moves monotonically from the weighted mean:
    upwards where tau > 1/2, downwards elsewhere. It ends after at most T - 1 updates, T the number of edges. Movement
    in the other direction is rounding, and is not followed. The greatest (least) value itself is reached by rounding
    only, at very high (low) levels; the result is kept off it, so that the signs of the residuals remain those of the
    minimiser.
    """
    total = (weight * torch.ones_like(values)).sum(0)
    mean = (weight * values).sum(0) / total
    upwards = (tau >= cotau).squeeze(0)
    solution, updates = _climb(values, weight, tau, cotau, mean, upwards)
    return _off_the_extremes(solution, values.where(weight > 0, mean), mean, upwards), updates


def _off_the_extremes(solution: Tensor, values: Tensor, mean: Tensor, upwards: Tensor) -> Tensor:
    unit = torch.finfo(values.dtype).eps
    greatest, least = values.amax(0), values.amin(0)
    below = greatest - unit * torch.maximum(greatest.abs(), greatest - mean)
    above = least + unit * torch.maximum(least.abs(), mean - least)
    solution = below.where(upwards & (solution >= greatest) & (greatest > mean), solution)
    return above.where(~upwards & (solution <= least) & (least < mean), solution)


def _climb(
    values: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor, solution: Tensor, upwards: Tensor
) -> tuple[Tensor, int]:
    most, known = values.shape[0] - 1, numbers_are_known(values)
    for update in range(most):
        conductance = weight * tau.where(values >= solution, cotau)
        step = (conductance * values).sum(0) / conductance.sum(0)
        moved = (upwards & (step > solution)) | (~upwards & (step < solution))
        if known and not moved.any():
            return solution, update
        solution = step.where(moved, solution)
    return solution, most
