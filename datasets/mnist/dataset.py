"""MNIST and Fashion-MNIST from their official files, 5,000 training images held out for validation."""

from __future__ import annotations

import gzip
import zlib
from functools import cache as remember
from pathlib import Path
from typing import Any

import numpy as np

from morphobench.contract import Split
from morphobench.data.download import CorruptFile, obtain
from morphobench.data.splits import load_split, prepare_splits, recipe
from morphobench.settings.reading import read_yaml

SPLIT_SEED = 20261201
VALIDATION = 5000
# Below MORPHOBENCH_DATA: both sets have files of the same names.
FOLDERS = {"digits": "mnist", "fashion": "fashion-mnist"}


def prepare(variant: str, cache: Path) -> None:
    """Bring the four files of one variant to ``cache``, from MORPHOBENCH_DATA or from the network, and read them."""
    for entry in declared()["files"]:
        if entry["variant"] == variant:
            obtain(entry, FOLDERS[variant], cache / entry["name"])
    prepare_splits(cache / "mnist.npz", recipe(Path(__file__).parent), lambda: make(cache))


def load(variant: str, cache: Path, split: str) -> Split:
    """Return one split: uint8 images (N, 1, 28, 28), int64 labels (N,)."""
    return load_split(cache / "mnist.npz", split)


def describe(variant: str) -> dict[str, Any]:
    """Return the names of the classes of one variant."""
    classes = tuple(declared()["variants"][variant]["classes"])
    return {"classes": classes, "outputs": len(classes)}


@remember
def declared() -> dict[str, Any]:
    """Return what ``dataset.yaml`` says."""
    return read_yaml(Path(__file__).parent / "dataset.yaml")


def make(folder: Path) -> dict[str, Split]:
    """Read the files in ``folder``; the images that validate are drawn with a seed of their own."""
    known, test = (read_pair(folder, name) for name in ("train", "t10k"))
    order = np.random.Generator(np.random.PCG64(SPLIT_SEED)).permutation(len(known.labels))
    held_out, kept = np.sort(order[:VALIDATION]), np.sort(order[VALIDATION:])
    parts = {"train": kept, "valid": held_out}
    return {**{name: Split(known.images[part], known.labels[part]) for name, part in parts.items()}, "test": test}


def read_pair(folder: Path, name: str) -> Split:
    """Read images and labels of the files of one name."""
    images = read_idx(folder / f"{name}-images-idx3-ubyte.gz", 3)
    labels = read_idx(folder / f"{name}-labels-idx1-ubyte.gz", 1)
    if len(images) != len(labels):
        raise CorruptFile(
            f"{folder}: {name}: found {len(images)} images and {len(labels)} labels, expected one for each"
        )
    return Split(images[:, None], labels.astype(np.int64))


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read a compressed IDX file of unsigned bytes: 0, 0, 8, the number of dimensions, each of them in four bytes, the numbers."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise CorruptFile(f"{path}: cannot be decompressed: {error}") from error
    header = 4 + 4 * dimensions
    magic, shape = content[:4], np.frombuffer(content[4:header], ">u4").tolist() if len(content) >= header else []
    if magic != bytes([0, 0, 8, dimensions]) or len(content) - header != np.prod(shape, dtype=np.int64):
        raise CorruptFile(
            f"{path}: found {len(content)} bytes that begin with {magic.hex(' ')} and shape {shape}, expected unsigned bytes "
            f"in {dimensions} dimensions"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
