"""The edges into an output channel, as the programs walk over them: member by member of its group, slot by slot.

The members are the channels of x that belong to the group and, where edges come from -x too, as many again. A tile holds
outputs of one channel, of all samples, see `varmorph.torch.backend.cuda.tiles`; nothing is unfolded. Edges are a tuple of

    planes, seen : for each row of the tile the first plane that its outputs see, and how many of them there are;
    i, j, rows, columns : rows and columns of the tile, and which pixels the slots read there;
    bias, weight, beyond : those of the output channel, (M, row slots, column slots), and the value beyond the image;
    members, row_slots, column_slots, pixels, height, width : how many there are, the last two of outputs.
"""

from __future__ import annotations

import triton
import triton.language as tl

from varmorph.torch.backend.cuda.tiles import SIZES as WINDOW_SIZES
from varmorph.torch.backend.cuda.tiles import read, tile

__all__ = ["SIZES", "edges_into", "extent", "member", "pulls"]

# Arguments that differ from layer to layer beside those that differ from image to image.
SIZES = [*WINDOW_SIZES, "inputs", "groups", "members", "readers"]


@triton.jit
def edges_into(
    x: tl.tensor, bias: tl.tensor, weight: tl.tensor, outside: tl.tensor, rows: tl.tensor, columns: tl.tensor,
    row_slots: tl.tensor, column_slots: tl.tensor, inputs: tl.tensor, groups: tl.tensor, members: tl.tensor,
    samples: tl.tensor, channels: tl.tensor, pixels: tl.tensor, height: tl.tensor, width: tl.tensor,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> tl.tuple:  # fmt: skip
    """Give the edges into this program's outputs, their channel, where they lie, and whether they exist."""
    channel, plane, i, j, exists = tile(samples, channels, height, width, ROWS, COLUMNS)
    seen = inputs // groups
    first = plane // channels * inputs + channel // (channels // groups) * seen
    function = channel.to(tl.int64) * members * row_slots * column_slots
    edges = (
        x + (first * pixels)[:, None], seen, i, j, rows, columns, bias + function, weight + function, tl.load(outside),
        members, row_slots, column_slots, pixels, height, width,
    )  # fmt: skip
    return edges, channel, (plane * height + i)[:, None] * width + j[None, :], exists


@triton.jit
def member(planes: tl.tensor, m: tl.tensor, seen: tl.tensor, pixels: tl.tensor) -> tl.tuple:
    """Give the planes of one member of the group, and 1, or -1 where it is one of -x."""
    sign = tl.where(m < seen, 1.0, -1.0).to(planes.dtype.element_ty)
    return planes + (m % seen) * pixels.to(tl.int64), sign


@triton.jit
def pulls(
    plane: tl.tensor, sign: tl.tensor, row: tl.tensor, column: tl.tensor, b: tl.tensor, w: tl.tensor, beyond: tl.tensor,
    LEAVES_IMAGE: tl.constexpr, CUT: tl.constexpr,
) -> tl.tuple:  # fmt: skip
    """Give the values sign x + b at the starts of one edge, and its weight w; CUT: 0 where it starts outside the image."""
    at = row[:, None] + column[None, :]
    w = tl.broadcast_to(w, at.shape)
    if CUT:
        w = tl.where(at >= 0, w, 0.0)
    return sign * read(plane, at, beyond, LEAVES_IMAGE) + b, w


@triton.jit
def extent(
    edges: tl.tuple, zero: tl.tensor, FINITE: tl.constexpr, LEAVES_IMAGE: tl.constexpr, CUT: tl.constexpr
) -> tl.tuple:
    """Give the total weight, the least and greatest values with weight, and whether the edges have no solution.

    They have none without weight, or with a NaN; FINITE: or with an infinite value.
    """
    planes, seen, i, j, rows, columns, bias, weight, beyond, members, row_slots, column_slots, pixels, height, width = (
        edges
    )
    total, low, high = zero, zero + float("inf"), zero - float("inf")
    unusual = zero != zero
    slot = 0
    for m in range(members):
        plane, sign = member(planes, m, seen, pixels)
        for r in range(row_slots):
            row = tl.load(rows + r * height + i)
            for c in range(column_slots):
                b = tl.load(bias + slot)
                if b != float("-inf"):
                    column = tl.load(columns + c * width + j)
                    v, w = pulls(plane, sign, row, column, b, tl.load(weight + slot), beyond, LEAVES_IMAGE, CUT)
                    unusual = unusual | (v != v)
                    if FINITE:
                        unusual = unusual | (v - v != 0)
                    total += w
                    low = tl.where((w > 0) & (v < low), v, low)
                    high = tl.where((w > 0) & (v > high), v, high)
                slot += 1
    return total, low, high, unusual | ~(total > 0)
