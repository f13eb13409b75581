"""Prepared data sets: drawn into splits by a named seed, kept as one npz that is whole or absent, and read back."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from morphobench.contract import SPLITS, AnySplit, DataUnavailable, Graph, GraphSplit, Split
from morphobench.data.download import CorruptFile
from morphobench.plugins.code_hash import preparation_sources
from morphobench.project.files import atomic, digest_files
from morphobench.project.paths import find_project

__all__ = [
    "arrays_of",
    "content_digest",
    "first_samples",
    "load_graph_split",
    "load_split",
    "prepare_splits",
    "read_arrays",
    "recipe",
    "split_from",
    "stratified_split",
]


def stratified_split(
    labels: np.ndarray, sizes: Mapping[str, int], generator: np.random.Generator
) -> dict[str, np.ndarray]:
    """Draw disjoint splits in which every class has its share.

    Samples are shuffled, sorted by class and dealt out in turn to the split that lags furthest behind its share, so
    that the sizes are met exactly and every class to within two samples.

    Parameters
    ----------
    labels : ndarray
        Class of each sample, (N,).
    sizes : mapping
        Number of samples of each split; they sum to N.
    generator : numpy.random.Generator
        Decides which samples go where.

    Returns
    -------
    dict
        Sorted indices of each split.

    Raises
    ------
    ValueError
        If the sizes do not sum to N.

    Examples
    --------
    >>> labels = np.repeat([0, 1], 5)
    >>> parts = stratified_split(labels, {"train": 8, "test": 2}, np.random.default_rng(0))
    >>> labels[parts["test"]].tolist()
    [0, 1]
    """
    total = len(labels)
    if sum(sizes.values()) != total:
        raise ValueError(f"sizes: found {dict(sizes)}, expected numbers that sum to {total}")
    order = generator.permutation(total)
    order = order[np.argsort(labels[order], kind="stable")]
    names, quota = list(sizes), np.array(list(sizes.values()))
    dealt = np.zeros(len(names), dtype=np.int64)
    owner = np.empty(total, dtype=np.int64)
    for position in range(total):
        owner[position] = np.argmax((position + 1) * quota - dealt * total)
        dealt[owner[position]] += 1
    return {name: np.sort(order[owner == number]) for number, name in enumerate(names)}


def recipe(folder: Path) -> str:
    """Digest of what generated content follows from: the plugin's files and what they call of the harness and the library."""
    project = find_project(folder)
    return digest_files(preparation_sources(project, folder), project.root)


def arrays_of(splits: Mapping[str, AnySplit]) -> dict[str, np.ndarray]:
    """Return what splits are stored as: images or nodes, and labels of each; of a graph, which they share, features and edges once."""
    arrays: dict[str, np.ndarray] = {}
    for name, split in splits.items():
        if isinstance(split, GraphSplit):
            arrays |= {"graph_x": split.graph.x, "graph_edges": split.graph.edges, f"{name}_nodes": split.nodes}
        else:
            arrays[f"{name}_images"] = split.images
        arrays[f"{name}_labels"] = split.labels
    return arrays


def split_from(read: Callable[[str], np.ndarray], name: str, *, graph: bool, labelled: bool = True) -> AnySplit:
    """Make a split of arrays that `arrays_of` named, which ``read`` gives; without labels none are read."""
    if graph:
        whole, nodes = Graph(read("graph_x"), read("graph_edges")), read(f"{name}_nodes")
        return GraphSplit(whole, nodes, read(f"{name}_labels") if labelled else np.zeros(0, dtype=np.int64))
    return Split(read(f"{name}_images"), read(f"{name}_labels") if labelled else np.zeros(0))


def first_samples(split: Split, count: int) -> Split:
    """Return the first images of a split with their labels."""
    return Split(split.images[:count], split.labels[:count])


def prepare_splits(path: Path, made_by: str, make: Callable[[], Mapping[str, AnySplit]]) -> None:
    """Make the splits and store them at ``path``, unless it already holds them whole and by the same recipe.

    Parameters
    ----------
    path : Path
        The npz file; a cut or altered one is made again.
    made_by : str
        Digest of what the content follows from (`recipe`); another one means the content is out of date.
    make : callable
        Returns the three splits.
    """
    if _up_to_date(path, made_by):
        return
    arrays = arrays_of(make())
    with atomic(path) as temporary:
        np.savez_compressed(
            temporary,
            allow_pickle=False,
            recipe=np.array(made_by),
            content=np.array(content_digest(arrays)),
            **arrays,
        )


def load_split(path: Path, split: str) -> Split:
    """Read one split of images that `prepare_splits` stored.

    Raises
    ------
    ValueError
        For a split that does not exist.
    DataUnavailable
        If the data set has not been prepared.
    CorruptFile
        If the file cannot be read.
    """
    _expect_split(split)
    arrays = read_arrays(path, [f"{split}_images", f"{split}_labels"])
    return Split(arrays[f"{split}_images"], arrays[f"{split}_labels"])


def load_graph_split(path: Path, split: str) -> GraphSplit:
    """Read one split of a graph that `prepare_splits` stored; raises what `load_split` raises."""
    _expect_split(split)
    arrays = read_arrays(path, ["graph_x", "graph_edges", f"{split}_nodes", f"{split}_labels"])
    return GraphSplit(
        Graph(arrays["graph_x"], arrays["graph_edges"]), arrays[f"{split}_nodes"], arrays[f"{split}_labels"]
    )


def _expect_split(split: str) -> None:
    if split not in SPLITS:
        raise ValueError(f"split: found {split!r}, expected one of {', '.join(SPLITS)}")


def read_arrays(path: Path, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Read the named arrays of an npz file, all if none are named, without unpickling anything.

    Raises
    ------
    DataUnavailable
        If there is no such file.
    CorruptFile
        If it is cut short, not an npz, or lacks an array.
    """
    try:
        # NumPy leaves a file that it opened itself open when the archive in it is damaged.
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise CorruptFile(f"{path}: found a single array, expected an npz archive")
            wanted = archive.files if names is None else list(names)
            missing = [name for name in wanted if name not in archive.files]
            if missing:
                raise CorruptFile(
                    f"{path}: found arrays {', '.join(archive.files)}, expected also {', '.join(missing)}"
                )
            return {name: archive[name] for name in wanted}
    except FileNotFoundError:
        raise DataUnavailable(f"{path}: no such file; the data set has not been prepared") from None
    except CorruptFile:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        size = path.stat().st_size if path.is_file() else 0
        raise CorruptFile(
            f"{path}: not a readable npz ({error}); found {size} bytes, expected an archive that is neither cut short "
            "nor damaged; prepare the data set again"
        ) from error


def content_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over names, types, shapes and bytes of the arrays: equal on every machine for equal content."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(array.data)
    return total.hexdigest()


def _up_to_date(path: Path, made_by: str) -> bool:
    try:
        stored = read_arrays(path)
    except DataUnavailable:
        return False
    recipe, content = (str(stored.pop(name, "")) for name in ("recipe", "content"))
    return recipe == made_by and content == content_digest(stored)
