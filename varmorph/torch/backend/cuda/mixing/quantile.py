"""Quantile programs over several channels: the bisection of `varmorph.torch.backend.cuda.quantile`, over the edges from all members."""

from __future__ import annotations

import triton
import triton.language as tl

from varmorph.torch.backend.cuda.mixing.edges import SIZES, edges_into, extent, member, pulls

__all__ = ["select"]


@triton.jit
def _masses(edges: tl.tuple, pivot: tl.tensor, LEAVES_IMAGE: tl.constexpr, CUT: tl.constexpr) -> tl.tuple:
    """Give the weight of the values up to a pivot and of those above, and the values on both sides of the pivot."""
    planes, seen, i, j, rows, columns, bias, weight, beyond, members, row_slots, column_slots, pixels, height, width = (
        edges
    )
    zero = tl.zeros_like(pivot)
    upto, above, lower, upper = zero, zero, zero - float("inf"), zero + float("inf")
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
                    upto += tl.where(v <= pivot, w, 0.0)
                    above += tl.where(v > pivot, w, 0.0)
                    lower = tl.where((w > 0) & (v <= pivot) & (v > lower), v, lower)
                    upper = tl.where((w > 0) & (v > pivot) & (v < upper), v, upper)
                slot += 1
    return upto, above, lower, upper


@triton.jit
def _first_slots(
    edges: tl.tuple, least: tl.tensor, greatest: tl.tensor, LEAVES_IMAGE: tl.constexpr, CUT: tl.constexpr
) -> tl.tuple:
    """Give the first slots with weight that have the two values."""
    planes, seen, i, j, rows, columns, bias, weight, beyond, members, row_slots, column_slots, pixels, height, width = (
        edges
    )
    first = tl.full(least.shape, -1, tl.int32)
    second = first
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
                    first = tl.where((first < 0) & (w > 0) & (v == least), slot, first)
                    second = tl.where((second < 0) & (w > 0) & (v == greatest), slot, second)
                slot += 1
    return first, second


@triton.jit(do_not_specialize=SIZES)
def select(
    x: tl.tensor, bias: tl.tensor, weight: tl.tensor, tau: tl.tensor, cotau: tl.tensor, outside: tl.tensor, y: tl.tensor,
    endpoints: tl.tensor, rows: tl.tensor, columns: tl.tensor, row_slots: tl.tensor, column_slots: tl.tensor,
    inputs: tl.tensor, groups: tl.tensor, members: tl.tensor, samples: tl.tensor, channels: tl.tensor, pixels: tl.tensor,
    height: tl.tensor, width: tl.tensor, LEAVES_IMAGE: tl.constexpr, CUT: tl.constexpr, PART: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Write the middle of the least and the greatest minimiser, and the first slots with their values.

    PART: how far from 0 the derivative of the energy may lie and still count as 0, in parts of min(tau, 1 - tau) W.
    Where there is no edge, or a NaN, the result is NaN and the slots are -1.
    """
    edges, channel, own, exists = edges_into(
        x, bias, weight, outside, rows, columns, row_slots, column_slots, inputs, groups, members,
        samples, channels, pixels, height, width, ROWS, COLUMNS,
    )  # fmt: skip
    t, s = tl.load(tau + channel), tl.load(cotau + channel)
    zero = tl.full((ROWS, COLUMNS), 0.0, x.dtype.element_ty)
    total, low, high, undefined = extent(edges, zero, False, LEAVES_IMAGE, CUT)
    slack = PART * tl.minimum(t, s) * total
    while tl.max((low < high).to(tl.int32)) > 0:
        middle = low / 2 + high / 2
        pivot = tl.where((middle >= low) & (middle < high), middle, low)
        upto, above, lower, upper = _masses(edges, pivot, LEAVES_IMAGE, CUT)
        undecided = low < high
        rises = s * upto - t * above >= -slack
        high = tl.where(undecided & rises, lower, high)
        low = tl.where(undecided & ~rises, upper, low)
    low = high
    climbing = members * row_slots * column_slots > 0
    while climbing:
        upto, above, lower, upper = _masses(edges, high, LEAVES_IMAGE, CUT)
        flat = (above > 0) & (s * upto - t * above <= slack)
        high = tl.where(flat, upper, high)
        climbing = tl.max(flat.to(tl.int32)) > 0
    first, second = _first_slots(edges, low, high, LEAVES_IMAGE, CUT)
    tl.store(y + own, tl.where(undefined, float("nan"), low / 2 + high / 2), mask=exists)
    tl.store(endpoints + own, tl.where(undefined, -1, first), mask=exists)
    own += samples.to(tl.int64) * channels * height * width
    tl.store(endpoints + own, tl.where(undefined, -1, second), mask=exists)
