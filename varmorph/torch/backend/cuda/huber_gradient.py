"""The implicit gradient of Huber's minimiser in programs, where it does not lie on a flat piece.

With f_k = w_k a_k and m_k = v_k - y where edge k is curved, mu sign(r_k) elsewhere, let D be the sum of f over the
curved edges and q = dL/dy / D. Neighbour k receives f_k q if it is curved, its weight a_k m_k q, tau the sum of
+-w_k m_k q, and mu that of f_k sign(r_k) q over the edges that are not curved.
"""

from __future__ import annotations

import triton
import triton.language as tl

from varmorph.torch.backend.cuda.huber import choose_piece
from varmorph.torch.backend.cuda.tiles import SIZES, divide, pulls, tile

__all__ = ["pull_back", "weigh"]


@triton.jit(do_not_specialize=SIZES)
def weigh(
    grad_y: tl.tensor, x: tl.tensor, y: tl.tensor, endpoints: tl.tensor, bias: tl.tensor, weight: tl.tensor, tau: tl.tensor,
    cotau: tl.tensor, smoothing: tl.tensor, outside: tl.tensor, q: tl.tensor, points: tl.tensor, ties: tl.tensor,
    bias_sums: tl.tensor, weight_sums: tl.tensor, tau_sums: tl.tensor, smoothing_sums: tl.tensor, rows: tl.tensor,
    columns: tl.tensor, row_slots: tl.tensor, column_slots: tl.tensor, samples: tl.tensor, channels: tl.tensor,
    pixels: tl.tensor, height: tl.tensor, width: tl.tensor, LEAVES_IMAGE: tl.constexpr, CUT: tl.constexpr,
    UNIT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Write q, and the point and tolerance that select the piece; for each program, the sums for the parameters."""
    channel, plane, i, j, exists = tile(samples, channels, height, width, ROWS, COLUMNS)
    image = x + (plane * pixels)[:, None]
    t, s, mu = tl.load(tau + channel), tl.load(cotau + channel), tl.load(smoothing + channel)
    beyond = tl.load(outside)
    bias += channel * row_slots * column_slots
    weight += channel * row_slots * column_slots
    bias_sums += tl.program_id(0).to(tl.int64) * row_slots * column_slots
    weight_sums += tl.program_id(0).to(tl.int64) * row_slots * column_slots
    own = (plane * height + i)[:, None] * width + j[None, :]
    solution = tl.load(y + own)
    implicit = exists & (tl.load(endpoints + own) < 0) & (solution == solution)
    z = tl.where(implicit, solution, 0.0)
    near = 64 * UNIT * (tl.abs(z) + mu)
    edges = (image, i, j, rows, columns, bias, weight, beyond, row_slots, column_slots, height, width)
    _, mass, point, near = choose_piece(edges, t, s, mu, z, near, LEAVES_IMAGE, CUT)
    gradient = divide(tl.where(implicit, tl.load(grad_y + own), 0.0), tl.where(implicit, mass, 1.0))
    tl.store(q + own, gradient, mask=exists)
    tl.store(points + own, point, mask=exists)
    tl.store(ties + own, near, mask=exists)
    one = tl.full((), 1.0, x.dtype.element_ty)
    level, smooth = tl.full(z.shape, 0.0, z.dtype), tl.full(z.shape, 0.0, z.dtype)
    for r in range(row_slots):
        row = tl.load(rows + r * height + i)
        for c in range(column_slots):
            slot = r * column_slots + c
            b, w = tl.load(bias + slot), tl.load(weight + slot)
            force, moment = tl.full(z.shape, 0.0, z.dtype), tl.full(z.shape, 0.0, z.dtype)
            if b != float("-inf"):
                v, there = pulls(image, row, tl.load(columns + c * width + j), b, one, beyond, LEAVES_IMAGE, CUT)
                residual = v - point
                curved = tl.abs(residual) <= mu + near
                side = tl.where(residual > 0, 1.0, -1.0).to(z.dtype)
                pulled = there * gradient * tl.where(curved, v - z, mu * side)
                pulled = tl.where(implicit, pulled, 0.0)
                factor = tl.where(residual >= -near, t, s)
                force = tl.where(implicit & curved, there * gradient * factor, 0.0)
                moment = pulled * factor
                level += w * tl.where(residual >= -near, pulled, -pulled)
                smooth += w * tl.where(implicit & ~curved, there * gradient * factor * side, 0.0)
            tl.store(bias_sums + slot, (w * tl.sum(force)).to(tl.float64))
            tl.store(weight_sums + slot, tl.sum(moment).to(tl.float64))
    tl.store(tau_sums + tl.program_id(0), tl.sum(level).to(tl.float64))
    tl.store(smoothing_sums + tl.program_id(0), tl.sum(smooth).to(tl.float64))


@triton.jit(do_not_specialize=SIZES)
def pull_back(
    q: tl.tensor, x: tl.tensor, points: tl.tensor, ties: tl.tensor, bias: tl.tensor, weight: tl.tensor,
    tau: tl.tensor, cotau: tl.tensor, smoothing: tl.tensor, grad_x: tl.tensor, slots: tl.tensor, row_slot: tl.tensor,
    row_reader: tl.tensor, row_depth: tl.tensor, column_slot: tl.tensor, column_reader: tl.tensor,
    column_depth: tl.tensor, samples: tl.tensor, channels: tl.tensor, outputs: tl.tensor, height: tl.tensor,
    width: tl.tensor, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Give each pixel the sum of w a q over the outputs that read it on the curved part of their penalty."""
    channel, plane, i, j, exists = tile(samples, channels, height, width, ROWS, COLUMNS)
    own = (plane * height + i)[:, None] * width + j[None, :]
    value = tl.load(x + own)
    t, s, mu = tl.load(tau + channel), tl.load(cotau + channel), tl.load(smoothing + channel)
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
                residual = value + b - tl.load(points + first + at, mask=at >= 0, other=0.0)
                near = tl.load(ties + first + at, mask=at >= 0, other=0.0)
                pull = tl.load(q + first + at, mask=at >= 0, other=0.0) * tl.where(residual >= -near, t, s)
                total += tl.load(weight + slot) * tl.where(tl.abs(residual) <= mu + near, pull, 0.0)
    tl.store(grad_x + own, total, mask=exists)
