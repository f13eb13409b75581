"""How far a learned structuring function is from the one that made the pairs.

What counts as recovered was fixed before any run: a structuring element is read off a structuring function by Otsu's
threshold, the same rule for the learned one and the true one and for every operator.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from morphobench.training.metrics import dice

__all__ = ["LARGEST_ERROR", "Agreement", "compare", "depth", "element_of"]

LARGEST_ERROR = 0.05  # share of the window: at most 2 of 49 elements on the wrong side
FLOOR = -1.0  # images lie in [0, 1]: a neighbour that is so much lower than the highest can never win


class Agreement(NamedTuple):
    """Share of the window on the wrong side of the threshold, Dice of the elements, root mean square of the depths' difference."""

    element_error: float
    dice: float
    depth_error: float


def depth(structuring_function: np.ndarray) -> np.ndarray:
    """Return the distance to the highest value as a number from -1 to 0; what cannot win counts as -1.

    Examples
    --------
    >>> depth(np.array([[-np.inf, 0.25, 0.0]]))
    array([[-1.  ,  0.  , -0.25]])
    """
    return np.clip(structuring_function - structuring_function.max(), FLOOR, 0.0)


def element_of(structuring_function: np.ndarray) -> np.ndarray:
    """Return the structuring element: what lies above Otsu's threshold of the depths, all where they are equal.

    Examples
    --------
    >>> element_of(np.array([[-0.9, 0.1, 0.0]]))
    array([[False,  True,  True]])
    """
    from skimage.filters import threshold_otsu  # takes a moment to import

    levels = depth(structuring_function)
    if levels.min() == levels.max():
        return np.ones(levels.shape, dtype=bool)
    values, counts = np.unique(levels, return_counts=True)
    return levels > threshold_otsu(hist=(counts, values))  # every value a bin: nothing is rounded


def compare(learned: np.ndarray, true: np.ndarray, operation: str) -> Agreement:
    """Compare a learned structuring function (kh, kw) with the true one.

    An opening or closing is the same for every translate of its element, so that of those in the window the nearest counts.
    A learned function that is not finite agrees with nothing.
    """
    if not np.isfinite(learned).all():
        return Agreement(1.0, 0.0, np.nan)
    found, levels = element_of(learned), depth(learned)
    agreements = []
    for moved in _translates(true) if operation in ("opening", "closing") else [true]:
        wanted = element_of(moved)
        overlap = dice((found & wanted).sum(), found.sum() + wanted.sum())
        far = np.sqrt(np.mean((levels - depth(moved)) ** 2))
        agreements.append(Agreement(float((found != wanted).mean()), float(overlap), float(far)))
    return min(agreements, key=lambda agreement: (agreement.element_error, agreement.depth_error))


def _translates(true: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the translates that keep every finite value inside the window, the function itself included."""
    rows, columns = np.nonzero(np.isfinite(true))
    height, width = true.shape
    for down in range(-rows.min(), height - rows.max()):
        for right in range(-columns.min(), width - columns.max()):
            moved = np.full_like(true, -np.inf)
            moved[rows + down, columns + right] = true[rows, columns]
            yield moved
