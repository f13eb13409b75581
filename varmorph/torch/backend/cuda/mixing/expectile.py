"""Expectile programs over several channels: the rounds of `varmorph.torch.backend.cuda.expectile`, over the edges from all members."""

from __future__ import annotations

import triton
import triton.language as tl

from varmorph.torch.backend.cuda.mixing.edges import SIZES, edges_into, member, pulls
from varmorph.torch.backend.cuda.tiles import divide

__all__ = ["climb"]


@triton.jit
def _moments(
    edges: tl.tuple, up: tl.tensor, zero: tl.tensor, LEAVES_IMAGE: tl.constexpr, CUT: tl.constexpr
) -> tl.tuple:
    """Give the sums of w v and of w, and the greatest value with weight, for values turned upside down if `up` is -1."""
    planes, seen, i, j, rows, columns, bias, weight, beyond, members, row_slots, column_slots, pixels, height, width = (
        edges
    )
    a, total, greatest = zero, zero, zero - float("inf")
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
                    v *= up
                    a += w * v
                    total += w
                    greatest = tl.where((w > 0) & (v > greatest), v, greatest)
                slot += 1
    return a, total, greatest


@triton.jit
def _sums_above(
    edges: tl.tuple, up: tl.tensor, z: tl.tensor, LEAVES_IMAGE: tl.constexpr, CUT: tl.constexpr
) -> tl.tuple:
    """Give the sums of w v and of w over the edges whose value is at least the estimate."""
    planes, seen, i, j, rows, columns, bias, weight, beyond, members, row_slots, column_slots, pixels, height, width = (
        edges
    )
    above, mass = tl.zeros_like(z), tl.zeros_like(z)
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
                    v *= up
                    above += tl.where(v >= z, w * v, 0.0)
                    mass += tl.where(v >= z, w, 0.0)
                slot += 1
    return above, mass


@triton.jit(do_not_specialize=SIZES)
def climb(
    x: tl.tensor, bias: tl.tensor, weight: tl.tensor, tau: tl.tensor, cotau: tl.tensor, outside: tl.tensor, y: tl.tensor,
    rows: tl.tensor, columns: tl.tensor, row_slots: tl.tensor, column_slots: tl.tensor, inputs: tl.tensor,
    groups: tl.tensor, members: tl.tensor, samples: tl.tensor, channels: tl.tensor, pixels: tl.tensor, height: tl.tensor,
    width: tl.tensor, LEAVES_IMAGE: tl.constexpr, CUT: tl.constexpr, UNIT: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Write the expectile of the edges into each output, which every round reads again.

    CUT: edges from outside the image are absent; elsewhere they read `outside`, or -`outside` from -x.
    """
    edges, channel, own, exists = edges_into(
        x, bias, weight, outside, rows, columns, row_slots, column_slots, inputs, groups, members,
        samples, channels, pixels, height, width, ROWS, COLUMNS,
    )  # fmt: skip
    t, s = tl.load(tau + channel), tl.load(cotau + channel)
    up, low, gap = tl.where(t >= s, 1.0, -1.0).to(t.dtype), tl.minimum(t, s), tl.abs(t - s)
    zero = tl.full((ROWS, COLUMNS), 0.0, x.dtype.element_ty)
    a, total, greatest = _moments(edges, up, zero, LEAVES_IMAGE, CUT)
    mean = divide(a, total)
    z = mean
    most = members * row_slots * column_slots
    rounds = 0
    moving = most > 0
    while moving:
        above, mass = _sums_above(edges, up, z, LEAVES_IMAGE, CUT)
        step = divide(low * a + gap * above, low * total + gap * mass)
        moved = step > z  # going down is rounding
        z = tl.where(moved, step, z)
        rounds += 1
        moving = (tl.max(moved.to(tl.int32)) > 0) & (rounds < most)
    # The greatest value is reached by rounding only: see `minimise_expectile`.
    off = greatest - UNIT * tl.maximum(tl.abs(greatest), greatest - mean)
    z = tl.where((z >= greatest) & (greatest > mean), off, z)
    tl.store(y + own, up * z + 0.0, mask=exists)
