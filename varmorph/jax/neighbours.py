"""The values that the edges of a window carry."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from varmorph.windows import OUTSIDE, Window

__all__ = ["edge_values", "inside_image", "per_edge"]


def inside_image(window: Window) -> jax.Array:
    """Tell which edges start inside the image: (T, 1, 1, height, width)."""
    rows, columns = window.rows.source != OUTSIDE, window.columns.source != OUTSIDE
    both = rows[:, None, :, None] & columns[None, :, None, :]
    return jnp.asarray(both.reshape(-1, 1, 1, *both.shape[2:]))


def edge_values(x: jax.Array, window: Window, outside: float) -> jax.Array:
    """Gather the pixel at the start of each edge: (N, C, H, W) to (T, N, C, height, width), `outside` beyond."""
    taken = x[:, :, window.rows.source.clip(min=0)]  # (N, C, row slots, height, W)
    taken = taken[..., window.columns.source.clip(min=0)]  # (N, C, row slots, height, column slots, width)
    values = taken.transpose(2, 4, 0, 1, 3, 5)
    values = values.reshape(-1, *x.shape[:2], *window.shape)
    return jnp.where(inside_image(window), values, outside) if window.leaves_image else values


def per_edge(parameter: jax.Array, window: Window) -> jax.Array:
    """Spread a structuring function (C, K) over the edges: (T, 1, C, 1, 1)."""
    return parameter[:, window.elements].T[:, None, :, None, None]
