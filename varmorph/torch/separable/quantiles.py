"""Separable minimisers of the two penalties that are no least squares: weighted quantiles and Huber's smoothing of them.

Each pixel minimises sum_k w_k a_tau(r_k) h(r_k), r_k = v_k - z, a_tau(r) = tau where r >= 0 and 1 - tau elsewhere, with
h(r) = |r| (quantile), or r^2 / (2 mu) where |r| <= mu and |r| - mu / 2 elsewhere (huber). The minimisers may fill an
interval: its midpoint is taken. Both functions pick the piece of the energy on which the solution lies without recording
gradients, then write the solution on that piece as a formula, whose derivative is the implicit gradient.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from varmorph.ties import SAFE_STEPS, tie_tolerance
from varmorph.torch.backend.choice import numbers_are_known, refuse_to_be_written_down

__all__ = ["Huber", "minimise_huber", "minimise_quantile"]


def minimise_quantile(values: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor) -> Tensor:
    """Return the weighted quantile: the midpoint between the least and the greatest minimiser.

    The gradient goes to the selected neighbour (the first of equal ones), or by halves to the two ends; weight and level
    get none, since the quantile is piecewise constant in them.

    Parameters
    ----------
    values, weight, tau, cotau
        As in `varmorph.torch.separable.expectile.frozen_newton_step`.

    Returns
    -------
    (N, C, H, W)
        NaN where no edge has positive weight, or a value is NaN.
    """
    with torch.no_grad():
        weights = weight.expand_as(values)
        ordered, order = values.detach().sort(0)
        mass = weights.gather(0, order)
        total = mass.sum(0)
        # exclusive sums, so that nothing below the least value and above the greatest is exactly 0
        none = torch.zeros_like(mass[:1])
        below = torch.cat((none, mass[:-1].cumsum(0)))
        above = torch.cat((mass[1:].flip(0).cumsum(0).flip(0), none))
        slack = _slack(values, tau, cotau, total)
        rises = (cotau * (below + mass) - tau * above >= -slack) & (mass > 0)
        falls = (cotau * below - tau * (above + mass) <= slack) & (mass > 0)
        least = rises.to(torch.uint8).argmax(0, keepdim=True)
        greatest = values.shape[0] - 1 - falls.flip(0).to(torch.uint8).argmax(0, keepdim=True)
        present = weights > 0
        endpoints = [_first(values, ordered.gather(0, place), present) for place in (least, greatest)]
        undefined = (total <= 0) | values.isnan().any(0)
    return _middle(values, *endpoints).masked_fill(undefined, torch.nan)


def _middle(values: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Middle of two neighbours, given by their indices."""
    return values.gather(0, first).squeeze(0) / 2 + values.gather(0, second).squeeze(0) / 2


def _first(values: Tensor, chosen: Tensor, present: Tensor) -> Tensor:
    """Index of the first neighbour that has the chosen value."""
    return ((values == chosen) & present).to(torch.uint8).argmax(0, keepdim=True)


def _slack(values: Tensor, tau: Tensor, cotau: Tensor, total: Tensor) -> Tensor:
    """How far from 0 the derivative of the energy may lie and still count as 0: the same for every tie.

    Where the pulls of the edges above and below cancel, each is at most min(tau, 1 - tau) times the total weight.
    """
    return tie_tolerance(values.dtype == torch.float64) * torch.minimum(tau, cotau).squeeze(0) * total


class Huber(NamedTuple):
    """The smoothed problem: edge values and weights as in `minimise_quantile`, and mu > 0."""

    values: Tensor
    weight: Tensor
    tau: Tensor
    cotau: Tensor
    smoothing: Tensor

    def slope(self, z: Tensor) -> Tensor:
        """Derivative of the energy at z."""
        residual, factor = self._pulls(z)
        return -(factor * (residual / self.smoothing).clamp(-1, 1)).sum(0)

    def on_its_piece(self, z: Tensor, near: Tensor | float = 0.0) -> Tensor:
        """Solve for z where the edges that are curved, above and below at z stay so; infinite where none is curved.

        A residual below 0, or beyond mu, by less than `near` is a tie: it counts as above, and as curved.
        """
        residual, factor = self._pulls(z, near)
        curved = residual.abs() <= self.smoothing.detach() + near
        pulled = (factor * torch.where(curved, self.values, self.smoothing * residual.sign())).sum(0)
        total = (factor * curved).sum(0)
        return torch.where(total > 0, pulled / torch.where(total > 0, total, 1.0), torch.inf)

    def _pulls(self, z: Tensor, near: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
        """Residuals, without gradient, and the weight times tau above or 1 - tau below."""
        residual = (self.values - z).detach()
        return residual, self.weight * self.tau.where(residual >= -near, self.cotau)

    def slack(self) -> Tensor:
        """How far from 0 its derivative may lie and still count as 0."""
        return _slack(self.values, self.tau, self.cotau, self.weight.expand_as(self.values).sum(0))


def minimise_huber(values: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor, smoothing: Tensor) -> Tensor:
    """Return the minimiser for Huber's penalty, the midpoint of the flat piece where there is one.

    On a flat piece no edge is curved: the gradient goes by halves to the first neighbour at each of its ends, and weight,
    level and smoothing get none. Elsewhere the gradient is the implicit one, in all of them.

    Parameters
    ----------
    values, weight, tau, cotau
        As in `minimise_quantile`.
    smoothing : broadcastable to values
        mu > 0.

    Returns
    -------
    (N, C, H, W)
        NaN where no edge has positive weight, or a value is not finite.
    """
    refuse_to_be_written_down("penalty 'huber'")
    problem = Huber(values, weight, tau, cotau, smoothing)
    fixed = Huber(*(part.detach() for part in problem))
    with torch.no_grad():
        absent = fixed.weight.expand_as(values) <= 0
        z = _safeguarded_newton(fixed, absent)
        flat, endpoints = _flat_piece(fixed, absent, z)
        z, near = _choose_piece(fixed, z)
        undefined = absent.all(0) | ~fixed.values.isfinite().all(0)
        other = flat | undefined
    # The formula divides by 0 there: other numbers take their place, since 0 * inf in the backward pass would be NaN.
    guarded = problem._replace(weight=torch.where(other, 1.0, weight), values=values.masked_fill(other, 0.0))
    middle = _middle(values, *endpoints)
    solution = torch.where(other, middle, guarded.on_its_piece(z.masked_fill(other, 0.0), near))
    return solution.masked_fill(undefined, torch.nan)


def _safeguarded_newton(problem: Huber, absent: Tensor) -> Tensor:
    """Newton's method inside a bracket: the derivative of the energy rises, but in pieces of any slope."""
    values, smoothing = problem.values, problem.smoothing
    low = values.masked_fill(absent, torch.inf).amin(0)
    high = values.masked_fill(absent, -torch.inf).amax(0)
    slack = problem.slack()
    unit = 4 * torch.finfo(values.dtype).eps
    z = low + (high - low) / 2
    known = numbers_are_known(values)
    for step in range(SAFE_STEPS):
        slope = problem.slope(z)
        low, high = torch.where(slope < 0, z, low), torch.where(slope > 0, z, high)
        newton = problem.on_its_piece(z)  # not finite where no edge is curved
        rounding = unit * (z.abs() + smoothing.squeeze(0))
        safe = (newton >= low - rounding) & (newton <= high + rounding)
        if step % 3 == 2:  # a bracket that Newton's steps close from one side only is halved as well
            safe &= slope.abs() <= slack
        proposed = torch.where(safe, newton, low + (high - low) / 2)
        proposed = torch.where(~newton.isfinite() & (slope.abs() <= slack), z, proposed)
        moved = (proposed - z).abs() > rounding
        z = proposed
        if known and not moved.any():
            break
    return z


def _choose_piece(problem: Huber, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the point and the tolerance at which the formula of a piece gives z again.

    Ties count as above and as curved, unless the formula then leads elsewhere: z may equal a neighbour's value by
    rounding alone, at very high and low levels.
    """
    near = _rounding(problem, z)
    none = torch.zeros_like(near)
    points = torch.stack((z, z, z + near, z - near))
    tolerances = torch.stack((near, none, none, none))
    found = torch.stack([problem.on_its_piece(*pair) for pair in zip(points, tolerances, strict=True)])
    errors = (found - z).abs().nan_to_num(nan=torch.inf)
    errors = errors.where(errors > 4 * near, 0.0)  # the first that is good enough
    best = errors.argmin(0, keepdim=True)
    return points.gather(0, best).squeeze(0), tolerances.gather(0, best).squeeze(0)


def _rounding(problem: Huber, z: Tensor) -> Tensor:
    return 64 * torch.finfo(z.dtype).eps * (z.abs() + problem.smoothing.squeeze(0))


def _flat_piece(problem: Huber, absent: Tensor, z: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Say where the minimisers fill an interval, and which neighbours lie at its two ends."""
    values, mu = problem.values, problem.smoothing
    near = _rounding(problem, z)
    distance = (values - z).masked_fill(absent, torch.inf)
    curved = (distance.abs() < mu - near).any(0)
    behind = (values + mu).masked_fill(absent | (distance > 0), -torch.inf)
    ahead = (values - mu).masked_fill(absent | (distance < 0), torch.inf)
    endpoints = behind.argmax(0, keepdim=True), ahead.argmin(0, keepdim=True)
    between = behind.isfinite().any(0) & ahead.isfinite().any(0)
    # z itself may lie at an end by rounding, where the derivative says nothing about the piece
    middle = (behind.amax(0) + ahead.amin(0)) / 2
    level = problem.slope(middle.where(between, z)).abs() <= problem.slack()
    return ~curved & level & between, endpoints
