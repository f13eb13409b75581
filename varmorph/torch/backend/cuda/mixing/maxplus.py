"""Max-plus programs over several channels: the supremum with the slot that attains it, and the adjoint selection.

Slots count the members of a group and, within each, the elements of the window in row-major order.
"""

from __future__ import annotations

import triton
import triton.language as tl

from varmorph.torch.backend.cuda.mixing.edges import SIZES, edges_into, member
from varmorph.torch.backend.cuda.mixing.strips import LANES, strip, tile_at
from varmorph.torch.backend.cuda.tiles import read, tile

__all__ = ["collect", "sum_by_slot", "supremum"]


@triton.jit(do_not_specialize=SIZES)
def supremum(
    x: tl.tensor, bias: tl.tensor, outside: tl.tensor, y: tl.tensor, chosen: tl.tensor, rows: tl.tensor, columns: tl.tensor,
    row_slots: tl.tensor, column_slots: tl.tensor, inputs: tl.tensor, groups: tl.tensor, members: tl.tensor,
    samples: tl.tensor, channels: tl.tensor, pixels: tl.tensor, height: tl.tensor, width: tl.tensor,
    SIGN: tl.constexpr, WITH_SLOTS: tl.constexpr, LEAVES_IMAGE: tl.constexpr, CUT: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Write y = sign * max(sign * (x + bias)) and the first slot that attains it.

    Where no edge starts inside the image, or the greatest value is -inf, the number of slots is written.
    """
    edges, _, own, exists = edges_into(
        x, bias, bias, outside, rows, columns, row_slots, column_slots, inputs, groups, members,
        samples, channels, pixels, height, width, ROWS, COLUMNS,
    )  # fmt: skip
    planes, seen, i, j, _, _, bias, _, beyond, _, _, _, _, _, _ = edges
    best = tl.full((ROWS, COLUMNS), float("-inf"), x.dtype.element_ty)
    found = tl.full((ROWS, COLUMNS), 0, tl.int32) + members * row_slots * column_slots
    slot = 0
    for m in range(members):
        plane, sign = member(planes, m, seen, pixels)
        for r in range(row_slots):
            row = tl.load(rows + r * height + i)
            for c in range(column_slots):
                b = tl.load(bias + slot)
                if b != float("-inf"):
                    at = row[:, None] + tl.load(columns + c * width + j)[None, :]
                    v = SIGN * (sign * read(plane, at, beyond, LEAVES_IMAGE) + b)
                    above = (best == best) & ~(v <= best)  # the first NaN stays
                    if CUT:
                        above = above & (at >= 0)
                    best = tl.where(above, v, best)
                    found = tl.where(above, slot, found)
                slot += 1
    tl.store(y + own, SIGN * best + 0.0, mask=exists)  # adding 0 turns -0 into 0
    if WITH_SLOTS:
        tl.store(chosen + own, found, mask=exists)


@triton.jit(do_not_specialize=SIZES)
def collect(
    grad_y: tl.tensor, chosen: tl.tensor, grad_x: tl.tensor, slots: tl.tensor, row_slot: tl.tensor, row_reader: tl.tensor,
    row_depth: tl.tensor, column_slot: tl.tensor, column_reader: tl.tensor, column_depth: tl.tensor, groups: tl.tensor,
    members: tl.tensor, samples: tl.tensor, channels: tl.tensor, readers: tl.tensor, outputs: tl.tensor,
    height: tl.tensor, width: tl.tensor, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Give each pixel the gradient of the outputs that chose it, and take from it that of those that chose its negative."""
    channel, plane, i, j, exists = tile(samples, channels, height, width, ROWS, COLUMNS)
    seen, fan = channels // groups, readers // groups
    first = ((plane // channels * readers + channel // seen * fan) * outputs)[:, None]
    total = tl.full((ROWS, COLUMNS), 0.0, grad_x.dtype.element_ty)
    deepest = tl.max(tl.load(column_depth + j))
    for _ in range(fan):
        for r in range(tl.max(tl.load(row_depth + i))):
            row = tl.load(row_reader + r * height + i)
            for c in range(deepest):
                at = row[:, None] + tl.load(column_reader + c * width + j)[None, :]
                slot = channel % seen * slots + tl.load(row_slot + r) + tl.load(column_slot + c)
                there = at >= 0
                choice = tl.load(chosen + first + at, mask=there, other=-1)
                gradient = tl.load(grad_y + first + at, mask=there, other=0.0)
                opposite = (choice == slot + seen * slots) & (members > seen)
                total += tl.where(choice == slot, gradient, tl.where(opposite, -gradient, 0.0))
        first += outputs
    tl.store(grad_x + (plane * height + i)[:, None] * width + j[None, :], total, mask=exists)


@triton.jit(do_not_specialize=[*SIZES, "ROWS"])
def sum_by_slot(
    grad_y: tl.tensor, chosen: tl.tensor, sums: tl.tensor, slots: tl.tensor, members: tl.tensor, samples: tl.tensor,
    channels: tl.tensor, height: tl.tensor, width: tl.tensor, ROWS: tl.tensor, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Write, for each slot of this program's member, the sum of the gradients of the outputs that chose the slot."""
    owner, m, start, end, column = strip(samples, channels, members, height, width, ROWS, COLUMNS)
    STEP: tl.constexpr = LANES // COLUMNS
    sums += tl.program_id(0).to(tl.int64) * slots
    for t in range(slots):
        total = tl.full((), 0.0, tl.float64)
        for first in range(start, end, STEP):
            _, _, _, own, exists = tile_at(first, end, column, owner, channels // members, height, width, STEP)
            choice = tl.load(chosen + own, mask=exists, other=-1)
            gradient = tl.load(grad_y + own, mask=exists, other=0.0)
            total += tl.sum(tl.where(choice == m * slots + t, gradient, 0.0)).to(tl.float64)
        tl.store(sums + t, total)
