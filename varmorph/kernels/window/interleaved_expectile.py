"""The separable expectile and its implicit gradient on interleaved planes, see `interleaved`, `expectile`, `expectile_gradient`.

A lane computes what the kernels compute that go plane by plane. Its parameters are its own: they lie in rows of `BLOCK` numbers,
four for each slot. Few arrays have many rows each, because the compiler compares the places of all arrays of a loop before it takes
many lanes at once, and gives up where they are many.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel, part, plus
from varmorph.kernels.taps import THREE, index, three
from varmorph.kernels.window.interleaved import BLOCK, FLUSHED, add_back, fill, read, shifts_of, write

__all__ = ["backward", "forward"]

ROOM = index(BLOCK)
# Rows of the parameters of a slot: offset, weight, offset or a number below all where the weight is 0, (2 tau - 1) weight.
OFFSET, WEIGHT, PRESENT, SCALED, SLOT = index(0), index(BLOCK), index(2 * BLOCK), index(3 * BLOCK), index(4 * BLOCK)
# Rows of the working memory.
ESTIMATE, LOW, GAP, HIGH = index(0), index(BLOCK), index(2 * BLOCK), index(3 * BLOCK)
MOMENT, TOTAL, MEAN = index(4 * BLOCK), index(5 * BLOCK), index(6 * BLOCK)
GREATEST, HEFT = index(7 * BLOCK), index(8 * BLOCK)
PULL, STIFFNESS, FURTHER = index(9 * BLOCK), index(10 * BLOCK), index(11 * BLOCK)
CURVATURE, SPREAD, Q = index(4 * BLOCK), index(5 * BLOCK), index(6 * BLOCK)
ROWS = 12
MOVED, TURNED = index(0), index(BLOCK)  # rows of the sums of a slot


@part
def _add_moments(sums: Any, first: int, lanes: int, copy: Any, start: int, shift: Any, p: Any) -> None:
    """Add w x of some edges."""
    for lane in range(lanes):
        j, i, target = index(lane), index(lane + start), index(lane + first)
        moment = sums[target]
        for k in range(len(shift)):
            moment += p[j + index(k) * SLOT + WEIGHT] * copy[i + shift[k]]
        sums[target] = moment


@part
def _find_greatest(work: Any, lanes: int, copy: Any, start: int, shift: Any, p: Any) -> None:
    """Raise the greatest value, and keep the weight of the edge that attains it."""
    for lane in range(lanes):
        j, i = index(lane), index(lane + start)
        most, weight = work[j + GREATEST], work[j + HEFT]
        for k in range(THREE):
            row = j + index(k) * SLOT
            v, w = copy[i + shift[k]] + p[row + PRESENT], p[row + WEIGHT]
            weight = w if v > most else weight
            most = v if v > most else most
        work[j + GREATEST] = most
        work[j + HEFT] = weight


@part
def _prepare(work: Any, lanes: int) -> None:
    """Take the greater of two points below the root: the mean, and the root if the greatest value alone were above."""
    for lane in range(lanes):
        j = index(lane)
        a, total, heft, low, gap = work[j + MOMENT], work[j + TOTAL], work[j + HEFT], work[j + LOW], work[j + GAP]
        mean = a / total
        alone = (low * a + gap * heft * work[j + GREATEST]) / (low * total + gap * heft)
        work[j + ESTIMATE] = alone if alone > mean else mean
        work[j + MEAN] = mean


@part
def _start_sums(work: Any, lanes: int) -> None:
    """Begin the sums of a round with what all edges add."""
    for lane in range(lanes):
        j = index(lane)
        work[j + PULL] = work[j + LOW] * work[j + MOMENT]
        work[j + STIFFNESS] = work[j + LOW] * work[j + TOTAL]


@part
def _add_above(work: Any, lanes: int, copy: Any, start: int, shift: Any, p: Any) -> None:
    """Add w v and w of a group of edges where v is at least the estimate."""
    zero = work.dtype.type(0)
    for lane in range(lanes):
        j, i = index(lane), index(lane + start)
        z, pull, stiffness = work[j + ESTIMATE], work[j + PULL], work[j + STIFFNESS]
        for k in range(THREE):
            row = j + index(k) * SLOT
            v, scaled = copy[i + shift[k]] + p[row + OFFSET], p[row + SCALED]
            above = scaled if v >= z else zero
            pull += above * v
            stiffness += above
        work[j + PULL] = pull
        work[j + STIFFNESS] = stiffness


@part
def _climb(work: Any, lanes: int) -> Any:
    """Take the Newton step where it goes up; count the lanes that moved: down is rounding."""
    kind = work.dtype.type
    moved = kind(0)
    for lane in range(lanes):
        j = index(lane)
        z, step = work[j + ESTIMATE], work[j + PULL] / work[j + STIFFNESS]
        work[j + FURTHER] = step if step > z else z
        moved = plus(moved, kind(step > z))
    return moved


@part
def _finish(work: Any, lanes: int) -> None:
    """Keep the estimate off the greatest value, which it reaches by rounding only: see `minimise_expectile`."""
    unit = work.dtype.type(np.finfo(work.dtype).eps)
    for lane in range(lanes):
        j = index(lane)
        estimate, most, mean = work[j + ESTIMATE], work[j + GREATEST], work[j + MEAN]
        below = most - unit * max(abs(most), most - mean)
        work[j + FURTHER] = below if (estimate >= most) & (most > mean) else estimate


@part
def _solve(work: Any, lanes: int, copy: Any, start: int, shift: Any, p: Any, never: Any, count: int) -> None:
    """Leave the greatest root of the Newton map at `FURTHER`; `MOMENT` holds sum w v, `TOTAL` sum w."""
    for lane in range(lanes):
        work[index(lane) + GREATEST] = 4 * never
        work[index(lane) + HEFT] = 0
    for t in range(0, count, THREE):
        _find_greatest(work, lanes, copy, start, three(shift, t), p[t * SLOT :])
    _prepare(work, lanes)
    for _ in range(count):
        _start_sums(work, lanes)
        for t in range(0, count, THREE):
            _add_above(work, lanes, copy, start, three(shift, t), p[t * SLOT :])
        if _climb(work, lanes) == 0:
            break
        for lane in range(lanes):
            work[index(lane) + ESTIMATE] = work[index(lane) + FURTHER]
    _finish(work, lanes)


@part
def _lay_out(
    first: int, planes: int, bias: Any, weight: Any, tau: Any, cotau: Any, lanes: int, turned: bool, never: Any, p: Any, work: Any,
    sign: Any,
) -> None:  # fmt: skip
    """Lay out the parameters of the lanes of a bundle, turned upside down where tau < 1/2 if that is asked for."""
    kind = work.dtype.type
    for k in range(lanes):
        c = (first + k % planes) % bias.shape[0]
        down = turned and tau[c] < cotau[c]
        sign[k] = kind(-1) if down else kind(1)
        low, high = (tau[c], cotau[c]) if down else (cotau[c], tau[c])
        j = index(k)
        work[j + LOW], work[j + HIGH], work[j + GAP] = low, high, high - low
        for t in range(bias.shape[1]):
            row, w = j + index(t) * SLOT, weight[c, t]
            p[row + OFFSET] = sign[k] * bias[c, t]
            p[row + WEIGHT] = w
            p[row + PRESENT] = p[row + OFFSET] if w > 0 else never
            p[row + SCALED] = (high - low) * w


@part
def _sum_parameters(
    totals: Any,
    offsets: Any,
    lane: int,
    inside: Any,
    cell: int,
    columns: int,
    planes: int,
    cells: Any,
    p: Any,
    count: int,
) -> None:
    """Write sum w and sum w b over the edges that start inside the image, for so many outputs."""
    for k in range(lane, lane + columns * planes):
        totals[k] = 0
        offsets[k] = 0
    for t in range(count):
        for c in range(columns):
            if inside[cell + c + cells[t]]:
                for k in range(c * planes, (c + 1) * planes):
                    row = index(k) + index(t) * SLOT
                    totals[lane + k] += p[row + WEIGHT]
                    offsets[lane + k] += p[row + WEIGHT] * p[row + OFFSET]


@part
def _block_outside(copy: Any, inside: Any, planes: int, value: Any) -> None:
    """Write a value into the cells that are outside the image."""
    for cell in range(inside.size):
        if not inside[cell]:
            for k in range(cell * planes, (cell + 1) * planes):
                copy[k] = value


@part
def _inside(rows: Any, columns: Any, cut: bool) -> Any:
    """Tell for each cell of the padded copy whether edges from there exist."""
    found = np.ones(rows.size * columns.size, np.bool_)
    if cut:
        for r in range(rows.size):
            for c in range(columns.size):
                found[r * columns.size + c] = (rows[r] >= 0) & (columns[c] >= 0)
    return found


@part
def _no_parameters(taps: int, never: Any) -> Any:
    """Make room for the parameters of so many slots, that say of each that it is absent."""
    p = np.zeros(taps * SLOT, type(never))
    for t in range(taps):
        for k in range(BLOCK):
            p[index(t) * SLOT + index(k) + PRESENT] = never
    return p


@kernel
def forward(
    x: Any, width: int, bias: Any, weight: Any, tau: Any, cotau: Any, rows: Any, columns: Any, offsets: Any, outside: Any,
    cut: bool, y: Any, out_width: int, planes: int, wide: int, start: int, stop: int,
) -> None:  # fmt: skip
    """Write the expectile of each window for the bundles start..stop; `wide` is the number of columns of a block.

    `cut` tells that edges from outside the image are absent; elsewhere they read `outside`.
    """
    dtype, count, pitch = x.dtype, offsets.size, columns.size
    kind = dtype.type
    channels, outputs = bias.shape[0], y.shape[1] * planes
    out_height = y.shape[1] // out_width
    never = kind(-np.finfo(dtype).max / 4)
    copy, inside, shift = (
        np.empty(rows.size * pitch * planes, dtype),
        _inside(rows, columns, cut),
        shifts_of(offsets, planes),
    )
    p = _no_parameters(shift.size, never)
    sign, work = np.empty(BLOCK, dtype), np.ones(ROWS * BLOCK, dtype)
    totals, constants, a = np.empty(outputs, dtype), np.empty(outputs, dtype), np.empty(outputs, dtype)
    whole = count // THREE * THREE
    phase = -1
    for bundle in range(start, stop):
        first = bundle * planes
        if first % channels != phase:
            phase = first % channels
            _lay_out(first, planes, bias, weight, tau, cotau, wide * planes, True, never, p, work, sign)
            for i in range(out_height):
                for c in range(0, out_width, wide):
                    lane, some = (i * out_width + c) * planes, min(wide, out_width - c)
                    _sum_parameters(totals, constants, lane, inside, i * pitch + c, some, planes, offsets, p, count)
        fill(copy, x, width, first, planes, rows, columns, sign, sign * (kind(0) if cut else outside))
        for lane in range(outputs):
            a[lane] = constants[lane]
        for i in range(out_height):
            for c in range(0, out_width, wide):
                lane, lanes = (i * out_width + c) * planes, min(wide, out_width - c) * planes
                cell = (i * pitch + c) * planes
                for t in range(0, whole, THREE):
                    _add_moments(a, lane, lanes, copy, cell, three(shift, t), p[t * SLOT :])
                for t in range(whole, count):  # not filled up: 0 times an infinite pixel would be NaN
                    _add_moments(a, lane, lanes, copy, cell, (shift[t],), p[t * SLOT :])
        if cut:
            _block_outside(copy, inside, planes, never)
        for i in range(out_height):
            for c in range(0, out_width, wide):
                lane, some = (i * out_width + c) * planes, min(wide, out_width - c)
                for k in range(some * planes):
                    work[index(k) + MOMENT] = a[lane + k]
                    work[index(k) + TOTAL] = totals[lane + k]
                _solve(work, some * planes, copy, (i * pitch + c) * planes, shift, p, never, count)
                read(y, work, np.int64(FURTHER), first, planes, i * out_width + c, some, sign)


@part
def _curve(work: Any, begin: int, end: int, copy: Any, start: int, p: Any) -> None:
    """Add w a and w abs(r) of an edge."""
    for lane in range(begin, end):
        j, i = index(lane), index(lane + start)
        r = copy[i] + p[j + OFFSET] - work[j + ESTIMATE]
        w, high, low = p[j + WEIGHT], work[j + HIGH], work[j + LOW]
        work[j + CURVATURE] += w * (high if r >= 0 else low)
        work[j + SPREAD] += w * abs(r)


@part
def _divide(work: Any, lanes: int, level: Any) -> None:
    """Divide the gradient by the curvature, and add its product with the spread to the sums for the levels."""
    kind = work.dtype.type
    for lane in range(lanes):
        j = index(lane)
        q = work[j + Q]
        # Lanes beyond the last plane carry gradient 0 and may have no curvature; 0 / 0 must not spread from there.
        divided = q / (work[j + CURVATURE] + kind(q == 0))
        work[j + Q] = divided
        level[j] += divided * work[j + SPREAD]


@part
def _pull_back(work: Any, begin: int, end: int, grad: Any, copy: Any, start: int, p: Any, sums: Any) -> None:
    """Give w a q to the cell from which an edge starts; add a q and a q r to the sums of its lanes."""
    for lane in range(begin, end):
        j, i = index(lane), index(lane + start)
        r = copy[i] + p[j + OFFSET] - work[j + ESTIMATE]
        high, low = work[j + HIGH], work[j + LOW]
        part = work[j + Q] * (high if r >= 0 else low)
        grad[i] += p[j + WEIGHT] * part
        sums[j + MOVED] += part
        sums[j + TURNED] += part * r


@part
def _existing(inside: Any, cell: int, columns: int) -> tuple[int, int]:
    """Give the first and the end of those of so many outputs in a row for which an edge exists."""
    first, end = 0, columns
    while first < end and not inside[cell + first]:
        first += 1
    while end > first and not inside[cell + end - 1]:
        end -= 1
    return first, end


@kernel
def backward(
    grad_y: Any, x: Any, y: Any, width: int, bias: Any, weight: Any, tau: Any, cotau: Any, rows: Any, columns: Any, offsets: Any,
    outside: Any, cut: bool, out_width: int, planes: int, wide: int, grad_x: Any, grad_bias: Any, grad_weight: Any,
    grad_tau: Any, start: int, stop: int,
) -> None:  # fmt: skip
    """Write the gradient of x for the bundles start..stop; those of the parameters as float64 sums a plane."""
    dtype, count, pitch = x.dtype, offsets.size, columns.size
    kind = dtype.type
    channels = bias.shape[0]
    out_height = y.shape[1] // out_width
    never = kind(-np.finfo(dtype).max / 4)
    copy, inside, shift = (
        np.empty(rows.size * pitch * planes, dtype),
        _inside(rows, columns, cut),
        shifts_of(offsets, planes),
    )
    grad, p = np.empty_like(copy), _no_parameters(shift.size, never)
    sign, work = np.empty(BLOCK, dtype), np.ones(ROWS * BLOCK, dtype)
    sums, level = np.zeros(count * 2 * BLOCK, dtype), np.zeros(BLOCK, dtype)
    phase = -1
    for bundle in range(start, stop):
        first = bundle * planes
        if first % channels != phase:
            phase = first % channels
            _lay_out(first, planes, bias, weight, tau, cotau, wide * planes, False, never, p, work, sign)
        fill(copy, x, width, first, planes, rows, columns, sign, sign * outside)
        grad[:] = 0
        for i in range(out_height):
            for c in range(0, out_width, wide):
                some, cell, pixel = min(wide, out_width - c), i * pitch + c, i * out_width + c
                write(work, np.int64(ESTIMATE), y, first, planes, pixel, some)
                write(work, np.int64(Q), grad_y, first, planes, pixel, some)
                for lane in range(some * planes):
                    work[index(lane) + CURVATURE] = 0
                    work[index(lane) + SPREAD] = 0
                for t in range(count):
                    begin, end = _existing(inside, cell + offsets[t], some)
                    source = (cell + offsets[t]) * planes
                    _curve(work, begin * planes, end * planes, copy, source, p[t * SLOT :])
                _divide(work, some * planes, level)
                for t in range(count):
                    begin, end = _existing(inside, cell + offsets[t], some)
                    source = (cell + offsets[t]) * planes
                    _pull_back(
                        work, begin * planes, end * planes, grad, copy, source, p[t * SLOT :], sums[2 * BLOCK * t :]
                    )
            if (i + 1) % FLUSHED == 0 or i + 1 == out_height:
                for k in range(wide * planes):
                    number, j = first + k % planes, index(k)
                    if number < x.shape[0]:
                        for t in range(count):
                            row = j + index(2 * BLOCK * t)
                            grad_bias[number, t] += p[j + index(t) * SLOT + WEIGHT] * sums[row + MOVED]
                            grad_weight[number, t] += sums[row + TURNED]
                        grad_tau[number] += level[k]
                sums[:] = 0
                level[:] = 0
        add_back(grad_x, grad, width, first, planes, rows, columns)
