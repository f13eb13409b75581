"""The max-plus operators on images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from varmorph.reference.edges import Array, Edges, Padding, as_function, as_image, read, window_edges


def _supremum(x: Array, bias: Array, edges: Edges, padding: Padding) -> Array:
    offset = bias.reshape(bias.shape[0], -1)[:, edges.element]
    present = edges.present & (offset > -np.inf)
    values = np.where(present, read(x, edges, padding) + np.where(present, offset, 0.0), -np.inf)
    return values.max(-1).reshape(*x.shape[:2], *edges.shape)


def _infimum(x: Array, bias: Array, edges: Edges, padding: Padding) -> Array:
    return 0.0 - _supremum(-x, bias, edges, -padding if isinstance(padding, (int, float)) else padding)


def dilation(
    x: ArrayLike, bias: ArrayLike, *, stride: Any = 1, rate: Any = 1, padding: Padding = "geodesic", dual: int = 0
) -> Array:
    """y_i = max_k (x_{i+k} + b_k); in the last `dual` channels y_i = min_k (x_{i+k} - b_k).

    >>> dilation([[[[0.0, 2.0, 0.0, 1.0]]]], [[0.0, 0.0, -0.5]])
    array([[[[1.5, 2. , 2. , 1. ]]]])
    """
    x = as_image(x)
    bias = as_function(bias, x.shape[1])
    edges = window_edges(x.shape[2:], bias.shape[1:], stride, rate, padding, False)
    y = _supremum(x, bias, edges, padding)
    if dual:
        y[:, -dual:] = _infimum(x[:, -dual:], bias[-dual:], edges, padding)
    return y


def erosion(x: ArrayLike, bias: ArrayLike, *, stride: Any = 1, rate: Any = 1, padding: Padding = "geodesic") -> Array:
    """y_j = min (x_i - b_k) over the edges j -> i of the dilation."""
    x = as_image(x)
    bias = as_function(bias, x.shape[1])
    edges = window_edges(x.shape[2:], bias.shape[1:], stride, rate, padding, True)
    return _infimum(x, bias, edges, padding)


def opening(x: ArrayLike, bias: ArrayLike, *, stride: Any = 1, rate: Any = 1, padding: Padding = "geodesic") -> Array:
    """Dilation of the erosion."""
    return dilation(erosion(x, bias, rate=rate, padding=padding), bias, stride=stride, rate=rate, padding=padding)


def closing(x: ArrayLike, bias: ArrayLike, *, stride: Any = 1, rate: Any = 1, padding: Padding = "geodesic") -> Array:
    """Erosion of the dilation."""
    return erosion(dilation(x, bias, rate=rate, padding=padding), bias, stride=stride, rate=rate, padding=padding)


def gradient(x: ArrayLike, bias: ArrayLike, *, rate: Any = 1, padding: Padding = "geodesic") -> Array:
    """Dilation minus erosion, where both have the size of the image."""
    return dilation(x, bias, rate=rate, padding=padding) - erosion(x, bias, rate=rate, padding=padding)


def internal_gradient(x: ArrayLike, bias: ArrayLike, *, rate: Any = 1, padding: Padding = "geodesic") -> Array:
    """Image minus erosion."""
    return as_image(x) - erosion(x, bias, rate=rate, padding=padding)


def external_gradient(x: ArrayLike, bias: ArrayLike, *, rate: Any = 1, padding: Padding = "geodesic") -> Array:
    """Dilation minus image."""
    return dilation(x, bias, rate=rate, padding=padding) - as_image(x)


def white_top_hat(x: ArrayLike, bias: ArrayLike, *, rate: Any = 1, padding: Padding = "geodesic") -> Array:
    """Image minus opening."""
    return as_image(x) - opening(x, bias, rate=rate, padding=padding)


def black_top_hat(x: ArrayLike, bias: ArrayLike, *, rate: Any = 1, padding: Padding = "geodesic") -> Array:
    """Closing minus image."""
    return closing(x, bias, rate=rate, padding=padding) - as_image(x)
