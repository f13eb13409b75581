"""The scalar problem of a pixel whose neighbours all are known: minimise sum_k w_k rho_tau(v_k - z).

An expectile is found by trying all splits of the sorted values, a quantile and a huber minimiser by the signs of the
derivative at its corners: nothing is iterated.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from varmorph.reference.edges import Array


class Problem(NamedTuple):
    """One scalar problem a pixel: minimise sum_k w_k rho_tau(v_k - z) over the last axis."""

    values: Array  # (N, C, pixels, edges of a pixel)
    weight: Array  # (C, pixels, edges of a pixel), 0 where there is no edge
    tau: Array  # (C, 1, 1)
    cotau: Array  # (C, 1, 1), one minus tau


def _expectile(problem: Problem) -> Array:
    """Give the greatest (tau >= 1/2) or least value among the weighted means over all splits of the sorted values."""
    values, weight, tau, cotau = problem
    weight = np.broadcast_to(weight, values.shape)
    order = np.argsort(values, -1)
    values, weight = np.take_along_axis(values, order, -1), np.take_along_axis(weight, order, -1)

    def below(terms: Array) -> Array:
        return np.concatenate([np.zeros_like(terms[..., :1]), terms.cumsum(-1)], -1)

    def above(terms: Array) -> Array:
        return below(terms[..., ::-1])[..., ::-1]

    moment, mass = weight * values, weight
    with np.errstate(invalid="ignore"):
        means = (cotau * below(moment) + tau * above(moment)) / (cotau * below(mass) + tau * above(mass))
    return np.where((tau >= cotau)[..., 0], means.max(-1), means.min(-1))


TIE = 1e-12  # part of min(tau, 1 - tau) times the total weight that still counts as zero


def _middle(low: Array, high: Array) -> Array:
    """Middle of the minimisers; NaN where there is no edge."""
    return np.where(np.isfinite(low) & np.isfinite(high), low + (high - low) / 2, np.nan)


def _slack(problem: Problem) -> Array:
    weight = np.broadcast_to(problem.weight, problem.values.shape)
    return TIE * np.minimum(problem.tau, problem.cotau)[..., 0] * weight.sum(-1)


def _quantile(problem: Problem) -> Array:
    """Give the middle of the values at which the one-sided derivatives of the energy do not agree in sign."""
    values, weight, tau, cotau = problem
    weight = np.broadcast_to(weight, values.shape)
    tau, cotau, slack = tau[..., 0], cotau[..., 0], _slack(problem)
    low, high = np.full(values.shape[:-1], np.inf), np.full(values.shape[:-1], -np.inf)
    for k in range(values.shape[-1]):
        value, candidate = values[..., k], weight[..., k] > 0
        above, below = ((weight * side).sum(-1) for side in (values > value[..., None], values < value[..., None]))
        equal = (weight * (values == value[..., None])).sum(-1)
        rises = cotau * (below + equal) - tau * above >= -slack
        falls = cotau * below - tau * (above + equal) <= slack
        low = np.where(candidate & rises, np.minimum(low, value), low)
        high = np.where(candidate & falls, np.maximum(high, value), high)
    return _middle(low, high)


def _huber_slope(problem: Problem, z: Array, mu: Array) -> Array:
    residual = problem.values - z[..., None]
    factor = problem.weight * np.where(residual >= 0, problem.tau, problem.cotau)
    return -(factor * np.clip(residual / mu, -1, 1)).sum(-1)


def _huber(problem: Problem, mu: Array) -> Array:
    """Give the middle of the zeros of the derivative: it is linear between the points v_k - mu, v_k and v_k + mu."""
    weight = np.broadcast_to(problem.weight, problem.values.shape)
    slack = _slack(problem)
    corners = np.concatenate([problem.values - mu, problem.values, problem.values + mu], -1)
    real = np.concatenate([weight > 0] * 3, -1)
    slopes = np.stack([_huber_slope(problem, corners[..., k], mu) for k in range(corners.shape[-1])], -1)

    def zero(before: Array, behind: Array) -> Array:
        """Interpolate between the last corner before and the first one behind."""
        left = np.where(real & before, corners, -np.inf).max(-1)
        right = np.where(real & behind, corners, np.inf).min(-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            at_left, at_right = (_huber_slope(problem, side, mu) for side in (left, right))
            between = left - at_left * (right - left) / (at_right - at_left)
        exact = np.where(np.abs(at_left) <= slack, left, np.where(np.abs(at_right) <= slack, right, between))
        return np.where(np.isfinite(left) & np.isfinite(right), exact, np.nan)

    low = zero(slopes < -slack[..., None], slopes >= -slack[..., None])
    high = zero(slopes <= slack[..., None], slopes > slack[..., None])
    return _middle(low, high)


def minimise(problem: Problem, penalty: str, smoothing: ArrayLike | None) -> Array:
    """Solve every scalar problem; where the minimisers fill an interval, give its middle."""
    if penalty == "expectile":
        return _expectile(problem)
    if penalty == "quantile":
        return _quantile(problem)
    if penalty == "huber" and smoothing is not None:
        return _huber(problem, smoothing_of(problem, smoothing))
    raise ValueError(f"penalty must be 'expectile', 'quantile' or 'huber' with a smoothing, found {penalty!r}")


class Derivatives(NamedTuple):
    """Derivatives of each minimiser: by the value and the weight of an edge, and by the numbers of its channel."""

    value: Array  # (N, C, pixels, edges of a pixel)
    weight: Array  # the same
    tau: Array  # (N, C, pixels)
    smoothing: Array  # (N, C, pixels)


def derivatives(problem: Problem, present: Array, y: Array, penalty: str, smoothing: ArrayLike | None) -> Derivatives:
    """Differentiate by the formulas of the implicit function theorem for one unknown a pixel.

    With c_k = |r_k| <= mu and S = sum_k w_k a_k c_k: dy/dv_k = w_k a_k c_k / S, dy/dw_k = a_k clip(r_k, -mu, mu) / S,
    dy/dtau = sum_k w_k |clip(r_k)| / S, dy/dmu = sum_k w_k a_k (1 - c_k) sign(r_k) / S. The expectile has mu = inf; where
    S = 0, and for quantiles, y is the middle of two of the values.

    present : (C, pixels, edges of a pixel), which edges there are, at weight 0 too.
    """
    values, weights, tau, cotau = problem
    residual = values - y[..., None]
    limits: dict[str, ArrayLike | None] = {"expectile": np.inf, "quantile": 0.0, "huber": smoothing}
    limit = limits[penalty]
    assert limit is not None
    mu = smoothing_of(problem, limit)
    near = 1e-12 * (np.abs(values) + mu) if penalty == "huber" else 0.0  # ties of rounded values
    a = np.where(residual >= -near, tau, cotau)
    flat, endpoints = _flat_piece(problem, residual, mu)
    curved = (np.abs(residual) <= mu + near) & ~flat
    total = np.where(flat, 1.0, (weights * a * curved).sum(-1, keepdims=True))
    limited = np.where(flat, 0.0, np.clip(residual, -mu, mu))
    return Derivatives(
        np.where(flat, endpoints, weights * a * curved / total),
        present * a * limited / total,
        (weights * np.abs(limited) / total).sum(-1),
        (weights * a * ~curved * ~flat * np.sign(residual) / total).sum(-1),
    )


def _flat_piece(problem: Problem, residual: Array, mu: Array) -> tuple[Array, Array]:
    """Say where no edge is curved, and which share each neighbour has in the middle: 1/2 at each end."""
    weight = np.broadcast_to(problem.weight, residual.shape) > 0
    near = 1e-12 * (np.abs(problem.values) + np.where(np.isinf(mu), 0.0, mu))
    flat = ~(weight & (np.abs(residual) < mu - near)).any(-1, keepdims=True)
    endpoints = np.zeros_like(residual)
    for side in (1, -1):
        distance = np.where(weight & (side * residual >= mu - near), side * residual, np.inf)
        nearest = distance <= distance.min(-1, keepdims=True) + near
        first = nearest & (nearest.cumsum(-1) == 1)
        endpoints += first / 2
    return flat, endpoints


def smoothing_of(problem: Problem, smoothing: ArrayLike) -> Array:
    """Give the smoothing of each channel."""
    return np.broadcast_to(np.asarray(smoothing, dtype=np.float64), problem.tau.shape[0])[:, None, None]
