"""Sorted sums and their gradients on the CPU, on blocks of positions that lie side by side in memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel, part
from varmorph.kernels.distances import blocks_of, rows_of, send_back
from varmorph.kernels.threads import over_planes

__all__ = ["sorted_sums", "sorted_sums_gradients"]


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
                grad_centres[block, o, k] = -send_back(x, centre, share, given, found)


def sorted_sums(columns: np.ndarray, centres: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the sums (O, M) of the greatest distances, in falling order, times weights."""
    x = blocks_of(columns)
    y = np.empty((len(x), len(centres), x.shape[2]), x.dtype)
    over_planes(lambda start, stop: _sorted_forward(x, centres, weights, y, start, stop), len(x), y.size * len(columns))
    return rows_of(y, columns.shape[1])


def sorted_sums_gradients(
    columns: np.ndarray, centres: np.ndarray, weights: np.ndarray, rho: float, grad_y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradients by columns and centres, where weights are powers of rho but for the first."""
    x, grad_y = blocks_of(columns), blocks_of(grad_y)
    by_x, by_centres = np.empty_like(x), np.empty((len(x), *centres.shape), x.dtype)
    ratio = x.dtype.type(rho)

    def run(start: int, stop: int) -> None:
        _sorted_backward(x, centres, weights, ratio, grad_y, by_x, by_centres, start, stop)

    over_planes(run, len(x), grad_y.size * len(columns))
    return rows_of(by_x, columns.shape[1]), by_centres.sum(0)
