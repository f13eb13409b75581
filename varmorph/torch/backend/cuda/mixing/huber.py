"""Huber programs over several channels: the steps of `varmorph.torch.backend.cuda.huber`, over the edges from all members."""

from __future__ import annotations

import triton
import triton.language as tl

from varmorph.torch.backend.cuda.mixing.edges import SIZES, edges_into, extent, member, pulls
from varmorph.torch.backend.cuda.tiles import divide

__all__ = ["choose_piece", "minimise"]


@triton.jit
def _piece(
    edges: tl.tuple, t: tl.tensor, s: tl.tensor, mu: tl.tensor, z: tl.tensor, near: tl.tensor,
    LEAVES_IMAGE: tl.constexpr, CUT: tl.constexpr,
) -> tl.tuple:  # fmt: skip
    """Solve for z on the piece on which it lies; give the weight that is curved there and the derivative of the energy.

    A residual below 0, or beyond mu, by less than `near` is a tie: it counts as above, and as curved.
    """
    planes, seen, i, j, rows, columns, bias, weight, beyond, members, row_slots, column_slots, pixels, height, width = (
        edges
    )
    pulled, mass, slope = tl.zeros_like(z), tl.zeros_like(z), tl.zeros_like(z)
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
                    residual = v - z
                    w *= tl.where(residual >= -near, t, s)
                    curved = tl.abs(residual) <= mu + near
                    clipped = tl.minimum(tl.maximum(residual, -mu), mu)
                    pulled += w * tl.where(curved, v, clipped)
                    mass += tl.where(curved, w, 0.0)
                    slope -= w * clipped
                slot += 1
    return divide(pulled, mass), mass, divide(slope, tl.zeros_like(z) + mu)


@triton.jit
def choose_piece(
    edges: tl.tuple, t: tl.tensor, s: tl.tensor, mu: tl.tensor, z: tl.tensor, near: tl.tensor,
    LEAVES_IMAGE: tl.constexpr, CUT: tl.constexpr,
) -> tl.tuple:  # fmt: skip
    """Give the solution near z, the weight that is curved there, and the point and tolerance that select the piece.

    Ties count as above and as curved, unless the formula then leads elsewhere: the first choice that is good enough.
    """
    solution, total, point, tolerance, least = z, z, z, near, z
    for choice in tl.static_range(4):
        where = z
        if choice == 2:
            where = z + near
        if choice == 3:
            where = z - near
        width_of_tie = near * (choice == 0)
        found, mass, _ = _piece(edges, t, s, mu, where, width_of_tie, LEAVES_IMAGE, CUT)
        error = tl.abs(found - z)
        error = tl.where(error == error, error, float("inf"))
        error = tl.where(error > 4 * near, error, 0.0)
        better = (error < least) | (choice == 0)
        solution = tl.where(better, found, solution)
        total = tl.where(better, mass, total)
        point = tl.where(better, where, point)
        tolerance = tl.where(better, width_of_tie, tolerance)
        least = tl.where(better, error, least)
    return solution, total, point, tolerance


@triton.jit
def _safeguarded_newton(
    edges: tl.tuple, t: tl.tensor, s: tl.tensor, mu: tl.tensor, low: tl.tensor, high: tl.tensor, slack: tl.tensor,
    moving: tl.tensor, UNIT: tl.constexpr, STEPS: tl.constexpr, LEAVES_IMAGE: tl.constexpr, CUT: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Find a minimiser between low and high, where the lane is moving."""
    z = low + (high - low) / 2
    step = 0
    while (tl.max(moving.to(tl.int32)) > 0) & (step < STEPS):
        newton, _, slope = _piece(edges, t, s, mu, z, tl.zeros_like(z), LEAVES_IMAGE, CUT)
        low, high = tl.where(slope < 0, z, low), tl.where(slope > 0, z, high)
        rounding = 4 * UNIT * (tl.abs(z) + mu)
        level = tl.abs(slope) <= slack
        safe = (newton >= low - rounding) & (newton <= high + rounding)
        if step % 3 == 2:  # a bracket that Newton's steps close from one side only is halved as well
            safe = safe & level
        proposed = tl.where(safe, newton, low + (high - low) / 2)
        proposed = tl.where((newton - newton != 0) & level, z, proposed)
        far = tl.abs(proposed - z) > rounding
        z = tl.where(moving, proposed, z)
        moving = moving & far
        step += 1
    return z


@triton.jit
def _flat_piece(
    edges: tl.tuple, t: tl.tensor, s: tl.tensor, mu: tl.tensor, z: tl.tensor, near: tl.tensor, slack: tl.tensor,
    undefined: tl.tensor, LEAVES_IMAGE: tl.constexpr, CUT: tl.constexpr,
) -> tl.tuple:  # fmt: skip
    """Tell whether the minimisers fill an interval, the first slots at its ends, and the middle of their values."""
    planes, seen, i, j, rows, columns, bias, weight, beyond, members, row_slots, column_slots, pixels, height, width = (
        edges
    )
    first = tl.full(z.shape, -1, tl.int32)
    second, lower, upper = first, tl.zeros_like(z), tl.zeros_like(z)
    curved = undefined
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
                    curved = curved | ((w > 0) & (tl.abs(v - z) < mu - near))
                    behind = (w > 0) & (v <= z) & ((first < 0) | (v > lower))
                    ahead = (w > 0) & (v >= z) & ((second < 0) | (v < upper))
                    first, lower = tl.where(behind, slot, first), tl.where(behind, v, lower)
                    second, upper = tl.where(ahead, slot, second), tl.where(ahead, v, upper)
                slot += 1
    between = (first >= 0) & (second >= 0)
    # z itself may lie at an end by rounding, where the derivative says nothing about the piece
    middle = tl.where(between, ((lower + mu) + (upper - mu)) / 2, z)
    _, _, slope = _piece(edges, t, s, mu, middle, tl.zeros_like(z), LEAVES_IMAGE, CUT)
    flat = ~curved & (tl.abs(slope) <= slack) & between
    return flat, first, second, lower / 2 + upper / 2


@triton.jit(do_not_specialize=SIZES)
def minimise(
    x: tl.tensor, bias: tl.tensor, weight: tl.tensor, tau: tl.tensor, cotau: tl.tensor, smoothing: tl.tensor,
    outside: tl.tensor, y: tl.tensor, endpoints: tl.tensor, rows: tl.tensor, columns: tl.tensor, row_slots: tl.tensor,
    column_slots: tl.tensor, inputs: tl.tensor, groups: tl.tensor, members: tl.tensor, samples: tl.tensor,
    channels: tl.tensor, pixels: tl.tensor, height: tl.tensor, width: tl.tensor, LEAVES_IMAGE: tl.constexpr,
    CUT: tl.constexpr, PART: tl.constexpr, UNIT: tl.constexpr, STEPS: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Write the minimiser and, on a flat piece, the first slots at its ends; -1 elsewhere. PART as in the quantile."""
    edges, channel, own, exists = edges_into(
        x, bias, weight, outside, rows, columns, row_slots, column_slots, inputs, groups, members,
        samples, channels, pixels, height, width, ROWS, COLUMNS,
    )  # fmt: skip
    t, s, mu = tl.load(tau + channel), tl.load(cotau + channel), tl.load(smoothing + channel)
    zero = tl.full((ROWS, COLUMNS), 0.0, x.dtype.element_ty)
    total, low, high, undefined = extent(edges, zero, True, LEAVES_IMAGE, CUT)
    slack = PART * tl.minimum(t, s) * total
    z = _safeguarded_newton(edges, t, s, mu, low, high, slack, ~undefined, UNIT, STEPS, LEAVES_IMAGE, CUT)
    near = 64 * UNIT * (tl.abs(z) + mu)
    flat, first, second, middle = _flat_piece(edges, t, s, mu, z, near, slack, undefined, LEAVES_IMAGE, CUT)
    solution, _, _, _ = choose_piece(edges, t, s, mu, z, near, LEAVES_IMAGE, CUT)
    solution = tl.where(flat, middle, solution)
    tl.store(y + own, tl.where(undefined, float("nan"), solution), mask=exists)
    tl.store(endpoints + own, tl.where(flat, first, -1), mask=exists)
    own += samples.to(tl.int64) * channels * height * width
    tl.store(endpoints + own, tl.where(flat, second, -1), mask=exists)
