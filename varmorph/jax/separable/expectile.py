"""Expectiles: Newton's method for them, and their implicit gradient as one Newton step with frozen signs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

__all__ = ["frozen_newton_step", "minimise_expectile", "off_the_extremes", "sides_of"]


def sides_of(level: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Give tau and 1 - tau, whose logit is the level."""
    return jax.nn.sigmoid(level), jax.nn.sigmoid(-level)


def frozen_newton_step(
    values: jax.Array, weight: jax.Array, tau: jax.Array, cotau: jax.Array, solution: jax.Array
) -> jax.Array:
    """Repeat the last Newton step at the solution with the signs of the residuals held fixed.

    The step returns the solution again, and its derivative is the implicit one (one-step differentiation: Bolte, Pauwels
    and Vaiter, NeurIPS 2023).
    """
    conductance = weight * jnp.where(stop_gradient(values) >= solution, tau, cotau)
    return (conductance * values).sum(0) / conductance.sum(0)


def minimise_expectile(values: jax.Array, weight: jax.Array, tau: jax.Array, cotau: jax.Array) -> jax.Array:
    """Find the expectile by Newton's method from the weighted mean, on which see `varmorph.torch.separable.expectile`."""
    mean = (weight * values).sum(0) / weight.sum(0)
    upwards = (tau >= cotau)[0]

    def step(state: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        count, solution, _ = state
        proposed = frozen_newton_step(values, weight, tau, cotau, solution)
        moved = jnp.where(upwards, proposed > solution, proposed < solution)
        return count + 1, jnp.where(moved, proposed, solution), moved.any()

    def goes_on(state: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        return state[2] & (state[0] < values.shape[0] - 1)

    _, solution, _ = jax.lax.while_loop(goes_on, step, (jnp.int32(0), mean, jnp.bool_(True)))
    values = jnp.where(weight > 0, values, mean)
    return off_the_extremes(solution, values.min(0), values.max(0), mean, upwards)


def off_the_extremes(
    solution: jax.Array, least: jax.Array, greatest: jax.Array, mean: jax.Array, upwards: jax.Array
) -> jax.Array:
    """Keep minimisers off the least and the greatest value, which rounding alone reaches."""
    unit = jnp.finfo(solution.dtype).eps
    below = greatest - unit * jnp.maximum(jnp.abs(greatest), greatest - mean)
    above = least + unit * jnp.maximum(jnp.abs(least), mean - least)
    solution = jnp.where(upwards & (solution >= greatest) & (greatest > mean), below, solution)
    return jnp.where(~upwards & (solution <= least) & (least < mean), above, solution)
