"""The separable operator in JAX, as plain iterations that automatic differentiation goes through.

The twin of `morphobench.studies.torch_unrolling`, where the mathematics is said.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import stop_gradient

__all__ = ["Neighbours", "curvature", "gradient_step", "neighbours", "newton_step", "weighted_mean"]


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
    height, width = height + rows - 1, width + columns - 1
    # Where each neighbour lies in the padded image laid out flat: one gather compiles sooner than a slice a neighbour.
    places = np.lib.stride_tricks.sliding_window_view(np.arange(height * width).reshape(height, width), (rows, columns))
    places = places[..., ::-1, ::-1] if erosion else places
    places = np.moveaxis(places.reshape(*x.shape[-2:], -1), -1, 0)
    inside = np.pad(np.ones(x.shape[-2:]), margins[2:]).reshape(-1)[places]
    values = jnp.pad(x, margins).reshape(*x.shape[:2], -1)[..., places]
    offsets = bias.reshape(bias.shape[0], -1)[..., None, None]
    values = values - offsets if erosion else values + offsets
    weights = weight.reshape(weight.shape[0], -1)[..., None, None] * jnp.asarray(inside, x.dtype)
    logit = (-logit_level if erosion else logit_level)[:, None, None, None]
    return Neighbours(values, weights[None], jax.nn.sigmoid(logit), jax.nn.sigmoid(-logit))


def curvature(window: Neighbours, z: jax.Array) -> jax.Array:
    """Weight times level or its complement, by the side of z on which each neighbour lies; (N, C, T, H, W)."""
    above = stop_gradient(window.value) >= stop_gradient(z)[:, :, None]
    return window.weight * jnp.where(above, window.level, window.complement)


def weighted_mean(window: Neighbours) -> jax.Array:
    """Start of the iterations: the solution for level 1/2."""
    return (window.weight * window.value).sum(2) / window.weight.sum(2)


def newton_step(window: Neighbours, z: jax.Array) -> jax.Array:
    """One Newton step: the weighted mean for the signs at z."""
    stiffness = curvature(window, z)
    return (stiffness * window.value).sum(2) / stiffness.sum(2)


def gradient_step(window: Neighbours, z: jax.Array) -> jax.Array:
    """One step of gradient descent with the largest step that always descends."""
    bound = window.weight.sum(2).max((-2, -1), keepdims=True) * jnp.maximum(window.level, window.complement)[:, 0]
    gradient = (curvature(window, z) * (z[:, :, None] - window.value)).sum(2)
    return z - gradient / stop_gradient(bound)
