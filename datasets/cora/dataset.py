"""The citation graph Cora in the split of Planetoid (Yang et al. 2016)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from morphobench.contract import Graph, GraphSplit
from morphobench.contract.graphs import both_directions
from morphobench.data.download import obtain
from morphobench.data.splits import load_graph_split, prepare_splits, recipe
from morphobench.settings.reading import read_yaml

from .planetoid import read_pickle

VALIDATION = 500  # nodes; the training nodes are those of ind.cora.y, the test nodes those of ind.cora.test.index


def prepare(variant: str, cache: Path) -> None:
    """Bring the files to ``cache``, from MORPHOBENCH_DATA/cora/ or from the network, and read them."""
    for entry in declared()["files"]:
        obtain(entry, "cora", cache / entry["name"])
    prepare_splits(cache / "cora.npz", recipe(Path(__file__).parent), lambda: make(cache))


def load(variant: str, cache: Path, split: str) -> GraphSplit:
    """Return one split of the graph: features (2708, 1433), whose rows sum to one, and edges (2, 10556)."""
    return load_graph_split(cache / "cora.npz", split)


def declared() -> dict[str, Any]:
    """Return what ``dataset.yaml`` says."""
    return read_yaml(Path(__file__).parent / "dataset.yaml")


def make(folder: Path) -> dict[str, GraphSplit]:
    """Read the files in ``folder``."""
    parts = {name: read_pickle(folder / f"ind.cora.{name}") for name in ("y", "tx", "ty", "allx", "ally", "graph")}
    test = np.loadtxt(folder / "ind.cora.test.index", dtype=np.int64)
    x, classes = (ordered(parts[f"all{kind}"], parts[f"t{kind}"], test) for kind in ("x", "y"))
    graph = Graph(normalised(x), edges_of(parts["graph"]))
    labels, known = classes.argmax(axis=1).astype(np.int64), len(parts["y"])
    nodes = {"train": np.arange(known), "valid": np.arange(known, known + VALIDATION), "test": np.sort(test)}
    return {name: GraphSplit(graph, chosen, labels[chosen]) for name, chosen in nodes.items()}


def ordered(others: np.ndarray, tested: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Return the rows of all nodes; row k of ``tested`` belongs to node ``test[k]``, those before them to the first nodes."""
    rows = np.concatenate([others, tested])
    rows[test] = tested
    return rows


def normalised(x: np.ndarray) -> np.ndarray:
    """Return float32 rows that sum to one; a row of zeros stays one."""
    total = x.sum(axis=1, keepdims=True)
    return np.divide(x, total, out=np.zeros(x.shape), where=total > 0).astype(np.float32)


def edges_of(neighbours: dict[int, list[int]]) -> np.ndarray:
    """Return the citations in both directions, each once."""
    pairs = [(node, other) for node, others in neighbours.items() for other in others]
    return both_directions(np.array(pairs, dtype=np.int64).T)
