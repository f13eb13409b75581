"""The implicit gradient of Huber's minimiser over several channels, away from flat pieces.

The formulas are those of `varmorph.torch.backend.cuda.huber_gradient`, the programs those of the expectile:
`varmorph.torch.backend.cuda.mixing.expectile_gradient`.
"""

from __future__ import annotations

import triton
import triton.language as tl

from varmorph.torch.backend.cuda.mixing.edges import SIZES, edges_into, member, pulls
from varmorph.torch.backend.cuda.mixing.huber import choose_piece
from varmorph.torch.backend.cuda.mixing.strips import LANES, strip, tile_at
from varmorph.torch.backend.cuda.tiles import divide, tile

__all__ = ["pull_back", "sum_by_edge", "weigh"]


@triton.jit(do_not_specialize=SIZES)
def weigh(
    grad_y: tl.tensor, x: tl.tensor, y: tl.tensor, endpoints: tl.tensor, bias: tl.tensor, weight: tl.tensor, tau: tl.tensor,
    cotau: tl.tensor, smoothing: tl.tensor, outside: tl.tensor, q: tl.tensor, points: tl.tensor, ties: tl.tensor,
    rows: tl.tensor, columns: tl.tensor, row_slots: tl.tensor, column_slots: tl.tensor, inputs: tl.tensor,
    groups: tl.tensor, members: tl.tensor, samples: tl.tensor, channels: tl.tensor, pixels: tl.tensor, height: tl.tensor,
    width: tl.tensor, LEAVES_IMAGE: tl.constexpr, CUT: tl.constexpr, UNIT: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Write q, 0 where the solution is not implicit, and the point and tolerance that select the piece."""
    edges, channel, own, exists = edges_into(
        x, bias, weight, outside, rows, columns, row_slots, column_slots, inputs, groups, members,
        samples, channels, pixels, height, width, ROWS, COLUMNS,
    )  # fmt: skip
    t, s, mu = tl.load(tau + channel), tl.load(cotau + channel), tl.load(smoothing + channel)
    solution = tl.load(y + own)
    implicit = (tl.load(endpoints + own) < 0) & (solution == solution)
    z = tl.where(implicit, solution, 0.0)
    near = 64 * UNIT * (tl.abs(z) + mu)
    _, mass, point, near = choose_piece(edges, t, s, mu, z, near, LEAVES_IMAGE, CUT)
    gradient = divide(tl.where(implicit, tl.load(grad_y + own), 0.0), tl.where(implicit, mass, 1.0))
    tl.store(q + own, gradient, mask=exists)
    tl.store(points + own, point, mask=exists)
    tl.store(ties + own, near, mask=exists)


@triton.jit(do_not_specialize=[*SIZES, "ROWS"])
def sum_by_edge(
    q: tl.tensor, points: tl.tensor, ties: tl.tensor, x: tl.tensor, y: tl.tensor, bias: tl.tensor, weight: tl.tensor,
    tau: tl.tensor, cotau: tl.tensor, smoothing: tl.tensor, outside: tl.tensor, bias_sums: tl.tensor,
    weight_sums: tl.tensor, tau_sums: tl.tensor, smoothing_sums: tl.tensor, rows: tl.tensor, columns: tl.tensor,
    row_slots: tl.tensor, column_slots: tl.tensor, inputs: tl.tensor, groups: tl.tensor, members: tl.tensor,
    samples: tl.tensor, channels: tl.tensor, pixels: tl.tensor, height: tl.tensor, width: tl.tensor,
    LEAVES_IMAGE: tl.constexpr, CUT: tl.constexpr, ROWS: tl.tensor, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Write, for each edge of this program's member, the sums for bias and weight; for all of them, those for tau and mu."""
    owner, m, start, end, columns_here = strip(samples, channels, members, height, width, ROWS, COLUMNS)
    STEP: tl.constexpr = LANES // COLUMNS
    owners, seen = channels // members, inputs // groups
    t, s, mu = tl.load(tau + owner), tl.load(cotau + owner), tl.load(smoothing + owner)
    beyond = tl.load(outside)
    one = tl.full((), 1.0, x.dtype.element_ty)
    group, slots = owner // (owners // groups) * seen, row_slots * column_slots
    x, sign = member(x, m, seen, pixels)
    bias += (owner.to(tl.int64) * members + m) * slots
    weight += (owner.to(tl.int64) * members + m) * slots
    bias_sums += tl.program_id(0).to(tl.int64) * slots
    weight_sums += tl.program_id(0).to(tl.int64) * slots
    level, smooth = tl.full((), 0.0, tl.float64), tl.full((), 0.0, tl.float64)
    for r in range(row_slots):
        for c in range(column_slots):
            b, w = tl.load(bias), tl.load(weight)
            force, moment = tl.full((), 0.0, tl.float64), tl.full((), 0.0, tl.float64)
            if b != float("-inf"):
                for first in range(start, end, STEP):
                    sample, i, j, own, exists = tile_at(first, end, columns_here, owner, owners, height, width, STEP)
                    plane = x + ((sample * inputs + group) * pixels)[:, None]
                    row, column = tl.load(rows + r * height + i), tl.load(columns + c * width + j)
                    v, there = pulls(plane, sign, row, column, b, one, beyond, LEAVES_IMAGE, CUT)
                    gradient = tl.load(q + own)
                    implicit = exists & (gradient != 0)
                    near = tl.load(ties + own)
                    residual = v - tl.load(points + own)
                    curved = tl.abs(residual) <= mu + near
                    side = tl.where(residual > 0, 1.0, -1.0).to(v.dtype)
                    pulled = there * gradient * tl.where(curved, v - tl.load(y + own), mu * side)
                    pulled = tl.where(implicit, pulled, 0.0)
                    factor = tl.where(residual >= -near, t, s)
                    push = tl.where(implicit, there * gradient * factor, 0.0)
                    force += tl.sum(tl.where(curved, push, 0.0)).to(tl.float64)
                    moment += tl.sum(pulled * factor).to(tl.float64)
                    level += w * tl.sum(tl.where(residual >= -near, pulled, -pulled)).to(tl.float64)
                    smooth += w * tl.sum(tl.where(curved, 0.0, push * side)).to(tl.float64)
            tl.store(bias_sums, w * force)
            tl.store(weight_sums, moment)
            bias += 1
            weight += 1
            bias_sums += 1
            weight_sums += 1
    tl.store(tau_sums + tl.program_id(0), level)
    tl.store(smoothing_sums + tl.program_id(0), smooth)


@triton.jit(do_not_specialize=SIZES)
def pull_back(
    q: tl.tensor, points: tl.tensor, ties: tl.tensor, x: tl.tensor, bias: tl.tensor, weight: tl.tensor, tau: tl.tensor,
    cotau: tl.tensor, smoothing: tl.tensor, grad_x: tl.tensor, slots: tl.tensor, row_slot: tl.tensor,
    row_reader: tl.tensor, row_depth: tl.tensor, column_slot: tl.tensor, column_reader: tl.tensor,
    column_depth: tl.tensor, groups: tl.tensor, members: tl.tensor, samples: tl.tensor, channels: tl.tensor,
    readers: tl.tensor, outputs: tl.tensor, height: tl.tensor, width: tl.tensor, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Give each pixel the sum of w a q over the outputs that read it, or its negative, on the curved part of their penalty."""
    channel, plane, i, j, exists = tile(samples, channels, height, width, ROWS, COLUMNS)
    own = (plane * height + i)[:, None] * width + j[None, :]
    value = tl.load(x + own)
    seen, fan = channels // groups, readers // groups
    owner = channel // seen * fan
    first = ((plane // channels * readers + owner) * outputs)[:, None]
    bias += owner.to(tl.int64) * members * slots
    weight += owner.to(tl.int64) * members * slots
    total = tl.zeros_like(value)
    deepest, highest = tl.max(tl.load(column_depth + j)), tl.max(tl.load(row_depth + i))
    for o in range(owner, owner + fan):
        t, s, mu = tl.load(tau + o), tl.load(cotau + o), tl.load(smoothing + o)
        for m in range(channel % seen, members, seen):
            sign = tl.where(m < seen, 1.0, -1.0).to(value.dtype)
            for r in range(highest):
                row = tl.load(row_reader + r * height + i)
                for c in range(deepest):
                    slot = m * slots + tl.load(row_slot + r) + tl.load(column_slot + c)
                    b = tl.load(bias + slot)
                    if b != float("-inf"):
                        at = row[:, None] + tl.load(column_reader + c * width + j)[None, :]
                        residual = sign * value + b - tl.load(points + first + at, mask=at >= 0, other=0.0)
                        near = tl.load(ties + first + at, mask=at >= 0, other=0.0)
                        pull = tl.load(q + first + at, mask=at >= 0, other=0.0) * tl.where(residual >= -near, t, s)
                        w = sign * tl.load(weight + slot)
                        total += w * tl.where(tl.abs(residual) <= mu + near, pull, 0.0)
        bias += members * slots
        weight += members * slots
        first += outputs
    tl.store(grad_x + own, total, mask=exists)
