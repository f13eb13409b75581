"""One sweep of nonlinear Jacobi relaxation: each unknown becomes the minimiser between its neighbours as they stand.

For one unknown z_i with all others fixed the energy is a scalar convex function: an edge that ends at i pulls it towards
z_s + b, one that starts there towards z_t - b. All unknowns are treated at once.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from varmorph.jax.energy.energy import Energy, frozen

__all__ = ["relaxed"]


def _scalar_slopes(energy: Energy, z: jax.Array, trial: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Derivative, second derivative and reweighted stiffness of each scalar problem at its trial value."""
    slope, curvature, stiffness = jnp.zeros_like(z), jnp.zeros_like(z), jnp.zeros_like(z)
    if energy.ridge is not None:
        slope, weight = energy.ridge.gradient(trial), energy.ridge.weight
        curvature, stiffness = curvature + weight, stiffness + weight
    for edges in energy.edges:
        endpoints, rho, w = edges.incidence, edges.penalty, edges.weight
        views = [(edges.offset - endpoints.at_target(trial), endpoints.add_at_target, -1)]
        if not endpoints.grounded:
            views = [
                (edges.offset + endpoints.at_source(z) - endpoints.at_target(trial), endpoints.add_at_target, -1),
                (edges.offset + endpoints.at_source(trial) - endpoints.at_target(z), endpoints.add_at_source, 1),
            ]
        for r, add, sign in views:
            slope = slope + sign * add(w * rho.slope(r))
            stiff = add(stop_gradient(w * rho.stiffness(r)))
            stiffness = stiffness + stiff
            curvature = curvature + (stiff if rho.h == "square" else add(stop_gradient(w * rho.curvature(r))))
    return slope, curvature, stiffness


def relaxed(energy: Energy, z: jax.Array, steps: int) -> jax.Array:
    """Minimise over each unknown alone, by at most `steps` Newton steps inside a bracket and one more.

    The last step, with its slope's denominator held fixed, carries the gradient: Newton's map has derivative 0 where it
    starts at its fixed point, so that the derivative of this one step is that of the scalar minimiser.
    """
    trial = stop_gradient(_scalar_minimisers(frozen(energy), stop_gradient(z), steps))
    slope, curvature, stiffness = _scalar_slopes(energy, z, trial)
    return trial - _step(slope, stop_gradient(curvature), stop_gradient(stiffness))


def _step(slope: jax.Array, curvature: jax.Array, stiffness: jax.Array) -> jax.Array:
    """Newton's step; one of reweighted least squares where the second derivative is 0."""
    scale = jnp.where(curvature > 1e-6 * stiffness, curvature, stiffness)
    return jnp.where(scale > 0, slope, 0.0) / jnp.where(scale > 0, scale, 1.0)


def _scalar_minimisers(energy: Energy, z: jax.Array, steps: int) -> jax.Array:
    unit = 4 * jnp.finfo(z.dtype).eps

    def step(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        count, low, high, trial, _ = state
        slope, curvature, stiffness = _scalar_slopes(energy, z, trial)
        low, high = jnp.where(slope < 0, trial, low), jnp.where(slope > 0, trial, high)
        change = _step(slope, curvature, stiffness)
        moves = ~(jnp.abs(change) <= unit * jnp.abs(trial)).all()
        moved = trial - change
        halved = ((moved < low) | (moved > high)) & jnp.isfinite(low) & jnp.isfinite(high)
        moved = jnp.where(halved, low + (high - low) / 2, moved)
        return count + 1, low, high, jnp.where(moves, moved, trial), moves

    def goes_on(state: tuple[jax.Array, ...]) -> jax.Array:
        return (state[0] < steps) & state[4]

    infinite = jnp.full_like(z, jnp.inf)
    start: tuple[jax.Array, ...] = (jnp.int32(0), -infinite, infinite, z, jnp.bool_(True))
    return jax.lax.while_loop(goes_on, step, start)[3]
