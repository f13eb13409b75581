"""Structuring functions slot by slot, sums plane by plane, and results, as the kernels take and give them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["by_element", "by_slot", "over_samples", "room", "signed_outside", "writes_into"]


def writes_into(launcher: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a launcher that takes `out`: arrays like its results, of which it fills those it can instead of making its own."""
    launcher.writes_into = True  # type: ignore[attr-defined]
    return launcher


def room(out: Sequence[np.ndarray] | None, place: int, shape: Sequence[int], dtype: Any) -> np.ndarray:
    """Take the result that is to be filled, or make room for it."""
    return np.empty(shape, dtype) if out is None else out[place]


def by_slot(function: np.ndarray, elements: np.ndarray) -> np.ndarray:
    """Bring a structuring function (C, K) into the order of the slots, (C, T); `elements` (T,) names that of each."""
    return np.ascontiguousarray(function[:, elements])


def signed_outside(outside: float | None, dtype: Any) -> np.ndarray:
    """Give what a maximum meets beyond the image, and a minimum, turned upside down; -inf if that is None."""
    return np.array([-np.inf] * 2 if outside is None else [outside, -outside], dtype)


def by_element(per_plane: np.ndarray, elements: np.ndarray, samples: int, like: np.ndarray) -> np.ndarray:
    """Add up (N * C, T) over samples, in a fixed order, and over the slots of each element: (C, K), of the type of `like`."""
    channels, count = like.shape
    sums = per_plane.reshape(samples, channels, per_plane.shape[1]).sum(0)
    total = np.zeros((channels, count))
    if elements.size == count:  # each element has one slot
        total[:, elements] = sums
    else:
        np.add.at(total.T, elements, sums.T)
    return total.astype(like.dtype)


def over_samples(per_plane: np.ndarray, samples: int, like: np.ndarray) -> np.ndarray:
    """Add up (N * C,) over samples, in a fixed order: (C,), of the type of `like`."""
    return per_plane.reshape(samples, like.shape[0]).sum(0).astype(like.dtype)
