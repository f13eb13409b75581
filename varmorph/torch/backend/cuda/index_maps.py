"""The maps of a window on a device: where each slot reads, and who reads each pixel.

A program that computes outputs walks over the slots and reads pixels; one that computes the gradient of pixels walks
over their *readers*, the outputs that see them, and gathers. Both maps are kept an axis at a time. Positions along the
rows are multiplied by the width, so that the position of an edge in its plane is the sum of two numbers, and what does
not exist is so far below 0 that the sum of any two such numbers is negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from varmorph.windows import OUTSIDE, AxisSlots, Geometry, window

__all__ = ["IndexMaps", "Readers", "index_maps", "readers"]

FAR = -(2**30)


@dataclass(frozen=True, eq=False)
class Readers:
    """Which outputs of one axis read each pixel, entry by entry.

    slot : (entries,), the slot through which they read.  output : (entries, pixels), `OUTSIDE` where there is none.
    depth : (pixels,), the number of entries to look at: those that only few pixels have, near a border that padding
    bends back, come last.
    """

    slot: np.ndarray
    output: np.ndarray
    depth: np.ndarray


def readers(axis: AxisSlots, pixels: int) -> Readers:
    """Turn the edges of one axis round."""
    slots, outputs = np.nonzero(axis.source != OUTSIDE)
    group = slots * pixels + axis.source[slots, outputs]
    order = np.argsort(group, kind="stable")
    slots, outputs, group = slots[order], outputs[order], group[order]
    repeat = np.arange(group.size) - np.searchsorted(group, group)
    count = axis.element.size
    every = np.arange(count)  # without padding that bends back there is one entry for each slot
    used, entry = np.unique(np.concatenate((every, repeat * count + slots)), return_inverse=True)
    output = np.full((used.size, pixels), OUTSIDE)
    output[entry[count:], group % max(pixels, 1)] = outputs
    depth = ((output != OUTSIDE) * np.arange(1, used.size + 1)[:, None]).max(0, initial=0)
    return Readers(used % count, output, depth)


@dataclass(frozen=True, eq=False)
class IndexMaps:
    """The maps of one window as int32 tensors; see `Readers` for those of the gradient.

    rows : (row slots, height), first pixel of the row to read.  columns : (column slots, width).
    elements : (T,), the element of the structuring function at each slot; None where they are numbered alike.
    slots : (K, repeats), the slots of each element, T where there is none; None where they are numbered alike.
    """

    shape: tuple[int, int]
    leaves_image: bool
    rows: Tensor
    columns: Tensor
    row_readers: tuple[Tensor, Tensor, Tensor]
    column_readers: tuple[Tensor, Tensor, Tensor]
    elements: Tensor | None
    slots: Tensor | None

    @property
    def counts(self) -> tuple[int, int]:
        """Numbers of slots of the rows and of the columns."""
        return self.rows.shape[0], self.columns.shape[0]

    @property
    def size(self) -> int:
        """Number of slots T."""
        return self.rows.shape[0] * self.columns.shape[0]

    @property
    def outputs(self) -> int:
        """Number of outputs of a plane."""
        return self.shape[0] * self.shape[1]

    def by_slot(self, function: Tensor) -> Tensor:
        """Bring a structuring function (C, K) into the order of the slots, (C, T)."""
        return (function if self.elements is None else function.index_select(1, self.elements)).contiguous()

    def by_element(self, sums: Tensor) -> Tensor:
        """Add up what belongs to one element: (C, T) to (C, K)."""
        if self.slots is None:
            return sums
        padded = torch.nn.functional.pad(sums, (0, 1))
        return padded.index_select(1, self.slots.flatten()).unflatten(1, tuple(self.slots.shape)).sum(2)


def _slots_of_elements(elements: np.ndarray, count: int) -> np.ndarray:
    order = np.argsort(elements, kind="stable")
    element = elements[order]
    repeat = np.arange(element.size) - np.searchsorted(element, element)
    slots = np.full((count, int(repeat.max()) + 1), element.size)
    slots[element, repeat] = order
    return slots


@lru_cache(maxsize=256)
def index_maps(geometry: Geometry, device: torch.device) -> IndexMaps:
    """Lay out the maps of a window on a device; ValueError if a plane is too large for 32 bit positions."""
    (height, width), size = geometry.image, geometry.size
    edges = window(geometry)
    out_width = edges.shape[1]
    if max(height * width, edges.shape[0] * out_width) > -FAR:
        raise ValueError(f"planes of more than {-FAR} pixels have no kernel, found {height} x {width}")

    def tensor(array: np.ndarray) -> Tensor:
        return torch.as_tensor(array.astype(np.int32), device=device)

    def positions(source: np.ndarray, pitch: int) -> Tensor:
        return tensor(np.where(source == OUTSIDE, FAR, source * pitch))

    def turned(axis: AxisSlots, pixels: int, pitch: int, weight: int) -> tuple[Tensor, Tensor, Tensor]:
        found = readers(axis, pixels)
        return tensor(found.slot * weight), positions(found.output, pitch), tensor(found.depth)

    elements = edges.elements
    alike = np.array_equal(elements, np.arange(size[0] * size[1]))
    return IndexMaps(
        edges.shape,
        edges.leaves_image,
        positions(edges.rows.source, width),
        positions(edges.columns.source, 1),
        turned(edges.rows, height, out_width, edges.columns.element.size),
        turned(edges.columns, width, 1, 1),
        None if alike else tensor(elements),
        None if alike else tensor(_slots_of_elements(elements, size[0] * size[1])),
    )
