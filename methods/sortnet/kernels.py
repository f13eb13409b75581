"""On the CPU: the l_p distance over the entries that are kept, sorted sums, and the gradients of both.

Positions lie side by side in memory, in blocks.

p is an integer, so that a power is a few multiplications of whole rows; every power is that of a number in [0, 1].
"""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel, part, plus
from varmorph.kernels.threads import over_planes

__all__ = ["distances", "gradients", "sorted_sums", "sorted_sums_gradients"]

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
                x, keep, centre = columns[block, k], kept[block, k], centres[o, k]
                for j in range(lanes):
                    difference = keep[j] * abs(x[j] - centre)
                    greatest[j] = greatest[j] if difference <= greatest[j] else difference  # NaN is taken
            for j in range(lanes):
                inverse[j] = kind(0) if greatest[j] <= smallest else kind(1) / greatest[j]
            total[:] = 0
            for k in range(columns.shape[1]):
                x, keep, centre = columns[block, k], kept[block, k], centres[o, k]
                for j in range(lanes):
                    share[j] = keep[j] * abs(x[j] - centre) * inverse[j]
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
                x, keep, centre = columns[block, k], kept[block, k], centres[o, k]
                found = grad_columns[block, k]
                for j in range(lanes):
                    share[j] = keep[j] * abs(x[j] - centre) * inverse[j]
                _power(share, power, p - 1)
                total = kind(0)
                for j in range(lanes):
                    to_edge = (power[j] if x[j] > centre else -power[j]) * given[j]
                    found[j] += to_edge
                    total = plus(total, to_edge)
                grad_centres[block, o, k] = -total


@part
def _sort(columns: Any, block: int, centres: Any, o: int, greatest: Any, distance: Any) -> None:
    """Fill the rows of ``greatest`` with the greatest distances in falling order: each new one sinks to its place."""
    lanes = distance.size
    greatest[:] = 0
    for k in range(columns.shape[1]):
        x, centre = columns[block, k], centres[o, k]
        for j in range(lanes):
            distance[j] = abs(x[j] - centre)
        for i in range(greatest.shape[0]):
            row = greatest[i]
            for j in range(lanes):
                above, below = row[j], distance[j]
                row[j] = above if below <= above else below  # NaN is taken
                distance[j] = below if below <= above else above


@kernel
def _sorted_forward(columns: Any, centres: Any, weights: Any, y: Any, start: int, stop: int) -> None:
    kind, lanes = columns.dtype.type, columns.shape[2]
    greatest, distance = np.empty((weights.size, lanes), kind), np.empty(lanes, kind)
    for block in range(start, stop):
        for o in range(centres.shape[0]):
            _sort(columns, block, centres, o, greatest, distance)
            found = y[block, o]
            found[:] = 0
            for i in range(weights.size):
                row, weight = greatest[i], weights[i]
                for j in range(lanes):
                    found[j] += weight * row[j]


@kernel
def _sorted_backward(
    columns: Any,
    centres: Any,
    weights: Any,
    rho: Any,
    grad_y: Any,
    grad_columns: Any,
    grad_centres: Any,
    start: int,
    stop: int,
) -> None:
    """Sort again; the weight of an entry falls by rho with each that is greater, and equal ones share a place."""
    kind, lanes = columns.dtype.type, columns.shape[2]
    greatest, distance = np.empty((weights.size, lanes), kind), np.empty(lanes, kind)
    share = np.empty(lanes, kind)
    for block in range(start, stop):
        grad_columns[block] = 0
        for o in range(centres.shape[0]):
            _sort(columns, block, centres, o, greatest, distance)
            given = grad_y[block, o]
            last = greatest[weights.size - 1]
            for k in range(columns.shape[1]):
                x, centre, found = columns[block, k], centres[o, k], grad_columns[block, k]
                for j in range(lanes):
                    distance[j] = abs(x[j] - centre)
                    share[j] = weights[0] if distance[j] >= last[j] else kind(0)
                for i in range(weights.size):
                    row = greatest[i]
                    for j in range(lanes):
                        share[j] *= rho if row[j] > distance[j] else kind(1)
                total = kind(0)
                for j in range(lanes):
                    to_edge = (share[j] if x[j] > centre else -share[j]) * given[j]
                    found[j] += to_edge
                    total = plus(total, to_edge)
                grad_centres[block, o, k] = -total


def distances(columns: np.ndarray, kept: np.ndarray, centres: np.ndarray, p: int) -> np.ndarray:
    """Return the distances (O, M) of M positions (K, M) from O centres (O, K), p >= 2; ``kept`` (K, M) is 1 or 0."""
    x, keep = _blocks(columns), _blocks(kept)
    y = np.empty((len(x), len(centres), x.shape[2]), x.dtype)
    over_planes(lambda start, stop: _forward(x, keep, centres, p, y, start, stop), len(x), y.size * len(columns))
    return _rows(y, columns.shape[1])


def gradients(
    columns: np.ndarray, kept: np.ndarray, centres: np.ndarray, p: int, y: np.ndarray, grad_y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradients by columns and centres."""
    x, keep, y, grad_y = _blocks(columns), _blocks(kept), _blocks(y), _blocks(grad_y)
    by_x, by_centres = np.empty_like(x), np.empty((len(x), *centres.shape), x.dtype)

    def run(start: int, stop: int) -> None:
        _backward(x, keep, centres, p, y, grad_y, by_x, by_centres, start, stop)

    over_planes(run, len(x), y.size * len(columns))
    return _rows(by_x, columns.shape[1]), by_centres.sum(0)


def sorted_sums(columns: np.ndarray, centres: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the sums (O, M) of the greatest distances, in falling order, times weights."""
    x = _blocks(columns)
    y = np.empty((len(x), len(centres), x.shape[2]), x.dtype)
    over_planes(lambda start, stop: _sorted_forward(x, centres, weights, y, start, stop), len(x), y.size * len(columns))
    return _rows(y, columns.shape[1])


def sorted_sums_gradients(
    columns: np.ndarray, centres: np.ndarray, weights: np.ndarray, rho: float, grad_y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradients by columns and centres, where weights are powers of rho but for the first."""
    x, grad_y = _blocks(columns), _blocks(grad_y)
    by_x, by_centres = np.empty_like(x), np.empty((len(x), *centres.shape), x.dtype)
    ratio = x.dtype.type(rho)

    def run(start: int, stop: int) -> None:
        _sorted_backward(x, centres, weights, ratio, grad_y, by_x, by_centres, start, stop)

    over_planes(run, len(x), grad_y.size * len(columns))
    return _rows(by_x, columns.shape[1]), by_centres.sum(0)


def _blocks(rows: np.ndarray) -> np.ndarray:
    """Cut rows (R, M) into blocks (blocks, R, lanes), the last filled up; by M alone, not by the number of threads."""
    positions = rows.shape[1]
    lanes = min(LANES, max(64, positions // 8))
    filled = np.pad(rows, ((0, 0), (0, -positions % lanes)))
    return np.ascontiguousarray(filled.reshape(len(rows), -1, lanes).swapaxes(0, 1))


def _rows(blocks: np.ndarray, positions: int) -> np.ndarray:
    """Join blocks again, and leave off what filled the last."""
    return np.ascontiguousarray(blocks.swapaxes(0, 1).reshape(blocks.shape[1], -1)[:, :positions])
