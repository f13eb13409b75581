"""Separable variational operators: each pixel minimises its own energy over the edges of its window.

Plain tensor code. With the expectile penalty, rho_tau(r) = a_tau(r) r^2 / 2 with a_tau(r) = tau where r >= 0 and 1 - tau
elsewhere, the minimiser of sum_k w_k rho_tau(v_k - z) is the weighted expectile of v = x + b. For the other two penalties
see `varmorph.torch.separable.quantiles`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from varmorph.torch.separable.frozen_newton import frozen_newton_step
from varmorph.torch.separable.neighbours import edge_values, inside_image, per_edge
from varmorph.torch.separable.quantiles import minimise_huber, minimise_quantile
from varmorph.windows import Window

__all__ = ["minimise_each", "minimise_expectile", "solve", "window_pulls"]


def window_pulls(
    x: Tensor, bias: Tensor, weight: Tensor, window: Window, outside: float | None
) -> tuple[Tensor, Tensor]:
    """List what pulls each pixel: values x + b (T, N, C, H, W), and weights broadcastable to them, 0 for absent edges.

    x : (N, C, H, W).  bias, weight : (C, K).
    outside : value beyond the image, or None where edges from beyond the image are absent.
    """
    offset = per_edge(bias, window)
    absent = torch.isneginf(offset)
    values = edge_values(x, window, 0.0 if outside is None else outside)
    values = (values + offset.masked_fill(absent, 0.0)).masked_fill(absent, 0.0)
    weights = per_edge(weight, window).masked_fill(absent, 0.0)
    if outside is None and window.leaves_image:
        weights = weights * inside_image(window, x.device)
    return values, weights


def solve(
    x: Tensor,
    bias: Tensor,
    weight: Tensor,
    level: Tensor,
    window: Window,
    outside: float | None,
    penalty: str = "expectile",
    smoothing: Tensor | None = None,
) -> Tensor:
    """Minimise the separable energy of each pixel; arguments as `window_pulls`, level and smoothing (C,)."""
    values, weights = window_pulls(x, bias, weight, window, outside)
    return minimise_each(values, weights, level, penalty, smoothing)


def minimise_each(
    values: Tensor, weights: Tensor, level: Tensor, penalty: str = "expectile", smoothing: Tensor | None = None
) -> Tensor:
    """Minimise over each unknown alone, with the exact implicit gradient.

    values : (T, N, C, ...).  weights : broadcastable to values.  level, smoothing : (C,), the logit of tau, and mu.
    """
    behind = (None, None, slice(None), *(None,) * (values.ndim - 3))
    tau, cotau = torch.sigmoid(level)[behind], torch.sigmoid(-level)[behind]
    if penalty == "quantile":
        return minimise_quantile(values, weights, tau, cotau)
    if smoothing is not None:
        return minimise_huber(values, weights, tau, cotau, smoothing[behind])
    solution, _ = minimise_expectile(values, weights, tau, cotau)
    return frozen_newton_step(values, weights, tau, cotau, solution)


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
    most = values.shape[0] - 1
    for update in range(most):
        conductance = weight * tau.where(values >= solution, cotau)
        step = (conductance * values).sum(0) / conductance.sum(0)
        moved = torch.where(upwards, step > solution, step < solution)
        if not moved.any():
            return solution, update
        solution = step.where(moved, solution)
    return solution, most
