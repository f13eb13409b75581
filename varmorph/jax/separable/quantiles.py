"""The two separable penalties that are no least squares: weighted quantiles and Huber's smoothing of them.

Values and weights of the edges are (T, N, C, height, width), tau, 1 - tau and mu broadcastable to them. A piece of the energy
is given by the minimiser on it and two slots (2, N, C, height, width): the neighbours whose middle it is, -1 where it is none.
See `varmorph.torch.separable.quantiles` for the method.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from varmorph.ties import SAFE_STEPS, tie_tolerance

__all__ = ["between", "huber", "huber_on_piece", "quantile"]


def between(values: jax.Array, endpoints: jax.Array) -> jax.Array:
    """Take the middle of two neighbours, NaN where there are none."""
    first, second = (jnp.take_along_axis(values, jnp.maximum(end, 0)[None], 0)[0] for end in endpoints)
    return jnp.where(endpoints[0] < 0, jnp.nan, first / 2 + second / 2)


def _slack(weight: jax.Array, tau: jax.Array, cotau: jax.Array) -> jax.Array:
    """How far from 0 the derivative of the energy may lie and still count as 0: the same for every tie."""
    return tie_tolerance(weight.dtype == jnp.float64) * jnp.minimum(tau, cotau)[0] * weight.sum(0)


def quantile(values: jax.Array, weight: jax.Array, tau: jax.Array, cotau: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Find the weighted quantile, the middle between the least and the greatest minimiser, and these two neighbours."""
    order = values.argsort(0)
    ordered, mass = jnp.take_along_axis(values, order, 0), jnp.take_along_axis(weight, order, 0)
    # exclusive sums, so that nothing below the least value and above the greatest is exactly 0
    none = jnp.zeros_like(mass[:1])
    below = jnp.concatenate((none, mass[:-1].cumsum(0)))
    above = jnp.concatenate((mass[1:][::-1].cumsum(0)[::-1], none))
    slack = _slack(weight, tau, cotau)
    rises = (cotau * (below + mass) - tau * above >= -slack) & (mass > 0)
    falls = (cotau * below - tau * (above + mass) <= slack) & (mass > 0)
    places = rises.argmax(0), values.shape[0] - 1 - falls[::-1].argmax(0)
    chosen = (jnp.take_along_axis(ordered, place[None], 0) for place in places)
    endpoints = jnp.stack([((values == value) & (weight > 0)).argmax(0) for value in chosen]).astype(jnp.int32)
    endpoints = jnp.where((weight.sum(0) <= 0) | jnp.isnan(values).any(0), -1, endpoints)
    return between(values, endpoints), endpoints


def _on_piece(
    values: jax.Array, weight: jax.Array, tau: jax.Array, cotau: jax.Array, mu: jax.Array, z: jax.Array, near: jax.Array
) -> jax.Array:
    """Solve for z where the edges that are curved, above and below at z stay so; infinite where none is curved.

    A residual below 0, or beyond mu, by less than `near` is a tie: it counts as above, and as curved.
    """
    residual = stop_gradient(values) - z
    factor = weight * jnp.where(residual >= -near, tau, cotau)
    curved = jnp.abs(residual) <= stop_gradient(mu) + near
    pulled = (factor * jnp.where(curved, values, mu * jnp.sign(residual))).sum(0)
    total = (factor * curved).sum(0)
    return jnp.where(total > 0, pulled / jnp.where(total > 0, total, 1.0), jnp.inf)


def _slope(
    values: jax.Array, weight: jax.Array, tau: jax.Array, cotau: jax.Array, mu: jax.Array, z: jax.Array
) -> jax.Array:
    """Derivative of the energy at z."""
    residual = values - z
    return -(weight * jnp.where(residual >= 0, tau, cotau) * jnp.clip(residual / mu, -1, 1)).sum(0)


def huber(
    values: jax.Array, weight: jax.Array, tau: jax.Array, cotau: jax.Array, mu: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Find the minimiser for Huber's penalty; the middle of the flat piece, with the neighbours at its ends, where it is one."""
    problem = values, weight, tau, cotau, mu
    absent = weight <= 0
    z = _safeguarded_newton(*problem)
    flat, endpoints = _flat_piece(*problem, z)
    undefined = absent.all(0) | ~jnp.isfinite(values).all(0)
    z = jnp.where(flat, between(values, endpoints), z)
    return jnp.where(undefined, jnp.nan, z), jnp.where(flat & ~undefined, endpoints, -1)


def huber_on_piece(
    values: jax.Array,
    weight: jax.Array,
    tau: jax.Array,
    cotau: jax.Array,
    mu: jax.Array,
    z: jax.Array,
    endpoints: jax.Array,
) -> jax.Array:
    """Write the minimiser as a formula on its piece."""
    undefined, flat = jnp.isnan(z), endpoints[0] >= 0
    other = flat | undefined
    fixed = stop_gradient((values, weight, tau, cotau, mu))
    point, near = _choose_piece(*fixed, z)
    # The formula divides by 0 there: other numbers take their place, since 0 * inf in the backward pass would be NaN.
    guarded = jnp.where(other, 0.0, values), jnp.where(other, 1.0, weight)
    found = _on_piece(*guarded, tau, cotau, mu, jnp.where(other, 0.0, point), near)
    middle = between(jnp.where(undefined, 0.0, values), jnp.where(flat, endpoints, 0))
    return jnp.where(undefined, jnp.nan, jnp.where(flat, middle, found))


def _safeguarded_newton(
    values: jax.Array, weight: jax.Array, tau: jax.Array, cotau: jax.Array, mu: jax.Array
) -> jax.Array:
    """Newton's method inside a bracket: the derivative of the energy rises, but in pieces of any slope."""
    problem, absent = (values, weight, tau, cotau, mu), weight <= 0
    slack, unit = _slack(weight, tau, cotau), 4 * jnp.finfo(values.dtype).eps
    low, high = jnp.where(absent, jnp.inf, values).min(0), jnp.where(absent, -jnp.inf, values).max(0)

    def step(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        count, low, high, z, _ = state
        slope = _slope(*problem, z)
        low, high = jnp.where(slope < 0, z, low), jnp.where(slope > 0, z, high)
        newton = _on_piece(*problem, z, jnp.zeros_like(z))  # not finite where no edge is curved
        rounding = unit * (jnp.abs(z) + mu[0])
        safe = (newton >= low - rounding) & (newton <= high + rounding)
        # a bracket that Newton's steps close from one side only is halved as well
        safe &= (count % 3 != 2) | (jnp.abs(slope) <= slack)
        proposed = jnp.where(safe, newton, low + (high - low) / 2)
        proposed = jnp.where(~jnp.isfinite(newton) & (jnp.abs(slope) <= slack), z, proposed)
        return count + 1, low, high, proposed, (jnp.abs(proposed - z) > rounding).any()

    def goes_on(state: tuple[jax.Array, ...]) -> jax.Array:
        return state[4] & (state[0] < SAFE_STEPS)

    start: tuple[jax.Array, ...] = (jnp.int32(0), low, high, low + (high - low) / 2, jnp.bool_(True))
    return jax.lax.while_loop(goes_on, step, start)[3]


def _rounding(z: jax.Array, mu: jax.Array) -> jax.Array:
    return 64 * jnp.finfo(z.dtype).eps * (jnp.abs(z) + mu[0])


def _choose_piece(
    values: jax.Array, weight: jax.Array, tau: jax.Array, cotau: jax.Array, mu: jax.Array, z: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the point and the tolerance at which the formula of a piece gives z again.

    Ties count as above and as curved, unless the formula then leads elsewhere: z may equal a neighbour's value by rounding
    alone, at very high and low levels.
    """
    near = _rounding(z, mu)
    none = jnp.zeros_like(near)
    points, tolerances = jnp.stack((z, z, z + near, z - near)), jnp.stack((near, none, none, none))
    found = jnp.stack([_on_piece(values, weight, tau, cotau, mu, *at) for at in zip(points, tolerances, strict=True)])
    errors = jnp.nan_to_num(jnp.abs(found - z), nan=jnp.inf)
    errors = jnp.where(errors > 4 * near, errors, 0.0)  # the first that is good enough
    best = errors.argmin(0)[None]
    return jnp.take_along_axis(points, best, 0)[0], jnp.take_along_axis(tolerances, best, 0)[0]


def _flat_piece(
    values: jax.Array, weight: jax.Array, tau: jax.Array, cotau: jax.Array, mu: jax.Array, z: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Say where the minimisers fill an interval, and which neighbours lie at its two ends."""
    absent, near = weight <= 0, _rounding(z, mu)
    distance = jnp.where(absent, jnp.inf, values - z)
    curved = (jnp.abs(distance) < mu - near).any(0)
    behind = jnp.where(absent | (distance > 0), -jnp.inf, values + mu)
    ahead = jnp.where(absent | (distance < 0), jnp.inf, values - mu)
    endpoints = jnp.stack((behind.argmax(0), ahead.argmin(0))).astype(jnp.int32)
    between_ends = jnp.isfinite(behind).any(0) & jnp.isfinite(ahead).any(0)
    # z itself may lie at an end by rounding, where the derivative says nothing about the piece
    middle = (behind.max(0) + ahead.min(0)) / 2
    slope = _slope(values, weight, tau, cotau, mu, jnp.where(between_ends, middle, z))
    return ~curved & (jnp.abs(slope) <= _slack(weight, tau, cotau)) & between_ends, endpoints
