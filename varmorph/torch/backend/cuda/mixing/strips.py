"""How programs that add up over outputs share them out: for each a strip of rows, one output channel and one member.

A window has many edges where channels are mixed, and sums for each tile would take more memory than the images do. So a program
walks over several tiles, one below the other, and leaves one sum for each slot of its member.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["LANES", "strip", "tile_at"]

LANES = tl.constexpr(1024)  # of one tile of a strip: many, to share the cost of adding them up


@triton.jit
def strip(
    samples: tl.tensor, channels: tl.tensor, members: tl.tensor, height: tl.tensor, width: tl.tensor, ROWS: tl.tensor,
    COLUMNS: tl.constexpr,
) -> tl.tuple:  # fmt: skip
    """Give this program's output channel and member, its first row, its end, and its columns.

    channels : number of pairs of an output channel and a member.
    """
    across = tl.cdiv(width, COLUMNS)
    down = tl.cdiv(samples * height, ROWS)
    program = tl.program_id(0)
    pair = program // (across * down)
    start = program // across % down * ROWS
    column = program % across * COLUMNS + tl.arange(0, COLUMNS)
    return pair // members, pair % members, start, tl.minimum(start + ROWS, samples * height), column


@triton.jit
def tile_at(
    first: tl.tensor, end: tl.tensor, column: tl.tensor, owner: tl.tensor, owners: tl.tensor, height: tl.tensor,
    width: tl.tensor, STEP: tl.constexpr,
) -> tl.tuple:  # fmt: skip
    """Give samples, rows and columns of the tile that begins at a row, where its outputs lie, and whether they exist."""
    row = first + tl.arange(0, STEP)
    exists = (row < end)[:, None] & (column < width)[None, :]
    row, column = tl.minimum(row, end - 1), tl.minimum(column, width - 1)
    sample, i = (row // height).to(tl.int64), row % height
    return sample, i, column, ((sample * owners + owner) * height + i)[:, None] * width + column[None, :], exists
