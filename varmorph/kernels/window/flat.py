"""Max-plus over flat rectangular windows: the greatest of 2, 4, 8, ... neighbours, first along rows, then along columns.

A maximum over n neighbours is the greater of two overlapping maxima over the greatest power of two below n, so that an
axis costs about log2(n) comparisons a pixel. The running maxima of M. van Herk (1992), Pattern Recognition Letters 13(7),
517-521, and of J. Gil and M. Werman (1993), IEEE Transactions on Pattern Analysis and Machine Intelligence 15(5), 504-507,
cost three whatever the window, but go along the axis one pixel after the other: along a row that is no loop of vectors.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel
from varmorph.kernels.taps import index

__all__ = ["is_flat", "rows_of_slots", "search_flat"]


def rows_of_slots(offsets: np.ndarray, size: tuple[int, int], ask: bool) -> int:
    """Return the number of rows of slots if flat offsets rise evenly along both axes and the window is large, else 0."""
    height, width = size
    if height * width < (36 if ask else 16):  # fewer are faster one by one, the more so where slots are asked for
        return 0
    grid = offsets.reshape(height, width)
    even = all(len(set(np.diff(grid, axis=axis).ravel().tolist())) <= 1 for axis in (0, 1))
    return height if even else 0


@kernel
def is_flat(bias: Any) -> bool:
    """Tell whether all elements are equal."""
    return bool((bias == bias[0]).all())


@kernel
def _double(target: Any, source: Any, cells: int, shift: Any, step: Any, ask: bool) -> None:
    """Take the greater of two neighbours `shift` cells apart, the first of equal ones; slots count up by `step`.

    Values lie in the first half of the arrays, slots in the second.
    """
    half = index(source.size // 2)
    if ask:
        for lane in range(cells):
            j = index(lane)
            here, there = source[j], source[j + shift]
            other = source[j + shift + half] + step
            target[j] = there if there > here else here
            target[j + half] = other if there > here else source[j + half]
    else:
        for lane in range(cells):
            j = index(lane)
            here, there = source[j], source[j + shift]
            target[j] = there if there > here else here


@kernel
def _along(work: Any, at: int, cells: int, length: int, pitch: int, step: int, ask: bool) -> Any:
    """Take the maximum over `length` neighbours `pitch` cells apart; return which half holds it, and the valid cells."""
    kind = work.dtype.type
    covered = 1
    while covered < length:
        more = min(covered, length - covered)
        cells -= more * pitch
        _double(work[1 - at], work[at], cells, index(more * pitch), kind(more * step), ask)
        at, covered = 1 - at, covered + more
    return at, cells


@kernel
def search_flat(best: Any, slot: Any, copy: Any, offsets: Any, height: int, b: Any, work: Any, ask: bool) -> None:
    """Find the supremum over a flat window whose slots are `height` evenly spaced rows, and its slot if asked for."""
    width = offsets.size // height
    cells, half = copy.size, work.shape[1] // 2
    for j in range(cells):
        work[0, j] = copy[j] + b
    for j in range(half):
        work[0, half + j] = 0
    at = 0
    if width > 1:
        at, cells = _along(work, at, cells, width, offsets[1] - offsets[0], 1, ask)
    if height > 1:
        at, cells = _along(work, at, cells, height, offsets[width] - offsets[0], width, ask)
    found = work[at]
    for j in range(best.size):
        best[j] = found[j]
    if ask:
        for j in range(best.size):
            slot[j] = found[half + j] if found[j] > -np.inf else slot[j]
