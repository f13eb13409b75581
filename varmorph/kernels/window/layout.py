"""How the windows of an operator are laid out in lanes: the index maps of `blocks`, from those of `windows`."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from varmorph.kernels.window.blocks import BLOCK, Layout
from varmorph.windows import OUTSIDE, AxisSlots, Geometry, ShiftedWindow, is_uniform, shifted_window, window

__all__ = ["layout", "sources"]

NOWHERE = -(2**40)  # so far from the image that no offset within it leads back


def _whole_blocks(reads: np.ndarray, filling: int) -> np.ndarray:
    """Lengthen the last axis to a multiple of `BLOCK`."""
    lengthened = np.full((*reads.shape[:-1], -(-reads.shape[-1] // BLOCK) * BLOCK), filling)
    lengthened[..., : reads.shape[-1]] = reads
    return lengthened


def _regular(slots: AxisSlots, geometry: Geometry, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Tell which outputs of a reversed axis see no edge that was bent back, and the slot of each of their elements.

    The slot of an element that none of them sees is -1.
    """
    _, size, stride, rate = geometry.along(axis)
    shift = rate * (size // 2 - slots.element)
    position = stride * np.arange(slots.source.shape[1]) + shift[:, None]
    present = slots.source != OUTSIDE
    regular = (~present | (slots.source == position)).all(0)
    seen = (present & regular).sum(1)
    chosen = np.full(size, -1)
    for t in np.argsort(seen, kind="stable"):  # of several slots for an element the one that most outputs see
        if seen[t]:
            chosen[slots.element[t]] = t
    others = np.setdiff1d(np.arange(seen.size), chosen)
    return regular & ~present[others].any(0), chosen


def _along_the_border(pixels: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Sort the bent pixels so that those with similar windows are neighbours."""
    i, j = np.divmod(pixels, columns.size)
    sides = rows[i] & ~columns[j]
    return pixels[np.lexsort((np.where(sides, i, j), np.where(sides, j, i), 2 * rows[i] + columns[j]))]


def _cells(shifted: ShiftedWindow, image_width: int, lanes: int) -> np.ndarray:
    """Give the flat pixel of each cell of the padded copy, with those that the last of the lanes read behind it."""
    inside = (shifted.rows != OUTSIDE)[:, None] & (shifted.columns != OUTSIDE)
    copied = np.where(inside, shifted.rows[:, None] * image_width + shifted.columns, -1).reshape(-1)
    cells = np.full(max(lanes + shifted.offsets.max(), copied.size), -1)
    cells[: copied.size] = copied
    return cells


def _pixels(shifted: ShiftedWindow, regular: np.ndarray) -> np.ndarray:
    """Give the output pixel that each straight lane computes."""
    height, width = regular.shape
    pitch = shifted.columns.size
    pixels = np.full((height, pitch), -1)
    pixels[:, :width] = np.where(regular, np.arange(regular.size).reshape(regular.shape), -1)
    return _whole_blocks(pixels.reshape(-1)[: (height - 1) * pitch + width], -1)


@lru_cache(maxsize=64)
def sources(geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Give for each axis (slots, outputs) what it adds to the flat index of the pixel read, far below 0 if outside."""
    rows, columns = window(geometry).rows.source, window(geometry).columns.source
    rows = np.where(rows == OUTSIDE, NOWHERE, rows * geometry.image[1])
    columns = np.where(columns == OUTSIDE, NOWHERE, columns)
    return np.ascontiguousarray(rows), np.ascontiguousarray(columns)


@lru_cache(maxsize=64)
def layout(geometry: Geometry) -> Layout:
    """Lay out the windows of an operator; its slots are those of `windows.window`."""
    edges, width = window(geometry), geometry.size[1]
    if is_uniform(geometry):
        shifted = shifted_window(geometry)
        regular, bent, offsets = np.ones(edges.shape, bool), np.empty(0, np.int64), shifted.offsets
    else:
        shifted = shifted_window(geometry._replace(padding="geodesic"))
        rows, row_slots = _regular(edges.rows, geometry, 0)
        columns, column_slots = _regular(edges.columns, geometry, 1)
        regular = rows[:, None] & columns
        bent = _along_the_border(np.flatnonzero(~regular), rows, columns)
        row_slot, column_slot = row_slots[shifted.elements // width], column_slots[shifted.elements % width]
        seen = (row_slot >= 0) & (column_slot >= 0)
        offsets = np.full(edges.elements.size, -1)
        offsets[(row_slot * edges.columns.element.size + column_slot)[seen]] = shifted.offsets[seen]
    straight = _pixels(shifted, regular)
    i, j = np.divmod(bent, edges.shape[1])
    row_reads, column_reads = sources(geometry)
    return Layout(
        _cells(shifted, geometry.image[1], straight.size),
        offsets,
        straight.size,
        np.concatenate((straight, _whole_blocks(bent, -1))),
        _whole_blocks(row_reads[:, i], NOWHERE),
        _whole_blocks(column_reads[:, j], NOWHERE),
    )
