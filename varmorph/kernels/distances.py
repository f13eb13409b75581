"""The l_p distance and its gradient on the CPU, on blocks of positions that lie side by side in memory.

p is an integer, so that a power is a few multiplications of whole rows; every power is that of a number in [0, 1].
"""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel, part, plus
from varmorph.kernels.threads import over_planes

__all__ = ["blocks_of", "distances", "gradients", "rows_of", "send_back"]

LANES = 256  # positions of a block


@part
def _power(base: Any, result: Any, exponent: int) -> None:
    """Raise each number of a row to a power of at least 1, by squaring."""
    bits = 0
    while exponent >> (bits + 1):
        bits += 1
    for j in range(base.size):
        result[j] = base[j]
    for bit in range(bits - 1, -1, -1):
        if (exponent >> bit) & 1:
            for j in range(base.size):
                result[j] = result[j] * result[j] * base[j]
        else:
            for j in range(base.size):
                result[j] = result[j] * result[j]


@part
def _shares(x: Any, keep: Any, centre: Any, inverse: Any, share: Any) -> None:
    """Divide the differences of a row by the norm, or by the greatest; what is not kept is 0."""
    for j in range(share.size):
        share[j] = abs(x[j] - centre) * inverse[j]
        if keep is not None:
            share[j] *= keep[j]


@part
def send_back(x: Any, centre: Any, share: Any, given: Any, found: Any) -> Any:
    """Add to the gradients of a row its share of those given, with the sign of x - centre; return the sum."""
    total = found.dtype.type(0)
    for j in range(found.size):
        to_edge = (share[j] if x[j] > centre else -share[j]) * given[j]
        found[j] += to_edge
        total = plus(total, to_edge)
    return total


@kernel
def _forward(columns: Any, kept: Any, centres: Any, p: int, y: Any, start: int, stop: int) -> None:
    """Divide by the greatest difference, sum the powers, multiply again."""
    kind, lanes = columns.dtype.type, columns.shape[2]
    root, smallest = kind(1 / p), np.finfo(columns.dtype).tiny
    greatest, inverse, total = np.empty(lanes, kind), np.empty(lanes, kind), np.empty(lanes, kind)
    share, power = np.empty(lanes, kind), np.empty(lanes, kind)
    for block in range(start, stop):
        for o in range(centres.shape[0]):
            greatest[:] = 0
            for k in range(columns.shape[1]):
                x, centre = columns[block, k], centres[o, k]
                for j in range(lanes):
                    difference = abs(x[j] - centre)
                    if kept is not None:
                        difference *= kept[block, k, j]
                    greatest[j] = greatest[j] if difference <= greatest[j] else difference  # NaN is taken
            for j in range(lanes):
                inverse[j] = kind(0) if greatest[j] <= smallest else kind(1) / greatest[j]
            total[:] = 0
            for k in range(columns.shape[1]):
                _shares(columns[block, k], None if kept is None else kept[block, k], centres[o, k], inverse, share)
                _power(share, power, p)
                for j in range(lanes):
                    total[j] += power[j]
            row = y[block, o]
            for j in range(lanes):
                row[j] = greatest[j] * total[j] ** root


@kernel
def _backward(
    columns: Any,
    kept: Any,
    centres: Any,
    p: int,
    y: Any,
    grad_y: Any,
    grad_columns: Any,
    grad_centres: Any,
    start: int,
    stop: int,
) -> None:
    """Send sign(d) (|d| / y)^(p - 1) to each edge; each block has its own sums for the centres."""
    kind, lanes, smallest = columns.dtype.type, columns.shape[2], np.finfo(columns.dtype).tiny
    inverse, share, power = np.empty(lanes, kind), np.empty(lanes, kind), np.empty(lanes, kind)
    for block in range(start, stop):
        grad_columns[block] = 0
        for o in range(centres.shape[0]):
            row, given = y[block, o], grad_y[block, o]
            for j in range(lanes):
                inverse[j] = kind(0) if row[j] <= smallest else kind(1) / row[j]  # 0 too beyond the last position
            for k in range(columns.shape[1]):
                x, centre, found = columns[block, k], centres[o, k], grad_columns[block, k]
                _shares(x, None if kept is None else kept[block, k], centre, inverse, share)
                _power(share, power, p - 1)
                grad_centres[block, o, k] = -send_back(x, centre, power, given, found)


def distances(columns: np.ndarray, centres: np.ndarray, p: int, kept: np.ndarray | None = None) -> np.ndarray:
    """Return the distances (O, M) of M positions (K, M) from O centres (O, K), p >= 2; ``kept`` (K, M) is 1 or 0."""
    x, keep = blocks_of(columns), None if kept is None else blocks_of(kept)
    y = np.empty((len(x), len(centres), x.shape[2]), x.dtype)
    over_planes(lambda start, stop: _forward(x, keep, centres, p, y, start, stop), len(x), y.size * len(columns))
    return rows_of(y, columns.shape[1])


def gradients(
    columns: np.ndarray, centres: np.ndarray, p: int, kept: np.ndarray | None, y: np.ndarray, grad_y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradients by columns and centres."""
    x, y, grad_y = blocks_of(columns), blocks_of(y), blocks_of(grad_y)
    keep = None if kept is None else blocks_of(kept)
    by_x, by_centres = np.empty_like(x), np.empty((len(x), *centres.shape), x.dtype)

    def run(start: int, stop: int) -> None:
        _backward(x, keep, centres, p, y, grad_y, by_x, by_centres, start, stop)

    over_planes(run, len(x), y.size * len(columns))
    return rows_of(by_x, columns.shape[1]), by_centres.sum(0)


def blocks_of(rows: np.ndarray) -> np.ndarray:
    """Cut rows (R, M) into blocks (blocks, R, lanes), the last filled up; by M alone, not by the number of threads."""
    positions = rows.shape[1]
    lanes = min(LANES, max(64, positions // 8))
    filled = np.pad(rows, ((0, 0), (0, -positions % lanes)))
    return np.ascontiguousarray(filled.reshape(len(rows), -1, lanes).swapaxes(0, 1))


def rows_of(blocks: np.ndarray, positions: int) -> np.ndarray:
    """Join blocks again, and leave off what filled the last."""
    return np.ascontiguousarray(blocks.swapaxes(0, 1).reshape(blocks.shape[1], -1)[:, :positions])
