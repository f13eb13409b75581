"""Which pixels a window sees: padding, stride, rate and reversal, written as maps of indices.

Both computations of an operator, in tensor code and in kernels, take their geometry from here. It is built an axis at
a time. A *slot* is one place of the window on one axis; it names the element of the structuring function that acts
there and, for every output position, the input position it reads (`OUTSIDE` where there is none).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

__all__ = [
    "OUTSIDE",
    "PADDINGS",
    "AxisSlots",
    "Geometry",
    "Padding",
    "ShiftedWindow",
    "Window",
    "is_uniform",
    "output_shape",
    "outside_value",
    "shifted_window",
    "window",
]

Padding = Literal["geodesic", "replicate", "reflect", "circular", "valid"] | float
PADDINGS = ("geodesic", "replicate", "reflect", "circular", "valid")
OUTSIDE = -1


class Geometry(NamedTuple):
    """How a window moves over an image; `image`, `size`, `stride` and `rate` are (vertical, horizontal).

    `image` and `size` are the heights and widths of image and window. With `reverse` the edges are those of the dilation
    turned round, as an erosion needs them.
    """

    image: tuple[int, int]
    size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    rate: tuple[int, int] = (1, 1)
    padding: Padding = "geodesic"
    reverse: bool = False

    def along(self, axis: int) -> tuple[int, int, int, int]:
        """Give length of the image, size of the window, stride and rate on one axis: 0 vertical, 1 horizontal."""
        return self.image[axis], self.size[axis], self.stride[axis], self.rate[axis]


@dataclass(frozen=True, eq=False)
class AxisSlots:
    """The slots of one axis: `element` (slots,) into the structuring function, `source` (slots, outputs)."""

    element: np.ndarray
    source: np.ndarray


@dataclass(frozen=True, eq=False)
class Window:
    """The edges of one operator on one image size, the product of its two axes.

    `elements` lists, for each of the T = row slots x column slots in row-major order, the element of the flattened
    structuring function. `leaves_image` tells whether some edges start outside the image.
    """

    rows: AxisSlots
    columns: AxisSlots
    elements: np.ndarray
    leaves_image: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the output."""
        return self.rows.source.shape[1], self.columns.source.shape[1]


@dataclass(frozen=True, eq=False)
class ShiftedWindow:
    """The same edges as one padded copy of the image that every slot reads at a fixed flat offset.

    The copy has `rows.size` x `columns.size` cells; cell (r, c) holds pixel (rows[r], columns[c]). Slot t of output
    (i, j) reads the flat cell i * columns.size + j + offsets[t]. With a stride the rows and columns of the copy are
    sorted by their remainder modulo the stride, so that neighbouring outputs read neighbouring cells.
    """

    rows: np.ndarray
    columns: np.ndarray
    offsets: np.ndarray
    elements: np.ndarray
    shape: tuple[int, int]
    leaves_image: bool


def _pixel_at(position: np.ndarray, length: int, padding: Padding) -> np.ndarray:
    """Give the pixel that stands at a position on or beyond the axis: the padding as a map of indices."""
    if padding == "replicate":
        return position.clip(0, length - 1)
    if padding == "circular":
        return position % length
    if padding == "reflect":
        period = max(2 * (length - 1), 1)
        folded = position % period
        return np.minimum(folded, period - folded) if length > 1 else np.zeros_like(position)
    inside = (position >= 0) & (position < length)
    return np.where(inside, position, OUTSIDE)


def _shifts(size: int, rate: int, reverse: bool) -> tuple[np.ndarray, np.ndarray]:
    """Give the shifts of the window in increasing order, and the element of the structuring function at each."""
    element = np.arange(size)
    shift = rate * (element - size // 2)
    return (-shift[::-1], element[::-1]) if reverse else (shift, element)


def _outputs(length: int, shifts: np.ndarray, stride: int, padding: Padding) -> tuple[int, int]:
    """Give the first position that has an output, and the number of outputs."""
    if padding != "valid":
        return 0, -(-length // stride)
    whole = length - int(shifts[-1] - shifts[0])
    return -int(shifts[0]), max(-(-whole // stride), 0)


def output_shape(geometry: Geometry) -> tuple[int, int]:
    """Give height and width of the result."""
    valid = geometry.padding == "valid"
    lost = [r * (s - 1) if valid else 0 for s, r in zip(geometry.size, geometry.rate, strict=True)]
    height, width = (
        (length - cut + step - 1) // step
        for length, cut, step in zip(geometry.image, lost, geometry.stride, strict=True)
    )
    return height, width


def outside_value(geometry: Geometry) -> float | None:
    """Give the value beyond the image; None where nothing is there."""
    return geometry.padding if isinstance(geometry.padding, float) else None


def is_uniform(geometry: Geometry) -> bool:
    """Tell whether every output sees the same shifts.

    Reversing edges that a padding bent back into the image gives the pixels near the border additional ones.
    """
    return not (geometry.reverse and geometry.padding in ("replicate", "reflect"))


def _bent_back(length: int, size: int, rate: int, padding: Padding) -> AxisSlots:
    """Reverse the dilation's edges one by one: slot (e, f) of pixel j is edge e of the f-th position that maps to j."""
    shifts, elements = _shifts(size, rate, reverse=True)
    positions = np.arange(min(0, -int(shifts[-1])), length + max(0, -int(shifts[0])))
    pixels = _pixel_at(positions, length, padding)
    folds = [positions[pixels == j] for j in range(length)]
    depth = max(len(fold) for fold in folds)
    source = np.full((size, depth, length), OUTSIDE)
    for j, fold in enumerate(folds):
        start = fold[None, :] + shifts[:, None]
        source[:, : len(fold), j] = np.where((start >= 0) & (start < length), start, OUTSIDE)
    slots = source.reshape(size * depth, length)
    used = (slots != OUTSIDE).any(axis=1)
    return AxisSlots(np.repeat(elements, depth)[used], slots[used])


def _axis(geometry: Geometry, axis: int) -> AxisSlots:
    image, size, stride, rate = geometry.along(axis)
    if not is_uniform(geometry):
        slots = _bent_back(image, size, rate, geometry.padding)
        return AxisSlots(slots.element, slots.source[:, ::stride])
    shifts, elements = _shifts(size, rate, geometry.reverse)
    first, count = _outputs(image, shifts, stride, geometry.padding)
    position = first + stride * np.arange(count) + shifts[:, None]
    return AxisSlots(elements, _pixel_at(position, image, geometry.padding))


def _elements(rows: np.ndarray, columns: np.ndarray, width: int) -> np.ndarray:
    return (rows[:, None] * width + columns[None, :]).reshape(-1)


@lru_cache(maxsize=256)
def window(geometry: Geometry) -> Window:
    """List the edges of a window operator slot by slot: any stride, rate, padding and window size."""
    rows, columns = _axis(geometry, 0), _axis(geometry, 1)
    leaves_image = bool((rows.source == OUTSIDE).any() or (columns.source == OUTSIDE).any())
    return Window(rows, columns, _elements(rows.element, columns.element, geometry.size[1]), leaves_image)


def _shifted_axis(geometry: Geometry, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Lay out one axis of the padded copy: its map to pixels, the offsets of the slots, their elements, the outputs."""
    image, size, stride, rate = geometry.along(axis)
    shifts, elements = _shifts(size, rate, geometry.reverse)
    first, count = _outputs(image, shifts, stride, geometry.padding)
    reach = shifts - shifts[0]
    cells = stride * max(count - 1, 0) + int(reach[-1]) + 1
    per_phase = -(-cells // stride)

    def place(cell: np.ndarray) -> np.ndarray:
        return (cell % stride) * per_phase + cell // stride

    cell = np.arange(cells)
    source = np.full(stride * per_phase, OUTSIDE)
    source[place(cell)] = _pixel_at(cell + first + shifts[0], image, geometry.padding)
    return source, place(reach), elements, count


@lru_cache(maxsize=256)
def shifted_window(geometry: Geometry) -> ShiftedWindow:
    """Lay the edges of a uniform window out as flat offsets into a padded copy (see `is_uniform`)."""
    if not is_uniform(geometry):
        raise ValueError(f"the reversed edges of padding {geometry.padding!r} are not the same shifts at every pixel")
    row_source, row_offset, row_element, height = _shifted_axis(geometry, 0)
    column_source, column_offset, column_element, width = _shifted_axis(geometry, 1)
    offsets = row_offset[:, None] * column_source.size + column_offset[None, :]
    leaves_image = bool((row_source == OUTSIDE).any() or (column_source == OUTSIDE).any())
    return ShiftedWindow(
        row_source,
        column_source,
        offsets.reshape(-1),
        _elements(row_element, column_element, geometry.size[1]),
        (height, width),
        leaves_image,
    )
