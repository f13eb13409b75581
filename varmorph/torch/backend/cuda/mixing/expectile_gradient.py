"""The implicit gradient of expectiles over several channels: see `varmorph.torch.backend.cuda.expectile_gradient`.

A first program finds q = dL/dy / S of each output, a second one adds up for the edges of one member, a third one walks over the
readers of each pixel, in all output channels of its group: nothing is scattered.
"""

from __future__ import annotations

import triton
import triton.language as tl

from varmorph.torch.backend.cuda.mixing.edges import SIZES, edges_into, member, pulls
from varmorph.torch.backend.cuda.mixing.strips import LANES, strip, tile_at
from varmorph.torch.backend.cuda.tiles import divide, tile

__all__ = ["pull_back", "sum_by_edge", "weigh"]


@triton.jit(do_not_specialize=SIZES)
def weigh(
    grad_y: tl.tensor, x: tl.tensor, y: tl.tensor, bias: tl.tensor, weight: tl.tensor, tau: tl.tensor, cotau: tl.tensor,
    outside: tl.tensor, q: tl.tensor, tau_sums: tl.tensor, rows: tl.tensor, columns: tl.tensor, row_slots: tl.tensor,
    column_slots: tl.tensor, inputs: tl.tensor, groups: tl.tensor, members: tl.tensor, samples: tl.tensor,
    channels: tl.tensor, pixels: tl.tensor, height: tl.tensor, width: tl.tensor, LEAVES_IMAGE: tl.constexpr,
    CUT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Write q = dL/dy / S for each output and, for each program, the sum of the gradients of tau."""
    edges, channel, own, exists = edges_into(
        x, bias, weight, outside, rows, columns, row_slots, column_slots, inputs, groups, members,
        samples, channels, pixels, height, width, ROWS, COLUMNS,
    )  # fmt: skip
    planes, seen, i, j, _, _, bias, weight, beyond, _, _, _, _, _, _ = edges
    above, below = tl.load(tau + channel), tl.load(cotau + channel)
    z = tl.load(y + own)
    curvature, spread = tl.zeros_like(z), tl.zeros_like(z)
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
                    curvature += w * tl.where(residual >= 0, above, below)
                    spread += w * tl.abs(residual)
                slot += 1
    gradient = tl.load(grad_y + own, mask=exists, other=0.0)
    # An output without gradient may have no curvature; 0 / 0 must not spread from there.
    gradient = divide(gradient, tl.where(gradient == 0, curvature + 1, curvature))
    tl.store(q + own, gradient, mask=exists)
    tl.store(tau_sums + tl.program_id(0), tl.sum(tl.where(exists, gradient * spread, 0.0)).to(tl.float64))


@triton.jit(do_not_specialize=[*SIZES, "ROWS"])
def sum_by_edge(
    q: tl.tensor, x: tl.tensor, y: tl.tensor, bias: tl.tensor, weight: tl.tensor, tau: tl.tensor, cotau: tl.tensor,
    outside: tl.tensor, bias_sums: tl.tensor, weight_sums: tl.tensor, rows: tl.tensor, columns: tl.tensor,
    row_slots: tl.tensor, column_slots: tl.tensor, inputs: tl.tensor, groups: tl.tensor, members: tl.tensor,
    samples: tl.tensor, channels: tl.tensor, pixels: tl.tensor, height: tl.tensor, width: tl.tensor,
    LEAVES_IMAGE: tl.constexpr, CUT: tl.constexpr, ROWS: tl.tensor, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Write, for each edge of this program's member, the sums of the gradients of bias and weight."""
    owner, m, start, end, columns_here = strip(samples, channels, members, height, width, ROWS, COLUMNS)
    STEP: tl.constexpr = LANES // COLUMNS
    owners, seen = channels // members, inputs // groups
    above, below, beyond = tl.load(tau + owner), tl.load(cotau + owner), tl.load(outside)
    one = tl.full((), 1.0, x.dtype.element_ty)
    group, slots = owner // (owners // groups) * seen, row_slots * column_slots
    x, sign = member(x, m, seen, pixels)
    bias += (owner.to(tl.int64) * members + m) * slots
    weight += (owner.to(tl.int64) * members + m) * slots
    bias_sums += tl.program_id(0).to(tl.int64) * slots
    weight_sums += tl.program_id(0).to(tl.int64) * slots
    for r in range(row_slots):
        for c in range(column_slots):
            b = tl.load(bias)
            force, moment = tl.full((), 0.0, tl.float64), tl.full((), 0.0, tl.float64)
            if b != float("-inf"):
                for first in range(start, end, STEP):
                    sample, i, j, own, exists = tile_at(first, end, columns_here, owner, owners, height, width, STEP)
                    plane = x + ((sample * inputs + group) * pixels)[:, None]
                    row, column = tl.load(rows + r * height + i), tl.load(columns + c * width + j)
                    v, there = pulls(plane, sign, row, column, b, one, beyond, LEAVES_IMAGE, CUT)
                    residual = v - tl.load(y + own)
                    pull = there * tl.load(q + own) * tl.where(residual >= 0, above, below)
                    force += tl.sum(tl.where(exists, pull, 0.0)).to(tl.float64)
                    moment += tl.sum(tl.where(exists, pull * residual, 0.0)).to(tl.float64)
            tl.store(bias_sums, tl.load(weight) * force)
            tl.store(weight_sums, moment)
            bias += 1
            weight += 1
            bias_sums += 1
            weight_sums += 1


@triton.jit(do_not_specialize=SIZES)
def pull_back(
    q: tl.tensor, x: tl.tensor, y: tl.tensor, bias: tl.tensor, weight: tl.tensor, tau: tl.tensor, cotau: tl.tensor,
    grad_x: tl.tensor, slots: tl.tensor, row_slot: tl.tensor, row_reader: tl.tensor, row_depth: tl.tensor,
    column_slot: tl.tensor, column_reader: tl.tensor, column_depth: tl.tensor, groups: tl.tensor, members: tl.tensor,
    samples: tl.tensor, channels: tl.tensor, readers: tl.tensor, outputs: tl.tensor, height: tl.tensor, width: tl.tensor,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Give each pixel the sum of w a q over the outputs that read it, with the other sign where they read its negative."""
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
        above, below = tl.load(tau + o), tl.load(cotau + o)
        for m in range(channel % seen, members, seen):
            sign = tl.where(m < seen, 1.0, -1.0).to(value.dtype)
            for r in range(highest):
                row = tl.load(row_reader + r * height + i)
                for c in range(deepest):
                    slot = m * slots + tl.load(row_slot + r) + tl.load(column_slot + c)
                    b = tl.load(bias + slot)
                    if b != float("-inf"):
                        at = row[:, None] + tl.load(column_reader + c * width + j)[None, :]
                        residual = sign * value + b - tl.load(y + first + at, mask=at >= 0, other=0.0)
                        pull = tl.load(q + first + at, mask=at >= 0, other=0.0)
                        total += sign * tl.load(weight + slot) * (pull * tl.where(residual >= 0, above, below))
        bias += members * slots
        weight += members * slots
        first += outputs
    tl.store(grad_x + own, total, mask=exists)
