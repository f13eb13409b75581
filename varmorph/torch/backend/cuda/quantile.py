"""Quantile programs: the least and the greatest minimiser of a window, without sorting.

Let M(<= v) be the weight of the edges whose value is at most v. The energy rises behind v where
(1 - tau) M(<= v) >= tau M(> v). The least value where it does is found by bisection: a bracket between two values of the
window is halved and rounded to values again, so that it loses one at least in every round. From there the greatest
minimiser is reached by steps to the next value, as long as the energy does not rise before it.
"""

from __future__ import annotations

import triton
import triton.language as tl

from varmorph.torch.backend.cuda.tiles import SIZES, extent, pulls, tile

__all__ = ["select"]


@triton.jit
def _masses(edges: tl.tuple, pivot: tl.tensor, LEAVES_IMAGE: tl.constexpr, CUT: tl.constexpr) -> tl.tuple:
    """Give the weight of the values up to a pivot and of those above, and the values on both sides of the pivot."""
    image, i, j, rows, columns, bias, weight, beyond, row_slots, column_slots, height, width = edges
    zero = tl.full(pivot.shape, 0.0, pivot.dtype)
    upto, above, below, behind = zero, zero, zero - float("inf"), zero + float("inf")
    for r in range(row_slots):
        row = tl.load(rows + r * height + i)
        for c in range(column_slots):
            b = tl.load(bias + r * column_slots + c)
            if b != float("-inf"):
                w = tl.load(weight + r * column_slots + c)
                v, w = pulls(image, row, tl.load(columns + c * width + j), b, w, beyond, LEAVES_IMAGE, CUT)
                upto += tl.where(v <= pivot, w, 0.0)
                above += tl.where(v > pivot, w, 0.0)
                below = tl.where((w > 0) & (v <= pivot) & (v > below), v, below)
                behind = tl.where((w > 0) & (v > pivot) & (v < behind), v, behind)
    return upto, above, below, behind


@triton.jit
def _first_slots(
    edges: tl.tuple, least: tl.tensor, greatest: tl.tensor, LEAVES_IMAGE: tl.constexpr, CUT: tl.constexpr
) -> tl.tuple:
    """Give the first slots with weight that have the two values."""
    image, i, j, rows, columns, bias, weight, beyond, row_slots, column_slots, height, width = edges
    first = tl.full(least.shape, -1, tl.int32)
    second = first
    for r in range(row_slots):
        row = tl.load(rows + r * height + i)
        for c in range(column_slots):
            slot = r * column_slots + c
            b = tl.load(bias + slot)
            if b != float("-inf"):
                w = tl.load(weight + slot)
                v, w = pulls(image, row, tl.load(columns + c * width + j), b, w, beyond, LEAVES_IMAGE, CUT)
                first = tl.where((first < 0) & (w > 0) & (v == least), slot, first)
                second = tl.where((second < 0) & (w > 0) & (v == greatest), slot, second)
    return first, second


@triton.jit(do_not_specialize=SIZES)
def select(
    x: tl.tensor, bias: tl.tensor, weight: tl.tensor, tau: tl.tensor, cotau: tl.tensor, outside: tl.tensor,
    y: tl.tensor, endpoints: tl.tensor, rows: tl.tensor, columns: tl.tensor, row_slots: tl.tensor, column_slots: tl.tensor,
    samples: tl.tensor, channels: tl.tensor, pixels: tl.tensor, height: tl.tensor, width: tl.tensor,
    LEAVES_IMAGE: tl.constexpr, CUT: tl.constexpr, PART: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Write the middle of the least and the greatest minimiser, and the first slots with their values.

    PART: how far from 0 the derivative of the energy may lie and still count as 0, in parts of min(tau, 1 - tau) W.
    Where there is no edge, or a NaN, the result is NaN and the slots are -1.
    """
    channel, plane, i, j, exists = tile(samples, channels, height, width, ROWS, COLUMNS)
    image = x + (plane * pixels)[:, None]
    t, s, beyond = tl.load(tau + channel), tl.load(cotau + channel), tl.load(outside)
    bias += channel * row_slots * column_slots
    weight += channel * row_slots * column_slots
    edges = (image, i, j, rows, columns, bias, weight, beyond, row_slots, column_slots, height, width)
    zero = tl.full((ROWS, COLUMNS), 0.0, x.dtype.element_ty)
    total, low, high, undefined = extent(edges, zero, False, LEAVES_IMAGE, CUT)
    slack = PART * tl.minimum(t, s) * total
    while tl.max((low < high).to(tl.int32)) > 0:
        middle = low / 2 + high / 2
        pivot = tl.where((middle >= low) & (middle < high), middle, low)
        upto, above, below, behind = _masses(edges, pivot, LEAVES_IMAGE, CUT)
        undecided = low < high
        rises = s * upto - t * above >= -slack
        high = tl.where(undecided & rises, below, high)
        low = tl.where(undecided & ~rises, behind, low)
    low = high
    climbing = row_slots * column_slots > 0
    while climbing:
        upto, above, below, behind = _masses(edges, high, LEAVES_IMAGE, CUT)
        flat = (above > 0) & (s * upto - t * above <= slack)
        high = tl.where(flat, behind, high)
        climbing = tl.max(flat.to(tl.int32)) > 0
    first, second = _first_slots(edges, low, high, LEAVES_IMAGE, CUT)
    to = (plane * height + i)[:, None] * width + j[None, :]
    tl.store(y + to, tl.where(undefined, float("nan"), low / 2 + high / 2), mask=exists)
    tl.store(endpoints + to, tl.where(undefined, -1, first), mask=exists)
    to += samples.to(tl.int64) * channels * height * width
    tl.store(endpoints + to, tl.where(undefined, -1, second), mask=exists)
