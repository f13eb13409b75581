"""The penalties of residuals: rho_tau(r) = a_tau(r) h(r), with a_tau(r) = tau where r >= 0 and 1 - tau elsewhere.

| penalty | h(r) |
|---|---|
| square (expectile, quadratic) | r^2 / 2 |
| absolute (quantile) | abs(r) |
| huber | r^2 / (2 mu) where abs(r) <= mu, abs(r) - mu / 2 elsewhere |

Edges without a level, such as those between neighbouring unknowns, have a = 1 on both sides.
"""

from __future__ import annotations

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp

__all__ = ["Penalty", "named_penalty"]


class Penalty(eqx.Module):
    """The penalty of one family of edges.

    Parameters
    ----------
    h : {"square", "absolute", "huber"}
        Shape of the penalty.
    tau, cotau : array, optional
        Level and one minus the level, broadcastable to the residuals; None for 1 on both sides.
    smoothing : array, optional
        mu > 0, for "huber".
    """

    h: Literal["square", "absolute", "huber"] = eqx.field(static=True)
    tau: jax.Array | None = None
    cotau: jax.Array | None = None
    smoothing: jax.Array | None = None

    def side(self, r: jax.Array) -> jax.Array | float:
        """Factor a_tau(r); a residual of 0 counts as above."""
        if self.tau is None or self.cotau is None:
            return 1.0
        return jnp.where(r >= 0, self.tau, self.cotau)

    def energy(self, r: jax.Array) -> jax.Array:
        """Value rho(r)."""
        if self.h == "square":
            return self.side(r) * r * r / 2
        size = jnp.abs(r)
        if self.smoothing is None:
            return self.side(r) * size
        curved = size <= self.smoothing
        return self.side(r) * jnp.where(curved, r * r / (2 * self.smoothing), size - self.smoothing / 2)

    def slope(self, r: jax.Array) -> jax.Array:
        """Derivative rho'(r); for "absolute" the element 0 of the subdifferential at r = 0."""
        return self.side(r) * self._slope_of_h(r)

    def _slope_of_h(self, r: jax.Array) -> jax.Array:
        if self.h == "square":
            return r
        if self.smoothing is None:
            return jnp.sign(r)
        # Products, since a choice would mask a NaN in the backward pass to 0.
        curved = jnp.abs(r) <= self.smoothing
        return curved * r / self.smoothing + ~curved * jnp.sign(r)

    def curvature(self, r: jax.Array) -> jax.Array:
        """Second derivative rho''(r), at a kink the selection that counts r >= 0 as above and abs(r) = mu as curved."""
        if self.h == "square":
            return self.side(r) * jnp.ones_like(r)
        if self.smoothing is None:
            return jnp.zeros_like(r)
        return self.side(r) * (jnp.abs(r) <= self.smoothing) / self.smoothing

    def stiffness(self, r: jax.Array) -> jax.Array:
        """Slope over residual, rho'(r) / r: the weight of reweighted least squares, which is positive everywhere."""
        if self.h == "square":
            return self.curvature(r)
        least = jnp.finfo(r.dtype).tiny if self.smoothing is None else self.smoothing
        return self.side(r) / jnp.maximum(jnp.abs(r), least)

    def greatest_stiffness(self, r: jax.Array, near: jax.Array) -> jax.Array:
        """Stiffness, where abs(r) <= near that of the stiffer side: rounding alone decides on which side r lies."""
        stiffness = self.stiffness(r)
        if self.tau is None or self.cotau is None:
            return stiffness
        stiffer = jnp.maximum(self.tau, self.cotau) / self.side(r)
        return jnp.where(jnp.abs(r) <= near, stiffness * stiffer, stiffness)

    def prox(self, r: jax.Array, step: jax.Array) -> jax.Array:
        """Proximal map argmin_q step rho(q) + (q - r)^2 / 2; it keeps the sign of r."""
        pull = step * self.side(r)
        if self.h == "square":
            return r / (1 + pull)
        mu = 0.0 if self.smoothing is None else self.smoothing
        shrunk = mu / jnp.maximum(mu + pull, jnp.finfo(r.dtype).tiny)
        return jnp.where(jnp.abs(r) <= mu + pull, r * shrunk, r - pull * jnp.sign(r))

    def conjugate(self, p: jax.Array, weight: jax.Array) -> jax.Array:
        """Convex conjugate of w rho at a force p inside its domain; 0 where the weight is 0, and so is the force."""
        if self.h == "absolute":
            return jnp.zeros_like(p)
        width = 1.0 if self.smoothing is None else self.smoothing
        stiffness = weight * self.side(p)
        return jnp.where(stiffness > 0, width * p * p / (2 * jnp.where(stiffness > 0, stiffness, 1.0)), 0.0)

    def greatest_curvature(self) -> jax.Array | float:
        """Bound of rho''; infinite for "absolute"."""
        side = 1.0 if self.tau is None or self.cotau is None else jnp.maximum(self.tau, self.cotau)
        if self.h == "absolute":
            return jnp.inf
        return side if self.smoothing is None else side / self.smoothing

    def distance_to_kink(self, r: jax.Array) -> jax.Array:
        """Distance from r to the nearest place where the curvature jumps; infinite where there is none."""
        size = jnp.abs(r)
        distance = size if self.tau is not None or self.h == "absolute" else jnp.full_like(size, jnp.inf)
        return distance if self.smoothing is None else jnp.minimum(distance, jnp.abs(size - self.smoothing))

    def piece(self, r: jax.Array) -> jax.Array:
        """Number of the piece of the penalty on which r lies, as int8: above or below, curved or straight."""
        number = jnp.zeros(r.shape, jnp.int8)
        if self.tau is not None or self.h == "absolute":
            number += (r >= 0).astype(jnp.int8)
        if self.smoothing is not None:
            number += 2 * (jnp.abs(r) <= self.smoothing).astype(jnp.int8)
        return number


_SHAPES: dict[str, Literal["square", "absolute", "huber"]] = {
    "expectile": "square",
    "quadratic": "square",
    "quantile": "absolute",
    "huber": "huber",
}


def named_penalty(
    name: str, sides: tuple[jax.Array, jax.Array] | None = None, smoothing: jax.Array | None = None, node_dims: int = 2
) -> Penalty:
    """Make a penalty from its public name and parameters per channel.

    sides : tau and 1 - tau, each (C,); None where the penalty has no level.
    smoothing : mu (C,); None where the penalty has none.
    node_dims : number of dimensions behind the channels.
    """
    behind = (slice(None),) + (None,) * node_dims
    tau, cotau = (None, None) if sides is None else (side[behind] for side in sides)
    return Penalty(_SHAPES[name], tau, cotau, None if smoothing is None else smoothing[behind])
