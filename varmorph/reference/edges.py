"""The geometry: the edges from the pixels of an image, or from beyond it, into each output pixel, listed one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

Array = np.ndarray
Padding = Literal["geodesic", "replicate", "reflect", "circular", "valid"] | float
OUTSIDE = -1  # the start of an edge from beyond the image, where the padding is a number


class AxisEdges(NamedTuple):
    """Edges of one axis: `source` -> `target`, carrying `element` of the structuring function; `length` targets."""

    target: Array
    source: Array
    element: Array
    length: int


class Edges(NamedTuple):
    """The edges into each output pixel, one row a pixel: flat `source` and `element`, and which places are in use."""

    source: Array
    element: Array
    present: Array
    shape: tuple[int, int]


def _at(position: int, length: int, padding: Padding) -> int:
    """Say which pixel stands at a position of an axis that the padding has continued."""
    if padding == "replicate":
        return min(max(position, 0), length - 1)
    if padding == "circular":
        return position % length
    if padding == "reflect":
        while not 0 <= position < length:
            position = -position if position < 0 else 2 * (length - 1) - position
            position = 0 if length == 1 else position
        return position
    return position if 0 <= position < length else OUTSIDE


def _axis_edges(length: int, size: int, rate: int, padding: Padding, reverse: bool) -> AxisEdges:
    """List the edges x_{i+k} -> y_i of one axis, with `reverse` x_i -> y_{i+k}, at stride 1."""
    bent = padding in ("replicate", "reflect", "circular", "geodesic")
    direction = -1 if reverse and not bent else 1
    edges = []
    for i in range(length):
        for k in range(size):
            start = _at(i + direction * rate * (k - size // 2), length, padding)
            if start != OUTSIDE or isinstance(padding, (int, float)):
                edges.append((i, start, k))
    if reverse and bent:
        edges = [(start, i, k) for i, start, k in edges]
    if padding == "valid":
        whole = [i for i in range(length) if sum(edge[0] == i for edge in edges) == size]
        edges = [(whole.index(i), start, k) for i, start, k in edges if i in whole]
        length = len(whole)
    target, source, element = np.array(edges, dtype=int).reshape(-1, 3).T
    return AxisEdges(target, source, element, length)


def _sampled(edges: AxisEdges, stride: int) -> AxisEdges:
    kept = edges.target % stride == 0
    return AxisEdges(edges.target[kept] // stride, edges.source[kept], edges.element[kept], -(-edges.length // stride))


def _both(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def window_edges(
    image: tuple[int, int], size: tuple[int, int], stride: Any, rate: Any, padding: Padding, reverse: bool
) -> Edges:
    """List the edges into each output pixel: every edge of the rows with every edge of the columns."""
    strides, rates = _both(stride), _both(rate)
    rows, columns = (_sampled(_axis_edges(image[a], size[a], rates[a], padding, reverse), strides[a]) for a in (0, 1))
    target = np.add.outer(rows.target * columns.length, columns.target).ravel()
    element = np.add.outer(rows.element * size[1], columns.element).ravel()
    source = np.add.outer(rows.source * image[1], columns.source).ravel()
    source[np.logical_or.outer(rows.source == OUTSIDE, columns.source == OUTSIDE).ravel()] = OUTSIDE
    order = np.argsort(target, kind="stable")
    target, source, element = target[order], source[order], element[order]
    pixels = rows.length * columns.length
    place = np.arange(target.size) - np.searchsorted(target, target)
    table = np.zeros((3, pixels, place.max(initial=-1) + 1), dtype=int)
    for row, column in zip(table, (source, element, np.ones_like(source)), strict=True):
        row[target, place] = column
    return Edges(table[0], table[1], table[2].astype(bool), (rows.length, columns.length))


def read(x: Array, edges: Edges, padding: Padding) -> Array:
    """Read the value at the start of each edge: (N, C, pixels, edges of a pixel)."""
    outside = float(padding) if isinstance(padding, (int, float)) else np.nan
    return np.where(edges.source == OUTSIDE, outside, x.reshape(*x.shape[:2], -1)[..., edges.source])


def as_image(x: ArrayLike) -> Array:
    """Give an image in float64."""
    return np.asarray(x, dtype=np.float64)


def as_function(value: ArrayLike, channels: int) -> Array:
    """Give a structuring function of shape (C, kh, kw)."""
    array = np.asarray(value, dtype=np.float64)
    return np.broadcast_to(array, (channels, *array.shape[-2:]))
