"""Expectile programs: Newton's method on a tile.

Where tau < 1/2 the problem is turned upside down (values change sign, tau becomes 1 - tau), so that Newton always climbs
and

    z <- ((1 - tau) A + (2 tau - 1) sum_{v_k >= z} w_k v_k) / ((1 - tau) W + (2 tau - 1) sum_{v_k >= z} w_k)

with A = sum w v and W = sum w over the edges that exist, taken once. A tile iterates until none of its lanes moves; a
lane that has come to rest stays there, so that its result does not depend on the tile.
"""

from __future__ import annotations

import triton
import triton.language as tl

from varmorph.torch.backend.cuda.tiles import SIZES, divide, pulls, read, tile

__all__ = ["climb", "climb_in_registers"]


@triton.jit
def _upwards(tau: tl.tensor, cotau: tl.tensor) -> tl.tuple:
    """Give the sign that makes Newton climb, the smaller of tau and 1 - tau, and how much larger the other is."""
    above, below = tl.load(tau), tl.load(cotau)
    return tl.where(above >= below, 1.0, -1.0).to(above.dtype), tl.minimum(above, below), tl.abs(above - below)


@triton.jit
def _step(
    z: tl.tensor, a: tl.tensor, total: tl.tensor, above: tl.tensor, mass: tl.tensor, low: tl.tensor, gap: tl.tensor
) -> tl.tuple:
    """Take the Newton step where it goes up, and tell whether it did anywhere: going down is rounding."""
    step = divide(low * a + gap * above, low * total + gap * mass)
    moved = step > z
    return tl.where(moved, step, z), tl.max(moved.to(tl.int32)) > 0


@triton.jit
def _keep_below(z: tl.tensor, mean: tl.tensor, greatest: tl.tensor, UNIT: tl.constexpr) -> tl.tensor:
    """Keep the estimate off the greatest value, which it reaches by rounding only: see `minimise_expectile`."""
    below = greatest - UNIT * tl.maximum(tl.abs(greatest), greatest - mean)
    return tl.where((z >= greatest) & (greatest > mean), below, z)


@triton.jit(do_not_specialize=SIZES)
def climb(
    x: tl.tensor, bias: tl.tensor, weight: tl.tensor, tau: tl.tensor, cotau: tl.tensor, outside: tl.tensor,
    y: tl.tensor, rows: tl.tensor, columns: tl.tensor, row_slots: tl.tensor, column_slots: tl.tensor,
    samples: tl.tensor, channels: tl.tensor, pixels: tl.tensor, height: tl.tensor, width: tl.tensor,
    LEAVES_IMAGE: tl.constexpr, CUT: tl.constexpr, UNIT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Write the expectile of each window, which every round reads again.

    CUT: edges from outside the image are absent; elsewhere they read `outside`.
    """
    channel, plane, i, j, exists = tile(samples, channels, height, width, ROWS, COLUMNS)
    image = x + (plane * pixels)[:, None]
    sign, low, gap = _upwards(tau + channel, cotau + channel)
    beyond = tl.load(outside)
    bias += channel * row_slots * column_slots
    weight += channel * row_slots * column_slots
    zero = tl.full((ROWS, COLUMNS), 0.0, x.dtype.element_ty)
    a, total, greatest = zero, zero, zero - float("inf")
    for r in range(row_slots):
        row = tl.load(rows + r * height + i)
        for c in range(column_slots):
            b = tl.load(bias + r * column_slots + c)
            if b != float("-inf"):
                w = tl.load(weight + r * column_slots + c)
                v, w = pulls(image, row, tl.load(columns + c * width + j), b, w, beyond, LEAVES_IMAGE, CUT)
                v *= sign
                a += w * v
                total += w
                greatest = tl.where((w > 0) & (v > greatest), v, greatest)
    mean = divide(a, total)
    z = mean
    rounds = 0
    moving = row_slots * column_slots > 0
    while moving:
        above, mass = zero, zero
        for r in range(row_slots):
            row = tl.load(rows + r * height + i)
            for c in range(column_slots):
                b = tl.load(bias + r * column_slots + c)
                if b != float("-inf"):
                    w = tl.load(weight + r * column_slots + c)
                    v, w = pulls(image, row, tl.load(columns + c * width + j), b, w, beyond, LEAVES_IMAGE, CUT)
                    v *= sign
                    above += tl.where(v >= z, w * v, 0.0)
                    mass += tl.where(v >= z, w, 0.0)
        z, moved = _step(z, a, total, above, mass, low, gap)
        rounds += 1
        moving = moved & (rounds < row_slots * column_slots)
    z = _keep_below(z, mean, tl.where(greatest > mean, greatest, mean), UNIT)
    tl.store(y + (plane * height + i)[:, None] * width + j[None, :], sign * z + 0.0, mask=exists)


@triton.jit(do_not_specialize=SIZES)
def climb_in_registers(
    x: tl.tensor, bias: tl.tensor, weight: tl.tensor, tau: tl.tensor, cotau: tl.tensor, outside: tl.tensor,
    y: tl.tensor, rows: tl.tensor, columns: tl.tensor, ROW_SLOTS: tl.constexpr, COLUMN_SLOTS: tl.constexpr,
    samples: tl.tensor, channels: tl.tensor, pixels: tl.tensor, height: tl.tensor, width: tl.tensor,
    LEAVES_IMAGE: tl.constexpr, CUT: tl.constexpr, UNIT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    """Write the expectile of each window, which is read once: for small windows. An absent edge never counts as above."""
    channel, plane, i, j, exists = tile(samples, channels, height, width, ROWS, COLUMNS)
    image = x + (plane * pixels)[:, None]
    sign, low, gap = _upwards(tau + channel, cotau + channel)
    beyond = tl.load(outside)
    bias += channel * ROW_SLOTS * COLUMN_SLOTS
    weight += channel * ROW_SLOTS * COLUMN_SLOTS
    zero = tl.full((ROWS, COLUMNS), 0.0, x.dtype.element_ty)
    a, total, greatest = zero, zero, zero - float("inf")
    values, weights = (), ()
    for t in tl.static_range(ROW_SLOTS * COLUMN_SLOTS):
        b = tl.broadcast_to(tl.load(bias + t), (ROWS, COLUMNS))
        w = tl.load(weight + t)
        row = tl.load(rows + t // COLUMN_SLOTS * height + i)
        at = row[:, None] + tl.load(columns + t % COLUMN_SLOTS * width + j)[None, :]
        v = sign * (read(image, at, beyond, LEAVES_IMAGE) + b)
        there = b != float("-inf")
        if CUT:
            there = there & (at >= 0)
        mass = tl.where(there, w, 0.0)
        a += tl.where(there, w * v, 0.0)
        total += mass
        greatest = tl.where((mass > 0) & (v > greatest), v, greatest)
        values = values + (tl.where(there, v, float("-inf")),)  # type: ignore[assignment]  # noqa: RUF005
        weights = weights + (w,)  # type: ignore[assignment]  # noqa: RUF005
    mean = divide(a, total)
    z = mean
    rounds = 0
    moving = ROW_SLOTS * COLUMN_SLOTS > 0
    while moving:
        above, mass = zero, zero
        for t in tl.static_range(ROW_SLOTS * COLUMN_SLOTS):
            counts = values[t] >= z
            above += tl.where(counts, weights[t] * values[t], 0.0)
            mass += tl.where(counts, weights[t], 0.0)
        z, moved = _step(z, a, total, above, mass, low, gap)
        rounds += 1
        moving = moved & (rounds < ROW_SLOTS * COLUMN_SLOTS)
    z = _keep_below(z, mean, tl.where(greatest > mean, greatest, mean), UNIT)
    tl.store(y + (plane * height + i)[:, None] * width + j[None, :], sign * z + 0.0, mask=exists)
