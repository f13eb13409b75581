"""Blocks of windows of any geometry, solved together: the common part of the kernels that work pixel by pixel.

A block has `BLOCK` lanes, each the window of one output pixel. Row k of its table holds edge k of every lane: from
column `VALUE` the values x + b, from column `WEIGHT` the weights, 0 where the edge is absent. What a lane computes
stands in one flat array, the state, in parts of `BLOCK` numbers. So a loop over lanes has a fixed length and touches
two arrays at most: the compiler makes vector code of it only where it can tell that arrays do not overlap.

Where all windows have the same shifts, lanes are the cells of a padded copy of the image in memory order, and an edge
is a piece of that copy. Windows that a padding has bent back at the border are *bent* lanes: they read the image itself
through index maps. Planes are flat here, (planes, pixels), plane p of channel p modulo the number of channels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from varmorph.kernels.compilation import kernel

__all__ = ["BLOCK", "VALUE", "WEIGHT", "Edges", "Layout", "add_back", "fill", "give_back", "read", "take", "write"]

BLOCK = 64
VALUE, WEIGHT = 0, BLOCK


class Layout(NamedTuple):
    """Which pixel each lane computes and where it reads.

    Cell i of the padded copy holds pixel cells[i] of the image, none where that is negative. The first `straight` lanes
    are cells; slot t reads offsets[t] cells further on, or is no slot of theirs where that is negative. The bent lanes
    behind them read, at slot (r, c), pixel row_reads[r] + column_reads[c] of the image, none where that is negative.
    Lane l computes pixel pixels[l] of the output, a number that nobody wants where that is negative.
    """

    cells: np.ndarray
    offsets: np.ndarray
    straight: int
    pixels: np.ndarray
    row_reads: np.ndarray
    column_reads: np.ndarray


class Edges(NamedTuple):
    """The edges of all windows: offsets and weights (channels, slots), -inf where a slot is left out.

    What comes from beyond the image has the value `outside`; `mask` is 1 at cells from which edges start, else 0.
    """

    layout: Layout
    mask: np.ndarray
    bias: np.ndarray
    weight: np.ndarray
    outside: np.floating


@kernel
def fill(copy: Any, plane: Any, cells: Any, sign: Any, outside: Any) -> None:
    """Write sign * plane into the padded copy."""
    for i in range(cells.size):
        copy[i] = sign * plane[cells[i]] if cells[i] >= 0 else outside


@kernel
def add_back(plane: Any, copy: Any, cells: Any) -> None:
    """Add the cells of the padded copy to the pixels they were read from."""
    for i in range(cells.size):
        if cells[i] >= 0:
            plane[cells[i]] += copy[i]


@kernel
def _read_straight(
    table: Any, slots: Any, first: int, copy: Any, mask: Any, offsets: Any, bias: Any, weight: Any
) -> int:
    count = 0
    for t in range(bias.size):
        if offsets[t] >= 0 and bias[t] > -np.inf:
            # Unsigned, because a negative index would count from the end: that case stops vector code.
            cell = np.uint64(first + offsets[t])
            for j in range(BLOCK):
                table[count, VALUE + j] = copy[cell + np.uint64(j)] + bias[t]
                table[count, WEIGHT + j] = weight[t] * mask[cell + np.uint64(j)]
            slots[count] = t
            count += 1
    return count


@kernel
def _read_bent(table: Any, slots: Any, lane: int, plane: Any, layout: Any, bias: Any, weight: Any, outside: Any) -> int:
    zero = plane.dtype.type(0)
    width = layout.column_reads.shape[0]
    count = 0
    for t in range(bias.size):
        if bias[t] > -np.inf:
            found = False
            for j in range(BLOCK):
                place = layout.row_reads[t // width, lane + j] + layout.column_reads[t % width, lane + j]
                inside = place >= 0
                table[count, VALUE + j] = (plane[place] if inside else outside) + bias[t]
                table[count, WEIGHT + j] = weight[t] if inside else zero
                found |= inside
            if found:
                slots[count] = t
                count += 1
    return count


@kernel
def read(table: Any, slots: Any, first: int, copy: Any, plane: Any, edges: Any, channel: int) -> int:
    """Write the edges of the block that begins at lane `first` and their slots; return how many slots it uses."""
    layout, bias, weight = edges.layout, edges.bias[channel], edges.weight[channel]
    if first < layout.straight:
        return _read_straight(table, slots, first, copy, edges.mask, layout.offsets, bias, weight)
    return _read_bent(table, slots, first - layout.straight, plane, layout, bias, weight, edges.outside)


@kernel
def give_back(table: Any, slots: Any, count: int, first: int, copy: Any, plane: Any, layout: Any) -> None:
    """Add what stands in place of the values to what they were read from: the padded copy, or the image if bent."""
    lane, width = first - layout.straight, layout.column_reads.shape[0]
    for k in range(count):
        t = slots[k]
        if first < layout.straight:
            cell = np.uint64(first + layout.offsets[t])
            for j in range(BLOCK):
                copy[cell + np.uint64(j)] += table[k, VALUE + j]
        else:
            for j in range(BLOCK):
                place = layout.row_reads[t // width, lane + j] + layout.column_reads[t % width, lane + j]
                if place >= 0:
                    plane[place] += table[k, VALUE + j]


@kernel
def write(plane: Any, state: Any, part: int, first: int, pixels: Any) -> None:
    """Write one part of the state into a plane of the output."""
    for j in range(BLOCK):
        pixel = pixels[first + j]
        if pixel >= 0:
            plane[pixel] = state[part + j]


@kernel
def take(state: Any, part: int, plane: Any, first: int, pixels: Any, otherwise: Any) -> None:
    """Read one part of the state from a plane of the output."""
    for j in range(BLOCK):
        pixel = pixels[first + j]
        state[part + j] = plane[pixel] if pixel >= 0 else otherwise
