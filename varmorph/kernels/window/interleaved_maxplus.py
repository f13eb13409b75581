"""Max-plus kernels on interleaved planes, see `interleaved` and `maxplus`: the same numbers, several small planes at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel, part
from varmorph.kernels.taps import THREE, index, three
from varmorph.kernels.window.interleaved import BLOCK, FLUSHED, add_back, fill, read, shifts_of, write

__all__ = ["backward", "forward"]

ROOM = index(BLOCK)
BEST, SLOT = index(0), index(BLOCK)  # rows of the working memory
GRAD = BEST


@part
def _raise(work: Any, lanes: int, copy: Any, start: int, shift: Any, b: Any, first: int) -> None:
    """Replace each running maximum that a slot of the group exceeds, with its number; the first NaN stays."""
    kind = work.dtype.type
    for lane in range(lanes):
        j, i = index(lane), index(lane + start)
        m, s = work[j + BEST], work[j + SLOT]
        for k in range(THREE):
            v = copy[i + shift[k]] + b[j + index(k) * ROOM]
            take = (not (v <= m)) & (m == m)
            m = v if take else m
            s = kind(first + k) if take else s
        work[j + BEST] = m
        work[j + SLOT] = s


@kernel
def forward(
    x: Any, width: int, raised: int, bias: Any, rows: Any, columns: Any, offsets: Any, beyond: Any, y: Any, chosen: Any,
    out_width: int, planes: int, wide: int, start: int, stop: int,
) -> None:  # fmt: skip
    """Write max(x + bias), or min(x - bias) for channels from `raised` on, and the slot that attains it.

    Done for the bundles start..stop. A window of -inf alone has no slot that attains anything: the number of slots is
    written. No slots are written if `chosen` is empty. `beyond` is what lies outside, times the signs 1 and -1.
    """
    dtype, count, channels = x.dtype, offsets.size, bias.shape[0]
    kind = dtype.type
    copy, shift = np.empty(rows.size * columns.size * planes, dtype), shifts_of(offsets, planes)
    signs, ends, ones = np.empty(planes, dtype), np.empty(planes, dtype), np.full(planes, kind(1))
    b = np.zeros(shift.size * BLOCK, dtype)
    work = np.zeros(2 * BLOCK, dtype)
    phase = -1
    for bundle in range(start, stop):
        first = bundle * planes
        if first % channels != phase:
            phase = first % channels
            for k in range(planes):
                above = (first + k) % channels < raised
                signs[k] = kind(1) if above else kind(-1)
                ends[k] = beyond[0] if above else beyond[1]
            for t in range(shift.size):  # the last is repeated, and never greater than itself
                for k in range(wide * planes):
                    b[t * BLOCK + k] = bias[(first + k % planes) % channels, min(t, count - 1)]
        fill(copy, x, width, first, planes, rows, columns, signs, ends)
        for i in range(y.shape[1] // out_width):
            for c in range(0, out_width, wide):
                some, pixel = min(wide, out_width - c), i * out_width + c
                lanes = some * planes
                for lane in range(lanes):
                    work[index(lane) + BEST] = -np.inf
                    work[index(lane) + SLOT] = count
                for t in range(0, count, THREE):
                    _raise(work, lanes, copy, (i * columns.size + c) * planes, three(shift, t), b[t * BLOCK :], t)
                read(y, work, np.int64(BEST), first, planes, pixel, some, signs)
                if chosen.size > 0:
                    read(chosen, work, np.int64(SLOT), first, planes, pixel, some, ones)


@part
def _give(work: Any, lanes: int, grad: Any, start: int, number: Any, sums: Any) -> None:
    """Give the gradients of the outputs that chose a slot to the cells that it reads, and to the sums of its lanes."""
    zero = work.dtype.type(0)
    for lane in range(lanes):
        j, i = index(lane), index(lane + start)
        given = work[j + GRAD]
        given = given if work[j + SLOT] == number else zero
        grad[i] += given
        sums[j] += given


@kernel
def backward(
    grad_y: Any, chosen: Any, width: int, rows: Any, columns: Any, offsets: Any, out_width: int, planes: int, wide: int,
    grad_x: Any, grad_bias: Any, start: int, stop: int,
) -> None:  # fmt: skip
    """Write the gradients of x, and of bias up to the sign as float64 sums a plane, for the bundles start..stop."""
    dtype, count = grad_y.dtype, offsets.size
    kind = dtype.type
    grad, work = np.empty(rows.size * columns.size * planes, dtype), np.zeros(2 * BLOCK, dtype)
    sums = np.zeros(count * BLOCK, dtype)
    out_height = grad_y.shape[1] // out_width
    for bundle in range(start, stop):
        first = bundle * planes
        grad[:] = 0
        for i in range(out_height):
            for c in range(0, out_width, wide):
                some, cell, pixel = min(wide, out_width - c), i * columns.size + c, i * out_width + c
                write(work, np.int64(GRAD), grad_y, first, planes, pixel, some)
                write(work, np.int64(SLOT), chosen, first, planes, pixel, some)
                for t in range(count):
                    _give(work, some * planes, grad, (cell + offsets[t]) * planes, kind(t), sums[t * BLOCK :])
            if (i + 1) % FLUSHED == 0 or i + 1 == out_height:
                for k in range(wide * planes):
                    number = first + k % planes
                    if number < grad_x.shape[0]:
                        for t in range(count):
                            grad_bias[number, t] += sums[t * BLOCK + k]
                sums[:] = 0
        add_back(grad_x, grad, width, first, planes, rows, columns)
