"""Graphs whose nodes are to be classified: what a data set gives of one, and how one is put together (NumPy only).

A method for ``node_classification`` gets ``fit(model, train, valid, run)`` with two `GraphSplit` and ``predict(model, graph)``,
which returns scores (nodes, K) of every node; those of the test nodes are kept. A PyTorch method needs neither: its module is
called with the tensors ``x``, float32 (nodes, features), and ``edges``, int64 (2, E), on one device, and returns (nodes, K). It is
trained full-batch: an epoch is one step of Adam on the cross-entropy of the training nodes. There is no backbone for graphs, so
that such a method gives ``build(task, params)``; ``task.input_shape`` is ``(features,)``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

__all__ = ["Graph", "GraphSplit", "both_directions", "disjoint_union", "flaw_of", "same_graph"]


class Graph(NamedTuple):
    """A directed graph with features at its nodes.

    Parameters
    ----------
    x : ndarray
        Features, float32 (nodes, features). The harness hands them on as they are: a data set that wants them scaled scales them.
    edges : ndarray
        int64 (2, E), source to target: an edge (s, t) carries what node s knows to node t. Sorted by source, then by target; no
        edge twice and none from a node to itself. An undirected graph has each edge in both directions.
    """

    x: np.ndarray
    edges: np.ndarray


@dataclass(frozen=True)
class GraphSplit:
    """Nodes and labels of one split of a graph: what ``load(variant, cache, split)`` of a data set returns.

    A graph made of images says in ``dataset.yaml`` of which (``images``), and its plugin gives
    ``on_images(variant, cache, scores)``, which takes the scores of the test nodes to the pixels of the test images and returns
    ``(scores (N, K, H, W), masks (N, H, W))``. Scoring then adds the Dice coefficient of the pixels, and that of the true classes
    of the nodes, which is the most to be reached.

    Parameters
    ----------
    graph : Graph
        The whole graph, the same for train, valid and test: of the nodes that belong to another split, or to none, features and
        edges are seen but no label is (transductive learning). Several graphs are one disconnected graph.
    nodes : ndarray
        int64 (n,), indices of the nodes of this split, none twice and none in another split.
    labels : ndarray
        int64 (n,), the class of each of them.
    """

    graph: Graph
    nodes: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def inputs(self) -> Graph:
        """What ``predict`` is given."""
        return self.graph

    @property
    def samples(self) -> np.ndarray:
        """What a batch is cut from: the indices of the nodes."""
        return self.nodes

    def own(self, scores: np.ndarray) -> np.ndarray:
        """Return the rows of this split's nodes, of scores (nodes, K) of the whole graph."""
        return scores[self.nodes]

    def as_float(self) -> GraphSplit:
        """Return the split as it is: features are numbers, not grey values."""
        return self


def same_graph(one: Graph, other: Graph) -> bool:
    """Tell whether features and edges are equal."""
    return one is other or all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def flaw_of(split: GraphSplit, classes: int) -> str:
    """Say what is wrong with a split, found and expected; "" if nothing.

    Examples
    --------
    >>> graph = Graph(np.zeros((3, 2), np.float32), np.array([[0, 1], [1, 3]]))
    >>> flaw_of(GraphSplit(graph, np.array([0]), np.array([1])), classes=2)
    'edges: found nodes 0 to 3, expected 0 to 2'
    """
    (x, edges), nodes, labels = split.graph, split.nodes, split.labels
    if x.ndim != 2 or x.dtype != np.float32:
        return f"x: found {x.dtype} {x.shape}, expected float32 (nodes, features)"
    if not np.isfinite(x).all():
        return "x: found values that are not finite"
    if edges.ndim != 2 or len(edges) != 2 or edges.dtype != np.int64:
        return f"edges: found {edges.dtype} {edges.shape}, expected int64 (2, E), source to target"
    if not _lie_in(edges, len(x)):
        return f"edges: found nodes {edges.min()} to {edges.max()}, expected 0 to {len(x) - 1}"
    if not np.array_equal(edges, _sorted_edges(edges)):
        return "edges: found one twice, one from a node to itself, or no order; expected them sorted by source, then target"
    if nodes.ndim != 1 or nodes.dtype != np.int64 or len(np.unique(nodes)) != len(nodes) or not _lie_in(nodes, len(x)):
        return f"nodes: found {nodes.dtype} {nodes.shape}, expected int64 (n,), different ones of 0 to {len(x) - 1}"
    if labels.shape != nodes.shape or labels.dtype != np.int64 or not _lie_in(labels, classes):
        return f"labels: found {labels.dtype} {labels.shape}, expected int64 {nodes.shape} in 0 to {classes - 1}"
    return ""


def _lie_in(indices: np.ndarray, count: int) -> bool:
    return indices.size == 0 or bool(indices.min() >= 0 and indices.max() < count)


def _sorted_edges(edges: np.ndarray) -> np.ndarray:
    """Return the edges (2, E) in order, each once, those from a node to itself left out."""
    kept = edges[:, edges[0] != edges[1]]
    return np.ascontiguousarray(np.unique(kept, axis=1)).reshape(2, -1)


def both_directions(edges: np.ndarray) -> np.ndarray:
    """Return edges (2, E) and their reverses as `Graph` wants them.

    Examples
    --------
    >>> both_directions(np.array([[2, 0, 1], [1, 1, 1]])).tolist()
    [[0, 1, 1, 2], [1, 0, 2, 1]]
    """
    return _sorted_edges(np.concatenate([edges, edges[::-1]], axis=1))


def disjoint_union(graphs: Iterable[Graph]) -> tuple[Graph, np.ndarray]:
    """Join graphs to one disconnected graph.

    Returns
    -------
    tuple
        The graph, and the index (nodes,) of the graph that each node comes from.

    Examples
    --------
    >>> pair = Graph(np.zeros((2, 1), np.float32), np.array([[0], [1]]))
    >>> joined, origin = disjoint_union([pair, pair])
    >>> joined.edges.tolist(), origin.tolist()
    ([[0, 2], [1, 3]], [0, 0, 1, 1])
    """
    parts = list(graphs)
    sizes = np.array([len(part.x) for part in parts])
    first = np.cumsum(sizes) - sizes
    edges = np.concatenate([part.edges + offset for part, offset in zip(parts, first, strict=True)], axis=1)
    return Graph(np.concatenate([part.x for part in parts]), edges), np.repeat(np.arange(len(parts)), sizes)
