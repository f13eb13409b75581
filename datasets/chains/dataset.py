"""Directed chains whose class is known at their first node alone (Gu et al. 2020)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from morphobench.contract import Graph, GraphSplit
from morphobench.contract.graphs import disjoint_union
from morphobench.data.splits import load_graph_split, prepare_splits, recipe, stratified_split

SEED = 20201006
CLASSES = 2
CHAINS = 20  # of each class
FEATURES = 100
SIZES = {"train": 20, "valid": 100, "test": 200}  # nodes, where there are enough of them
SHORTEST = 10  # nodes of the shortest chains for which there are


def prepare(variant: str, cache: Path) -> None:
    """Generate the chains and store them in ``cache``."""
    length = length_of(variant)
    prepare_splits(cache / "chains.npz", recipe(Path(__file__).parent), lambda: make(length))


def load(variant: str, cache: Path, split: str) -> GraphSplit:
    """Return one split of the graph: features (40 length, 100), edges (2, 40 (length - 1))."""
    return load_graph_split(cache / "chains.npz", split)


def length_of(variant: str) -> int:
    """Return the number of nodes of a chain.

    Examples
    --------
    >>> length_of("length-10")
    10
    """
    return int(variant.removeprefix("length-"))


def make(length: int) -> dict[str, GraphSplit]:
    """Generate the chains and draw the nodes of each split, every class having its share."""
    classes = np.repeat(np.arange(CLASSES), CHAINS)
    graph, origin = disjoint_union(chain(int(kind), length) for kind in classes)
    labels = classes[origin]
    sizes = {name: size * min(length, SHORTEST) // SHORTEST for name, size in SIZES.items()}
    sizes["unused"] = len(labels) - sum(sizes.values())
    parts = stratified_split(labels, sizes, np.random.Generator(np.random.PCG64([SEED, length])))
    return {name: GraphSplit(graph, parts[name], labels[parts[name]]) for name in SIZES}


def chain(kind: int, length: int) -> Graph:
    """Return one chain: its first node has feature ``kind`` set to one, everything else is zero."""
    x = np.zeros((length, FEATURES), dtype=np.float32)
    x[0, kind] = 1
    nodes = np.arange(length)
    return Graph(x, np.stack([nodes[:-1], nodes[1:]]))
