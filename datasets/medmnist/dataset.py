"""The twelve two-dimensional data sets of MedMNIST, from their official npz files of 28x28 pixels."""

from __future__ import annotations

from functools import cache as remember
from pathlib import Path
from typing import Any

import numpy as np

from morphobench.contract import Split
from morphobench.data.download import CorruptFile, obtain
from morphobench.data.splits import read_arrays
from morphobench.settings.reading import read_yaml

SIDE = 28
NAMES_IN_FILE = {"train": "train", "valid": "val", "test": "test"}


def prepare(variant: str, cache: Path) -> None:
    """Bring the file of one variant to ``cache``: from MORPHOBENCH_DATA/medmnist/, else from the network."""
    entry = source_file(variant)
    obtain(entry, "medmnist", cache / entry["name"])


def load(variant: str, cache: Path, split: str) -> Split:
    """Return one split: uint8 images (N, 1 or 3, 28, 28); labels int64 (N,), for chest uint8 (N, 14)."""
    if split not in NAMES_IN_FILE:
        raise ValueError(f"split: found {split!r}, expected one of {', '.join(NAMES_IN_FILE)}")
    path = cache / source_file(variant)["name"]
    images_name, labels_name = f"{NAMES_IN_FILE[split]}_images", f"{NAMES_IN_FILE[split]}_labels"
    arrays = read_arrays(path, [images_name, labels_name])
    images, labels = arrays[images_name], arrays[labels_name]
    check(path, images_name, images, labels)
    images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    labels = labels.astype(np.uint8) if labels.shape[1] > 1 else labels[:, 0].astype(np.int64)
    return Split(np.ascontiguousarray(images), labels)


def describe(variant: str) -> dict[str, Any]:
    """Return the class names and the number of outputs of one variant."""
    classes = tuple(declared()["variants"][variant]["classes"])
    return {"classes": classes, "outputs": len(classes)}


def source_file(variant: str) -> dict[str, Any]:
    """Return the entry of ``dataset.yaml`` for the file of one variant."""
    for entry in declared()["files"]:
        if entry["variant"] == variant:
            return entry
    raise ValueError(f"medmnist: found variant {variant!r}, expected one of {', '.join(declared()['variants'])}")


@remember
def declared() -> dict[str, Any]:
    """Return what ``dataset.yaml`` says."""
    return read_yaml(Path(__file__).parent / "dataset.yaml")


def check(path: Path, name: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Refuse arrays that are not 28x28 grey or colour pictures, each with a row of labels."""
    pictures = images.dtype == np.uint8 and images.shape[1:] in ((SIDE, SIDE), (SIDE, SIDE, 3))
    if not pictures or labels.ndim != 2 or len(labels) != len(images):
        raise CorruptFile(
            f"{path}: {name}: found {images.dtype} {images.shape} with labels {labels.shape}, "
            "expected uint8 (N, 28, 28) or (N, 28, 28, 3) with labels (N, L)"
        )
