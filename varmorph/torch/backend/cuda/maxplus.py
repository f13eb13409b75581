"""Max-plus programs: the supremum over a window with the slot that attains it, and the adjoint selection.

Slots are walked in row-major order. Maps of indices are those of `index_maps`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from varmorph.torch.backend.cuda.tiles import SIZES, read, tile

__all__ = ["collect", "sum_by_slot", "supremum"]


@triton.jit(do_not_specialize=SIZES)
def supremum(
    x: tl.tensor, bias: tl.tensor, outside: tl.tensor, y: tl.tensor, chosen: tl.tensor,
    rows: tl.tensor, columns: tl.tensor, row_slots: tl.tensor, column_slots: tl.tensor,
    samples: tl.tensor, channels: tl.tensor, pixels: tl.tensor, raised: tl.tensor, height: tl.tensor, width: tl.tensor,
    WITH_SLOTS: tl.constexpr, LEAVES_IMAGE: tl.constexpr, CUT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Write max(x + bias), or min(x - bias) for channels from `raised` on, and the slot that attains it.

    Edges from `outside` are absent if they are CUT. A window of -inf alone has no slot that attains anything: the number of
    slots is written.
    """
    channel, plane, i, j, exists = tile(samples, channels, height, width, ROWS, COLUMNS)
    image = x + (plane * pixels)[:, None]
    beyond = tl.load(outside)
    sign = tl.where(channel < raised, 1.0, -1.0).to(x.dtype.element_ty)
    slot = 0
    bias += channel * row_slots * column_slots
    best = tl.full((ROWS, COLUMNS), float("-inf"), x.dtype.element_ty)
    found = tl.full((ROWS, COLUMNS), 0, tl.int32) + row_slots * column_slots
    for r in range(row_slots):
        row = tl.load(rows + r * height + i)
        for c in range(column_slots):
            b = tl.load(bias + slot)
            if b != float("-inf"):
                at = row[:, None] + tl.load(columns + c * width + j)[None, :]
                v = sign * read(image, at, beyond, LEAVES_IMAGE) + b
                if CUT:
                    v = tl.where(at >= 0, v, float("-inf"))
                above = (best == best) & ~(v <= best)  # the first NaN stays
                best = tl.where(above, v, best)
                found = tl.where(above, slot, found)
            slot += 1
    to = (plane * height + i)[:, None] * width + j[None, :]
    tl.store(y + to, sign * best + 0.0, mask=exists)  # adding 0 turns -0 into 0
    if WITH_SLOTS:
        tl.store(chosen + to, found, mask=exists)


@triton.jit(do_not_specialize=SIZES)
def collect(
    grad_y: tl.tensor, chosen: tl.tensor, grad_x: tl.tensor,
    row_slot: tl.tensor, row_reader: tl.tensor, row_depth: tl.tensor, column_slot: tl.tensor, column_reader: tl.tensor, column_depth: tl.tensor,
    samples: tl.tensor, channels: tl.tensor, outputs: tl.tensor, height: tl.tensor, width: tl.tensor,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Give each pixel the gradient of the outputs that chose it."""
    _, plane, i, j, exists = tile(samples, channels, height, width, ROWS, COLUMNS)
    first = (plane * outputs)[:, None]
    total = tl.full((ROWS, COLUMNS), 0.0, grad_x.dtype.element_ty)
    deepest = tl.max(tl.load(column_depth + j))
    for r in range(tl.max(tl.load(row_depth + i))):
        row = tl.load(row_reader + r * height + i)
        for c in range(deepest):
            at = row[:, None] + tl.load(column_reader + c * width + j)[None, :]
            slot = tl.load(row_slot + r) + tl.load(column_slot + c)
            there = at >= 0
            hit = there & (tl.load(chosen + first + at, mask=there, other=0).to(tl.int32) == slot)
            total += tl.load(grad_y + first + at, mask=hit, other=0.0)
    tl.store(grad_x + (plane * height + i)[:, None] * width + j[None, :], total, mask=exists)


@triton.jit(do_not_specialize=SIZES)
def sum_by_slot(
    grad_y: tl.tensor, chosen: tl.tensor, sums: tl.tensor, slots: tl.tensor,
    samples: tl.tensor, channels: tl.tensor, height: tl.tensor, width: tl.tensor,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Write, for each program and slot, the sum of the gradients of the outputs that chose the slot."""
    _, plane, i, j, exists = tile(samples, channels, height, width, ROWS, COLUMNS)
    at = (plane * height + i)[:, None] * width + j[None, :]
    gradient = tl.load(grad_y + at, mask=exists, other=0.0)
    choice = tl.load(chosen + at, mask=exists, other=0).to(tl.int32)
    sums += tl.program_id(0).to(tl.int64) * slots
    for t in range(slots):
        tl.store(sums + t, tl.sum(tl.where(exists & (choice == t), gradient, 0.0)).to(tl.float64))
