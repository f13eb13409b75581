"""One sweep of nonlinear Jacobi relaxation: see `varmorph.formulas.relaxation`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from varmorph.formulas.relaxation import newton_step, scalar_slopes
from varmorph.jax.energy.energy import Energy, frozen
from varmorph.jax.energy.namespace import xp

__all__ = ["relaxed"]


def relaxed(energy: Energy, z: jax.Array, steps: int) -> jax.Array:
    """Minimise over each unknown alone, by at most `steps` Newton steps inside a bracket and one more.

    The last step, with its slope's denominator held fixed, carries the gradient: Newton's map has derivative 0 where it
    starts at its fixed point, so that the derivative of this one step is that of the scalar minimiser.
    """
    trial = stop_gradient(_scalar_minimisers(frozen(energy), stop_gradient(z), steps))
    slope, curvature, stiffness = scalar_slopes(energy, z, trial)
    return trial - newton_step(xp, slope, stop_gradient(curvature), stop_gradient(stiffness))


def _scalar_minimisers(energy: Energy, z: jax.Array, steps: int) -> jax.Array:
    unit = 4 * jnp.finfo(z.dtype).eps

    def step(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        count, low, high, trial, _ = state
        slope, curvature, stiffness = scalar_slopes(energy, z, trial)
        low, high = jnp.where(slope < 0, trial, low), jnp.where(slope > 0, trial, high)
        change = newton_step(xp, slope, curvature, stiffness)
        moves = ~(jnp.abs(change) <= unit * jnp.abs(trial)).all()
        moved = trial - change
        inside = jnp.isfinite(low) & jnp.isfinite(high)
        least, greatest = jnp.where(inside, low, 0.0), jnp.where(inside, high, 0.0)
        halved = inside & ((moved < low) | (moved > high))
        moved = jnp.where(halved, least + (greatest - least) / 2, moved)
        return count + 1, low, high, jnp.where(moves, moved, trial), moves

    def goes_on(state: tuple[jax.Array, ...]) -> jax.Array:
        return (state[0] < steps) & state[4]

    infinite = jnp.full_like(z, jnp.inf)
    start: tuple[jax.Array, ...] = (jnp.int32(0), -infinite, infinite, z, jnp.bool_(True))
    return jax.lax.while_loop(goes_on, step, start)[3]
