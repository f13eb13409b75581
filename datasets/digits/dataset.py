"""Handwritten digits of 8x8 pixels from scikit-learn, in a fixed stratified split of 60/20/20 per cent."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from morphobench.contract import Split
from morphobench.data.splits import load_split, prepare_splits, recipe, stratified_split

SPLIT_SEED = 20240601
SIZES = {"train": 1079, "valid": 359, "test": 359}
HIGHEST_LEVEL = 16


def prepare(variant: str, cache: Path) -> None:
    """Store the three splits in ``cache``."""
    prepare_splits(cache / "digits.npz", recipe(Path(__file__).parent), make)


def load(variant: str, cache: Path, split: str) -> Split:
    """Return one split: float32 images (N, 1, 8, 8) in [0, 1], int64 labels (N,)."""
    return load_split(cache / "digits.npz", split)


def make() -> dict[str, Split]:
    """Draw the splits from the digits of the package."""
    from sklearn.datasets import load_digits  # takes a second to import, and only preparation needs it

    source = load_digits()
    images = (source.images[:, None] / HIGHEST_LEVEL).astype(np.float32)
    labels = source.target.astype(np.int64)
    parts = stratified_split(labels, SIZES, np.random.Generator(np.random.PCG64(SPLIT_SEED)))
    return {name: Split(images[index], labels[index]) for name, index in parts.items()}
