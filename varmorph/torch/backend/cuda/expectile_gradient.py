"""The implicit gradient of the expectile in programs: the signs of the residuals are found again from the solution.

With a_k = tau where r_k = v_k - y >= 0 and 1 - tau elsewhere, S = sum w a and q = dL/dy / S, neighbour k receives
w_k a_k q, its weight a_k r_k q, and tau sum_k w_k abs(r_k) q. A first program walks over the slots of each output and
finds q and the sums for the parameters, a second one over the readers of each pixel: nothing is scattered.
"""

from __future__ import annotations

import triton
import triton.language as tl

from varmorph.torch.backend.cuda.tiles import SIZES, divide, pulls, tile

__all__ = ["pull_back", "weigh"]


@triton.jit(do_not_specialize=SIZES)
def weigh(
    grad_y: tl.tensor, x: tl.tensor, y: tl.tensor, bias: tl.tensor, weight: tl.tensor, tau: tl.tensor,
    cotau: tl.tensor, outside: tl.tensor, q: tl.tensor, bias_sums: tl.tensor, weight_sums: tl.tensor,
    tau_sums: tl.tensor, rows: tl.tensor, columns: tl.tensor, row_slots: tl.tensor, column_slots: tl.tensor,
    samples: tl.tensor, channels: tl.tensor, pixels: tl.tensor, height: tl.tensor, width: tl.tensor,
    LEAVES_IMAGE: tl.constexpr, CUT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Write q = dL/dy / S for each output and, for each program, the sums of the gradients of the parameters."""
    channel, plane, i, j, exists = tile(samples, channels, height, width, ROWS, COLUMNS)
    image = x + (plane * pixels)[:, None]
    above, below, beyond = tl.load(tau + channel), tl.load(cotau + channel), tl.load(outside)
    bias += channel * row_slots * column_slots
    weight += channel * row_slots * column_slots
    bias_sums += tl.program_id(0).to(tl.int64) * row_slots * column_slots
    weight_sums += tl.program_id(0).to(tl.int64) * row_slots * column_slots
    own = (plane * height + i)[:, None] * width + j[None, :]
    z = tl.load(y + own)
    one = tl.full((), 1.0, x.dtype.element_ty)
    curvature = tl.full((ROWS, COLUMNS), 0.0, x.dtype.element_ty)
    spread = tl.full((ROWS, COLUMNS), 0.0, x.dtype.element_ty)
    for r in range(row_slots):
        row = tl.load(rows + r * height + i)
        for c in range(column_slots):
            b = tl.load(bias + r * column_slots + c)
            if b != float("-inf"):
                w = tl.load(weight + r * column_slots + c)
                v, w = pulls(image, row, tl.load(columns + c * width + j), b, w, beyond, LEAVES_IMAGE, CUT)
                residual = v - z
                curvature += w * tl.where(residual >= 0, above, below)
                spread += w * tl.abs(residual)
    gradient = tl.load(grad_y + own, mask=exists, other=0.0)
    # An output without gradient may have no curvature; 0 / 0 must not spread from there.
    gradient = divide(gradient, tl.where(gradient == 0, curvature + 1, curvature))
    tl.store(q + own, gradient, mask=exists)
    tl.store(tau_sums + tl.program_id(0), tl.sum(tl.where(exists, gradient * spread, 0.0)).to(tl.float64))
    for r in range(row_slots):
        row = tl.load(rows + r * height + i)
        for c in range(column_slots):
            slot = r * column_slots + c
            b = tl.load(bias + slot)
            force = tl.full((ROWS, COLUMNS), 0.0, x.dtype.element_ty)
            moment = tl.full((ROWS, COLUMNS), 0.0, x.dtype.element_ty)
            if b != float("-inf"):
                v, there = pulls(image, row, tl.load(columns + c * width + j), b, one, beyond, LEAVES_IMAGE, CUT)
                residual = v - z
                force = tl.where(exists, gradient * there * tl.where(residual >= 0, above, below), 0.0)
                moment = tl.where(exists, force * residual, 0.0)
            tl.store(bias_sums + slot, (tl.load(weight + slot) * tl.sum(force)).to(tl.float64))
            tl.store(weight_sums + slot, tl.sum(moment).to(tl.float64))


@triton.jit(do_not_specialize=SIZES)
def pull_back(
    q: tl.tensor, x: tl.tensor, y: tl.tensor, bias: tl.tensor, weight: tl.tensor, tau: tl.tensor, cotau: tl.tensor,
    grad_x: tl.tensor, slots: tl.tensor, row_slot: tl.tensor, row_reader: tl.tensor, row_depth: tl.tensor,
    column_slot: tl.tensor, column_reader: tl.tensor, column_depth: tl.tensor,
    samples: tl.tensor, channels: tl.tensor, outputs: tl.tensor, height: tl.tensor, width: tl.tensor,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Give each pixel the sum of w a q over the outputs that read it."""
    channel, plane, i, j, exists = tile(samples, channels, height, width, ROWS, COLUMNS)
    own = (plane * height + i)[:, None] * width + j[None, :]
    value = tl.load(x + own)
    above, below = tl.load(tau + channel), tl.load(cotau + channel)
    bias += channel * slots
    weight += channel * slots
    first = (plane * outputs)[:, None]
    total = tl.full((ROWS, COLUMNS), 0.0, x.dtype.element_ty)
    deepest = tl.max(tl.load(column_depth + j))
    for r in range(tl.max(tl.load(row_depth + i))):
        row = tl.load(row_reader + r * height + i)
        for c in range(deepest):
            slot = tl.load(row_slot + r) + tl.load(column_slot + c)
            b = tl.load(bias + slot)
            if b != float("-inf"):
                at = row[:, None] + tl.load(column_reader + c * width + j)[None, :]
                residual = value + b - tl.load(y + first + at, mask=at >= 0, other=0.0)
                pull = tl.load(q + first + at, mask=at >= 0, other=0.0)
                total += tl.load(weight + slot) * (pull * tl.where(residual >= 0, above, below))
    tl.store(grad_x + own, total, mask=exists)
