"""Structuring functions, and the values that the edges of a window carry."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from varmorph.windows import OUTSIDE, AxisSlots, Window

__all__ = [
    "add_at_sources",
    "edge_values",
    "flat_neighbourhood",
    "flat_shifts",
    "inside_image",
    "negative_offsets",
    "per_edge",
]

# JAX keeps what it has made of an array of int64: where 64-bit numbers are allowed for a part of a program alone, that may have
# another type than the array itself.
INDEX = np.int32


def inside_image(window: Window) -> jax.Array:
    """Tell which edges start inside the image: (T, 1, 1, height, width)."""
    rows, columns = window.rows.source != OUTSIDE, window.columns.source != OUTSIDE
    both = rows[:, None, :, None] & columns[None, :, None, :]
    return jnp.asarray(both.reshape(-1, 1, 1, *both.shape[2:]))


def edge_values(x: jax.Array, window: Window, outside: float) -> jax.Array:
    """Gather the pixel at the start of each edge: (N, C, H, W) to (T, N, C, height, width), `outside` beyond."""
    rows, columns = (axis.source.clip(min=0).astype(INDEX) for axis in (window.rows, window.columns))
    taken = x[:, :, rows][..., columns]  # (N, C, row slots, height, column slots, width)
    values = taken.transpose(2, 4, 0, 1, 3, 5)
    values = values.reshape(-1, *x.shape[:2], *window.shape)
    return jnp.where(inside_image(window), values, outside) if window.leaves_image else values


def per_edge(parameter: jax.Array, window: Window) -> jax.Array:
    """Spread a structuring function (C, K) over the edges: (T, 1, C, 1, 1)."""
    return parameter[:, window.elements.astype(INDEX)].T[:, None, :, None, None]


def _readers(slots: AxisSlots, length: int) -> np.ndarray:
    """List, for each input position of an axis, the (slot, output) pairs that read it, flat, filled up by their number."""
    source = slots.source.ravel()
    pairs = np.flatnonzero(source != OUTSIDE)
    position = source[pairs]
    order = np.argsort(position, kind="stable")
    counts = np.bincount(position, minlength=length)
    place = np.arange(pairs.size) - np.repeat(counts.cumsum() - counts, counts)
    readers = np.full((length, max(counts.max(initial=0), 1)), source.size, INDEX)
    readers[position[order], place] = pairs[order]
    return readers


def _give_back(e: jax.Array, slots: AxisSlots, length: int) -> jax.Array:
    """Add up over the last two axes (slots, outputs) of one axis of the image: (..., length)."""
    flat = e.reshape(*e.shape[:-2], -1)
    nothing = jnp.zeros((*flat.shape[:-1], 1), e.dtype)
    # Gathered and summed, since XLA adds scattered numbers one by one on a CPU.
    return jnp.concatenate((flat, nothing), -1)[..., _readers(slots, length)].sum(-1)


def add_at_sources(e: jax.Array, window: Window, image: tuple[int, int]) -> jax.Array:
    """Add up, for each pixel, the numbers on the edges that start there: the adjoint of `edge_values`.

    (T, N, C, height, width) to (N, C, H, W); what comes from beyond the image is left out.
    """
    slots = e.reshape(window.rows.source.shape[0], window.columns.source.shape[0], *e.shape[1:])
    lines = _give_back(slots.transpose(2, 3, 0, 4, 1, 5), window.columns, image[1])  # (N, C, row slots, height, W)
    return _give_back(lines.transpose(0, 1, 4, 2, 3), window.rows, image[0]).transpose(0, 1, 3, 2)


def flat_neighbourhood(connectivity: int, dtype: Any) -> jax.Array:
    """Build the flat structuring function (3, 3) of a pixel and its 4 or 8 neighbours: 0, and -inf at those left out."""
    flat = np.zeros((3, 3))
    if connectivity == 4:
        flat[::2, ::2] = -np.inf
    return jnp.asarray(flat, dtype)


def flat_shifts(size: tuple[int, int], width: int) -> jax.Array:
    """Say how far from its pixel each element of a window lies (kh * kw,), in an image of this width laid out flat."""
    rows, columns = (np.arange(length) - length // 2 for length in size)
    return jnp.asarray((rows[:, None] * width + columns).reshape(-1))


def negative_offsets(bias: jax.Array) -> jax.Array:
    """Change the sign of a structuring function; an element that is left out stays out."""
    absent = jnp.isneginf(bias)
    return jnp.where(absent, -jnp.inf, -jnp.where(absent, 0.0, bias))
