"""Levelings: while one is computed, each pixel carries along the pixel of marker or reference that it is a copy of."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from varmorph.arguments import check_connectivity
from varmorph.jax.arguments import check_image_pair
from varmorph.jax.backend.choice import compute_dtype
from varmorph.jax.separable.neighbours import edge_values, flat_neighbourhood, flat_shifts, inside_image, per_edge
from varmorph.jax.shapes import Images
from varmorph.windows import Geometry, window

__all__ = ["leveling"]


def leveling(marker: Images, reference: Images, *, connectivity: int = 8) -> Images:
    """Level a reference by a marker: repeat m <- max(erosion(m), min(dilation(m), reference)) from m = marker to the end.

    marker, reference : (N, C, H, W).  connectivity : 4 or 8. Result, gradient, errors and source are those of
    `varmorph.torch.leveling`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> reference = jnp.array([[[[0.0, 4.0, 4.0, 1.0, 5.0, 0.0]]]])
    >>> leveling(jnp.array([[[[2.0, 2.0, 3.0, 3.0, 2.0, 2.0]]]]), reference)
    Array([[[[2., 3., 3., 2., 3., 2.]]]], dtype=float32)
    """
    marker, reference = check_image_pair(marker, reference, ("marker", "reference"))
    dtype, check = compute_dtype(marker, reference), check_connectivity(connectivity)
    images = jnp.stack((marker.astype(dtype), reference.astype(dtype)))
    fixed = jax.lax.stop_gradient(images)
    root = _roots(fixed[0], fixed[1], flat_neighbourhood(check, dtype))
    return images.reshape(-1)[root].astype(reference.dtype)


def _roots(marker: jax.Array, reference: jax.Array, neighbours: jax.Array) -> jax.Array:
    """Give for each pixel the flat index of its root: a marker pixel, or behind them a reference pixel."""
    seen = window(Geometry((marker.shape[-2], marker.shape[-1]), (3, 3)))
    present = inside_image(seen) & ~jnp.isneginf(per_edge(neighbours.reshape(1, 9), seen))
    shifts = flat_shifts((3, 3), marker.shape[-1])
    pixel = jnp.arange(marker.size).reshape(marker.shape)
    own_reference = pixel + marker.size
    # Turned upside down where it starts above the reference, every pixel rises: one rule for both directions.
    sign = jnp.where(marker > reference, -1.0, 1.0).astype(marker.dtype)
    goal = sign * reference

    def step(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        value, root, _ = state
        around = sign * edge_values(value, seen, 0.0)
        around = jnp.where(present & ~jnp.isnan(around), around, -jnp.inf)
        best, through = around.max(0), around.argmax(0)
        rises = jnp.minimum(best, goal) > sign * value
        copied = root.reshape(-1)[jnp.where(rises, pixel + shifts[through], pixel)]
        root = jnp.where(rises & (best >= goal), own_reference, copied)
        return jnp.where(rises, sign * jnp.minimum(best, goal), value), root, rises.any()

    undefined = jnp.isnan(reference)
    start: tuple[jax.Array, ...] = (
        jnp.where(undefined, jnp.nan, marker),
        jnp.where((marker == reference) | undefined, own_reference, pixel),
        jnp.bool_(marker.size > 0),
    )
    return jax.lax.while_loop(lambda state: state[2], step, start)[1]
