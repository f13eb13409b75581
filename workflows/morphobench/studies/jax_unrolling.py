"""The separable operator and the reconstruction in JAX, as plain iterations that automatic differentiation goes through.

The twin of `morphobench.studies.unrolling`, where the mathematics is said.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from varmorph.jax import dilation

__all__ = ["Neighbours", "gradient_step", "neighbours", "newton_step", "reconstructed", "weighted_mean"]


class Neighbours(NamedTuple):
    """Value v and weight w of the neighbours, (N, C, T, H, W); level tau and its complement (C, 1, 1)."""

    value: jax.Array
    weight: jax.Array
    level: jax.Array
    complement: jax.Array


def neighbours(
    x: jax.Array, bias: jax.Array, weight: jax.Array, logit_level: jax.Array, *, erosion: bool
) -> Neighbours:
    """Gather the window of every pixel; an erosion reverses the edges."""
    height, width = x.shape[-2:]
    rows, columns = bias.shape[-2:]
    origin = (rows // 2, columns // 2)
    before = (rows - 1 - origin[0], columns - 1 - origin[1]) if erosion else origin
    margins = [
        (0, 0),
        (0, 0),
        *((start, size - 1 - start) for start, size in zip(before, (rows, columns), strict=True)),
    ]
    padded, inside = jnp.pad(x, margins), jnp.pad(jnp.ones_like(x), margins)
    values, weights = [], []
    for i in range(rows):
        for j in range(columns):
            top, left = (rows - 1 - i, columns - 1 - j) if erosion else (i, j)
            here = (..., slice(top, top + height), slice(left, left + width))
            offset = bias[:, i, j, None, None]
            values.append(padded[here] - offset if erosion else padded[here] + offset)
            weights.append(weight[:, i, j, None, None] * inside[here])
    logit = (-logit_level if erosion else logit_level)[:, None, None, None]
    return Neighbours(jnp.stack(values, 2), jnp.stack(weights, 2), jax.nn.sigmoid(logit), jax.nn.sigmoid(-logit))


def _curvature(window: Neighbours, z: jax.Array) -> jax.Array:
    above = stop_gradient(window.value) >= stop_gradient(z)[:, :, None]
    return window.weight * jnp.where(above, window.level, window.complement)


def weighted_mean(window: Neighbours) -> jax.Array:
    """Start of the iterations: the solution for level 1/2."""
    return (window.weight * window.value).sum(2) / window.weight.sum(2)


def newton_step(window: Neighbours, z: jax.Array) -> jax.Array:
    """One Newton step: the weighted mean for the signs at z."""
    curvature = _curvature(window, z)
    return (curvature * window.value).sum(2) / curvature.sum(2)


def gradient_step(window: Neighbours, z: jax.Array) -> jax.Array:
    """One step of gradient descent with the largest step that always descends."""
    bound = window.weight.sum(2).max((-2, -1), keepdims=True) * jnp.maximum(window.level, window.complement)[:, 0]
    gradient = (_curvature(window, z) * (z[:, :, None] - window.value)).sum(2)
    return z - gradient / stop_gradient(bound)


def reconstructed(steps: int, marker: jax.Array, mask: jax.Array, bias: jax.Array) -> jax.Array:
    """Iterate u <- min(mask, dilation(u)); the offset at the origin is 0 and no parameter."""
    offsets = bias.at[:, bias.shape[1] // 2, bias.shape[2] // 2].set(0.0)

    def step(_: int, u: jax.Array) -> jax.Array:
        return jnp.minimum(mask, dilation(u, offsets))

    return jax.lax.fori_loop(0, steps, step, jnp.minimum(marker, mask))
