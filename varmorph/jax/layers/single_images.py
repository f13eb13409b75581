"""Single images (C, H, W), as the layers of Equinox take them, beside batches (N, C, H, W)."""

from __future__ import annotations

from collections.abc import Callable

import jax

__all__ = ["on_batches"]


def on_batches(operator: Callable[..., jax.Array], *images: jax.Array) -> jax.Array:
    """Apply an operator of batches to batches, or to single images: each becomes a batch of one, and its result an image."""
    if all(getattr(image, "ndim", 4) == 3 for image in images):
        return operator(*(image[None] for image in images))[0]
    return operator(*images)
