"""The separable expectile kernel: Newton's method on blocks of lanes.

Lanes are the cells of the padded copy in memory order. Where tau < 1/2 the problem is turned upside down (x, b, y change
sign, tau becomes 1 - tau), so that Newton always climbs and

    z <- ((1 - tau) A + (2 tau - 1) sum_{v_k >= z} w_k v_k) / ((1 - tau) W + (2 tau - 1) sum_{v_k >= z} w_k)

with A = sum w v and W = sum w over the edges that exist, taken once. An absent edge reads a number so low that it
never counts as above: the rounds need no mask.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel, plus
from varmorph.kernels.padded_plane import fill, read_lanes, rounded
from varmorph.kernels.taps import TAPS, group, index, list_slots

__all__ = ["ROOM", "add_moments", "forward", "list_edges", "solve"]

BLOCK = 256  # lanes that iterate together: few, so that they need few rounds

ROOM = 512  # for the lanes of a block of any length
# Nine numbers for each lane of a block lie in one array, `ROOM` apart. One array rather than nine, because the compiler
# proves then that writing to one part leaves the others alone, without which it does not vectorise.
ESTIMATE = index(0)
GREATEST, HEFT = index(ROOM), index(2 * ROOM)  # greatest value, and the weight of the edge that attains it
PULL, STIFFNESS = index(3 * ROOM), index(4 * ROOM)  # (1 - tau) A and (1 - tau) W
PULL_SUM, STIFFNESS_SUM = index(5 * ROOM), index(6 * ROOM)  # the same, and what edges above the estimate add
MEAN = index(7 * ROOM)
GOAL = index(8 * ROOM)
LEAP = 1.5  # where many edges compete the first step falls short by about so much


@kernel
def list_edges(bias: Any, weight: Any, offsets: Any, sign: Any, slots: Any, shift: Any, b: Any, w: Any) -> int:
    """List edges with finite offset: slots, flat offsets, sign * biases and weights, 0 for those that fill a group."""
    count = list_slots(bias, offsets, slots, shift, b)
    for t in range(b.size):
        b[t] = sign * b[t] if t < count else b.dtype.type(0)
        w[t] = weight[slots[t]] if t < count else b.dtype.type(0)
    return count


@kernel
def _add_present(mask: Any, cells: int, shift: Any, b: Any, w: Any, count: int, total: Any, offset: Any) -> None:
    """Write W = sum w and sum w b over the edges that start inside the image, for each output."""
    total[:] = 0
    offset[:] = 0
    for t in range(count):
        inside = mask[shift[t] :]
        wt, wb = w[t], w[t] * b[t]
        for j in range(cells):
            total[j] += wt * inside[j]
            offset[j] += wb * inside[j]


@kernel
def add_moments(a: Any, cells: int, copy: Any, shift: Any, w: Any) -> None:
    """Add w x of some edges."""
    for lane in range(cells):
        j = index(lane)
        moment = a[j]
        for k in range(len(shift)):
            moment += w[k] * copy[j + shift[k]]
        a[j] = moment


@kernel
def _find_greatest(work: Any, start: int, lanes: int, copy: Any, shift: Any, b: Any, w: Any) -> None:
    """Raise the greatest value, and keep the weight of the edge that attains it."""
    for lane in range(lanes):
        j, i = index(lane), index(lane + start)
        most, weight = work[j + GREATEST], work[j + HEFT]
        for k in range(TAPS):
            v = copy[i + shift[k]] + b[k]
            weight = w[k] if v > most else weight
            most = v if v > most else most
        work[j + GREATEST] = most
        work[j + HEFT] = weight


@kernel
def _prepare(work: Any, start: int, lanes: int, a: Any, total: Any, low: Any, gap: Any) -> None:
    """Take the greater of two points below the root: the mean, and the root if the greatest value alone were above."""
    for lane in range(lanes):
        j, i = index(lane), index(lane + start)
        pull, stiffness = low * a[i], low * total[i]
        mean = a[i] / total[i]
        alone = (pull + gap * work[j + HEFT] * work[j + GREATEST]) / (stiffness + gap * work[j + HEFT])
        work[j + ESTIMATE] = alone if alone > mean else mean
        work[j + MEAN] = mean
        work[j + PULL] = pull
        work[j + STIFFNESS] = stiffness


@kernel
def _start_sums(work: Any, lanes: int) -> None:
    """Begin the sums of a round with what all edges add."""
    for lane in range(lanes):
        work[index(lane) + PULL_SUM] = work[index(lane) + PULL]
    for lane in range(lanes):
        work[index(lane) + STIFFNESS_SUM] = work[index(lane) + STIFFNESS]


@kernel
def _sums_above(work: Any, j: Any, copy: Any, i: Any, shift: Any, b: Any, w: Any) -> Any:
    """Give the two sums of lane j, to which a group of edges adds w v and w where v is at least the estimate."""
    zero = work.dtype.type(0)
    z = work[j + ESTIMATE]
    pull, stiffness = work[j + PULL_SUM], work[j + STIFFNESS_SUM]
    for k in range(TAPS):
        v = copy[i + shift[k]] + b[k]
        above = w[k] if v >= z else zero
        pull += above * v
        stiffness += above
    return pull, stiffness


@kernel
def _add_above(work: Any, start: int, lanes: int, copy: Any, shift: Any, b: Any, w: Any) -> None:
    """Add w v and w of a group of edges where v is at least the estimate."""
    for lane in range(lanes):
        j = index(lane)
        pull, stiffness = _sums_above(work, j, copy, index(lane + start), shift, b, w)
        work[j + PULL_SUM] = pull
        work[j + STIFFNESS_SUM] = stiffness


@kernel
def _climb(work: Any, further: Any, start: int, lanes: int, copy: Any, shift: Any, b: Any, w: Any) -> Any:
    """Add the last group and take the Newton step where it goes up; count the lanes that moved: down is rounding.

    The estimates go to another array than they come from: read and stored at one place they become masked stores, which
    are slow on some processors.
    """
    kind = work.dtype.type
    moved = kind(0)
    for lane in range(lanes):
        j = index(lane)
        z = work[j + ESTIMATE]
        pull, stiffness = _sums_above(work, j, copy, index(lane + start), shift, b, w)
        step = pull / stiffness
        further[j] = step if step > z else z
        moved = plus(moved, kind(step > z))
    return moved


@kernel
def _leap(work: Any, further: Any, start: int, lanes: int, copy: Any, shift: Any, b: Any, w: Any) -> None:
    """Add the last group and go further than the Newton step, perhaps beyond the root; the step itself is kept at `GOAL`."""
    far = work.dtype.type(LEAP)
    for lane in range(lanes):
        j = index(lane)
        z = work[j + ESTIMATE]
        pull, stiffness = _sums_above(work, j, copy, index(lane + start), shift, b, w)
        step = pull / stiffness
        further[j] = z + far * (step - z) if step > z else z
        work[j + GOAL] = step if step > z else z


@kernel
def _land(work: Any, further: Any, start: int, lanes: int, copy: Any, shift: Any, b: Any, w: Any) -> None:
    """Add the last group and take the Newton step from wherever the leap ended: from beyond the root it leads back below."""
    for lane in range(lanes):
        j = index(lane)
        pull, stiffness = _sums_above(work, j, copy, index(lane + start), shift, b, w)
        step, known = pull / stiffness, work[j + GOAL]
        further[j] = step if step > known else known


@kernel
def _finish(z: Any, start: int, lanes: int, work: Any) -> None:
    """Keep the estimate off the greatest value, which it reaches by rounding only: see `minimise_expectile`."""
    unit = z.dtype.type(np.finfo(z.dtype).eps)
    for lane in range(lanes):
        j, i = index(lane), index(lane + start)
        estimate, most, mean = work[j + ESTIMATE], work[j + GREATEST], work[j + MEAN]
        below = most - unit * max(abs(most), most - mean)
        z[i] = below if (estimate >= most) & (most > mean) else estimate


@kernel
def solve(
    z: Any, start: int, stop: int, copy: Any, shift: Any, b: Any, w: Any, present: Any, scaled: Any, count: int, a: Any, total: Any,
    low: Any, gap: Any, never: Any, work: Any, further: Any, block: int, leap: bool,
) -> None:  # fmt: skip
    """Write the greatest root of the Newton map for the lanes start..stop, in blocks of at most `block` of them.

    leap : whether the first step is lengthened, which pays where many edges lie above the mean.

    present, scaled : b, or `never` where w is 0; and gap * w.
    """
    last = (count - 1) // TAPS * TAPS
    for s in range(start, stop, block):
        lanes = min(block, stop - s)
        work[GREATEST : GREATEST + lanes] = 4 * never
        work[HEFT : HEFT + lanes] = 0
        for t in range(0, count, TAPS):
            _find_greatest(work, s, lanes, copy, group(shift, t), group(present, t), group(w, t))
        _prepare(work, s, lanes, a, total, low, gap)
        for step in range(count + 2 if leap else count):
            _start_sums(work, lanes)
            for t in range(0, last, TAPS):
                _add_above(work, s, lanes, copy, group(shift, t), group(b, t), group(scaled, t))
            taps = group(shift, last), group(b, last), group(scaled, last)
            if leap and step == 0:
                _leap(work, further, s, lanes, copy, *taps)
            elif leap and step == 1:
                _land(work, further, s, lanes, copy, *taps)
            elif _climb(work, further, s, lanes, copy, *taps) == 0:
                break
            for lane in range(lanes):
                work[index(lane) + ESTIMATE] = further[lane]
        _finish(z, s, lanes, work)


@kernel
def forward(
    x: Any,
    bias: Any,
    weight: Any,
    tau: Any,
    cotau: Any,
    rows: Any,
    columns: Any,
    offsets: Any,
    outside: Any,
    cut: bool,
    y: Any,
    start: int,
    stop: int,
) -> None:
    """Write the expectile of each window for the planes start..stop, counted channel by channel.

    `cut` tells that edges from outside the image are absent; elsewhere they read `outside`.
    """
    samples, dtype = x.shape[0], x.dtype
    kind = dtype.type
    pitch = columns.size
    cells = rounded((y.shape[2] - 1) * pitch + y.shape[3], BLOCK)
    copy = np.empty(max(cells + offsets.max(), rows.size * pitch), dtype)
    never = kind(-np.finfo(dtype).max / 4)
    mask, barrier = np.empty_like(copy), np.empty_like(copy)
    fill(mask, np.ones((x.shape[2], x.shape[3]), dtype), rows, columns, kind(1), kind(0))
    fill(barrier, np.zeros((x.shape[2], x.shape[3]), dtype), rows, columns, kind(1), never)
    a, total, offset, z = np.empty(cells, dtype), np.empty(cells, dtype), np.empty(cells, dtype), np.empty(cells, dtype)
    work, further = np.zeros(9 * ROOM, dtype), np.zeros(ROOM, dtype)
    room = offsets.size + TAPS
    slots, shift, b, w = np.zeros(room, np.int64), np.zeros(room, index), np.zeros(room, dtype), np.zeros(room, dtype)
    channel = -1
    count = 0
    for p in range(start, stop):
        c, n = p // samples, p % samples
        sign = kind(1) if tau[c] >= cotau[c] else kind(-1)
        if c != channel:
            channel = c
            count = list_edges(bias[c], weight[c], offsets, sign, slots, shift, b, w)
            total[:] = w[:count].sum()
            offset[:] = (w[:count] * b[:count]).sum()
            if cut:
                _add_present(mask, cells, shift, b, w, count, total, offset)
        fill(copy, x[n, c], rows, columns, sign, sign * outside)
        for j in range(cells):
            a[j] = offset[j]
        whole = count // TAPS * TAPS
        for t in range(0, whole, TAPS):
            add_moments(a, cells, copy, group(shift, t), group(w, t))
        for t in range(whole, count):  # not filled up: 0 times an infinite pixel would be NaN
            add_moments(a, cells, copy, (shift[t],), (w[t],))
        if cut:
            for j in range(copy.size):
                copy[j] += barrier[j]
        low, gap = min(tau[c], cotau[c]), abs(tau[c] - cotau[c])
        present, scaled = np.where(w > 0, b, never), gap * w
        solve(
            z,
            0,
            cells,
            copy,
            shift,
            b,
            w,
            present,
            scaled,
            count,
            a,
            total,
            low,
            gap,
            never,
            work,
            further,
            BLOCK,
            False,
        )
        read_lanes(y[n, c], z, pitch, sign)
