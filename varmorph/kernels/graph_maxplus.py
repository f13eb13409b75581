"""Max-plus on graphs: for each node the greatest value at its edges, and the adjoint selection.

The edges into a node (in the backward pass: out of a node) are listed one after the other, in the order in which they
were given, so that a node is computed from its edges alone: nothing is scattered, and no two threads write to one place.
The inner loop runs over the features, which lie side by side in memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel
from varmorph.kernels.threads import over_planes

__all__ = ["supremum", "supremum_backward"]


@kernel
def _by_node(endpoints: Any, nodes: int) -> Any:
    """List the numbers of the edges node by node, and where each node's begin."""
    begins = np.zeros(nodes + 1, np.int64)
    for edge in range(endpoints.size):
        begins[endpoints[edge] + 1] += 1
    for node in range(nodes):
        begins[node + 1] += begins[node]
    edges, free = np.empty(endpoints.size, np.int64), begins[:-1].copy()
    for edge in range(endpoints.size):
        edges[free[endpoints[edge]]] = edge
        free[endpoints[edge]] += 1
    return edges, begins


@kernel
def _forward(
    x: Any, bias: Any, source: Any, edges: Any, begins: Any, sign: Any, y: Any, chosen: Any, start: int, stop: int
) -> None:
    """Take the greatest value of each feature over the edges; the first NaN stays; -inf leaves an edge out."""
    nodes, features, kind = x.shape[1], x.shape[2], x.dtype.type
    step = 1 if bias.shape[1] > 1 else 0
    for p in range(start, stop):
        batch, node = p // nodes, p % nodes
        for f in range(features):
            y[batch, node, f] = -np.inf
            chosen[batch, node, f] = source.size
        for place in range(begins[node], begins[node + 1]):
            edge = edges[place]
            s = source[edge]
            for f in range(features):
                b, best = bias[edge, f * step], y[batch, node, f]
                v = sign * x[batch, s, f] + b
                v = v if b > -np.inf else kind(-np.inf)
                take = (not (v <= best)) & (best == best)
                y[batch, node, f] = v if take else best
                chosen[batch, node, f] = edge if take else chosen[batch, node, f]
        for f in range(features):
            y[batch, node, f] = sign * y[batch, node, f] + kind(0)  # -0 becomes 0


@kernel
def _to_sources(
    grad_y: Any, chosen: Any, target: Any, edges: Any, begins: Any, grad_x: Any, start: int, stop: int
) -> None:
    nodes, features, zero = grad_x.shape[1], grad_x.shape[2], grad_y.dtype.type(0)
    for p in range(start, stop):
        batch, node = p // nodes, p % nodes
        for f in range(features):
            grad_x[batch, node, f] = zero
        for place in range(begins[node], begins[node + 1]):
            edge = edges[place]
            t = target[edge]
            for f in range(features):
                part = grad_y[batch, t, f]
                grad_x[batch, node, f] += part if chosen[batch, t, f] == edge else zero


@kernel
def _to_edges(grad_y: Any, chosen: Any, target: Any, sign: Any, grad_bias: Any, start: int, stop: int) -> None:
    """Sum over the batch, and over the features where they share one bias."""
    step = 1 if grad_bias.shape[1] > 1 else 0
    for edge in range(start, stop):
        t = target[edge]
        for batch in range(grad_y.shape[0]):
            for f in range(grad_y.shape[2]):
                if chosen[batch, t, f] == edge:
                    grad_bias[edge, f * step] += sign * grad_y[batch, t, f]


def supremum(
    x: np.ndarray, bias: np.ndarray, source: np.ndarray, target: np.ndarray, sign: int
) -> tuple[np.ndarray, np.ndarray]:
    """Compute sign * max(sign * x_s + b) over the edges into each node, and the first edge that attains it.

    x : (B, nodes, F).  bias : (edges, F) or (edges, 1).  source, target : (edges,).  A node without edges, or with
    such of -inf only, is chosen by none: the number of edges is written.
    """
    edges, begins = _by_node(target, x.shape[1])
    y, chosen = np.empty_like(x), np.empty(x.shape, np.int32)

    def run(start: int, stop: int) -> None:
        _forward(x, bias, source, edges, begins, x.dtype.type(sign), y, chosen, start, stop)

    over_planes(run, x.shape[0] * x.shape[1], x.size)
    return y, chosen


def supremum_backward(
    grad_y: np.ndarray, chosen: np.ndarray, bias: np.ndarray, source: np.ndarray, target: np.ndarray, sign: int
) -> tuple[np.ndarray, np.ndarray]:
    """Give each gradient to the node and the bias of the chosen edge."""
    edges, begins = _by_node(source, grad_y.shape[1])
    grad_x, grad_bias = np.empty_like(grad_y), np.zeros(bias.shape)

    def to_sources(start: int, stop: int) -> None:
        _to_sources(grad_y, chosen, target, edges, begins, grad_x, start, stop)

    def to_edges(start: int, stop: int) -> None:
        _to_edges(grad_y, chosen, target, sign, grad_bias, start, stop)

    over_planes(to_sources, grad_y.shape[0] * grad_y.shape[1], grad_y.size)
    over_planes(to_edges, target.size, grad_y.size)
    return grad_x, grad_bias.astype(bias.dtype)
