"""How programs share out images (N, C, H, W): a tile of rows and columns of one channel for each.

The rows of all samples of a channel lie one below the other, so that small images fill a tile together, and what
belongs to the channel (structuring function, level) is the same in the whole tile. Lanes beyond the last row or column
repeat it; what they compute is not written.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["SIZES", "divide", "extent", "pulls", "read", "tile"]

# Arguments that differ from image to image: a program that is compiled once serves them all.
SIZES = ["samples", "channels", "pixels", "outputs", "height", "width", "slots", "row_slots", "column_slots", "raised"]


@triton.jit
def tile(
    samples: tl.tensor, channels: tl.tensor, height: tl.tensor, width: tl.tensor,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> tl.tuple:  # fmt: skip
    """Give this program's channel, and for its lanes the plane, row and column, and whether they exist."""
    across = tl.cdiv(width, COLUMNS)
    down = tl.cdiv(samples * height, ROWS)
    program = tl.program_id(0)
    channel = program // (across * down)
    row = (program // across) % down * ROWS + tl.arange(0, ROWS)
    column = program % across * COLUMNS + tl.arange(0, COLUMNS)
    exists = (row < samples * height)[:, None] & (column < width)[None, :]
    row = tl.minimum(row, samples * height - 1)
    plane = (row // height).to(tl.int64) * channels + channel  # 64 bits: it is multiplied by the size of a plane
    return channel, plane, row % height, tl.minimum(column, width - 1), exists


@triton.jit
def read(plane: tl.tensor, at: tl.tensor, beyond: tl.tensor, LEAVES_IMAGE: tl.constexpr) -> tl.tensor:
    """Read pixels at positions in their planes, `beyond` where the position is negative."""
    if LEAVES_IMAGE:
        return tl.load(plane + at, mask=at >= 0, other=beyond)
    else:
        return tl.load(plane + at)


@triton.jit
def pulls(
    plane: tl.tensor, row: tl.tensor, column: tl.tensor, b: tl.tensor, w: tl.tensor, beyond: tl.tensor,
    LEAVES_IMAGE: tl.constexpr, CUT: tl.constexpr,
) -> tl.tuple:  # fmt: skip
    """Give the values x + b at the starts of one edge, and its weight w; CUT: 0 where it starts outside the image."""
    at = row[:, None] + column[None, :]
    w = tl.broadcast_to(w, at.shape)
    if CUT:
        w = tl.where(at >= 0, w, 0.0)
    return read(plane, at, beyond, LEAVES_IMAGE) + b, w


@triton.jit
def extent(
    edges: tl.tuple, zero: tl.tensor, FINITE: tl.constexpr, LEAVES_IMAGE: tl.constexpr, CUT: tl.constexpr
) -> tl.tuple:
    """Give the total weight, the least and greatest values with weight, and whether the window has no solution.

    It has none without weight, or with a NaN; FINITE: or with an infinite value.
    """
    image, i, j, rows, columns, bias, weight, beyond, row_slots, column_slots, height, width = edges
    total, low, high = zero, zero + float("inf"), zero - float("inf")
    unusual = zero != zero
    for r in range(row_slots):
        row = tl.load(rows + r * height + i)
        for c in range(column_slots):
            b = tl.load(bias + r * column_slots + c)
            if b != float("-inf"):
                w = tl.load(weight + r * column_slots + c)
                v, w = pulls(image, row, tl.load(columns + c * width + j), b, w, beyond, LEAVES_IMAGE, CUT)
                unusual = unusual | (v != v)
                if FINITE:
                    unusual = unusual | (v - v != 0)
                total += w
                low = tl.where((w > 0) & (v < low), v, low)
                high = tl.where((w > 0) & (v > high), v, high)
    return total, low, high, unusual | ~(total > 0)


@triton.jit
def divide(numerator: tl.tensor, denominator: tl.tensor) -> tl.tensor:
    """Divide with correct rounding, which `/` does not promise in float32."""
    if numerator.dtype == tl.float32:
        return tl.div_rn(numerator, denominator)
    else:
        return numerator / denominator
