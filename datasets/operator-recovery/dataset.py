"""Pairs of an image and what a known morphological operator makes of it; to be found is the operator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from morphobench.contract import MorphologicalTarget, Split
from morphobench.data.splits import load_split, prepare_splits, recipe, stratified_split
from morphobench.data.synthetic_images import mnist_digits
from varmorph import reference, structuring

SPLIT_SEED = 20261126
SEED = 20261127
SIZES = {"train": 200, "valid": 60, "test": 100}
DIGITS = {"train": 3000, "valid": 900, "test": 1100}  # MNIST digits to draw from: no digit serves two splits
SIDE = 7  # of the window that holds the structuring functions
PATCH = 20  # pixels, side of every image
LEAST_RANGE = 0.25  # of the grey values of a patch, before it is scaled to [0, 1]
PHOTOGRAPHS = ("camera", "coins", "brick", "grass", "moon")  # scikit-image ships them
# Bands of columns, as shares of the width, from which the patches of each split are cut: none serves two splits.
BANDS = {"train": (0.0, 0.6), "valid": (0.6, 0.75), "test": (0.75, 1.0)}


def prepare(variant: str, cache: Path) -> None:
    """Make the pairs of three splits and store them in ``cache``; beside it the images, which all variants share."""
    source, made_by = variant.split("-")[0], recipe(Path(__file__).parent)
    shared, wanted = cache.parent / f"{source}.npz", target(variant)

    def images() -> dict[str, Split]:
        return {name: Split(found, found) for name, found in SOURCES[source]().items()}

    def make() -> dict[str, Split]:
        prepare_splits(shared, made_by, images)
        return {name: pairs(load_split(shared, name).images, wanted) for name in SIZES}

    prepare_splits(cache / "operator-recovery.npz", made_by, make)


def load(variant: str, cache: Path, split: str) -> Split:
    """Return one split: float32 images and results (N, 1, H, W) in [0, 1]."""
    return load_split(cache / "operator-recovery.npz", split)


def target(variant: str) -> MorphologicalTarget:
    """Return the operation of a variant and the structuring function (7, 7) that it was made with."""
    _, operation, element = variant.split("-")
    return MorphologicalTarget(operation, elements()[element])


def elements() -> dict[str, np.ndarray]:
    """Return the structuring functions (7, 7): disk of 29 pixels, row of 7, both diagonals (13 pixels), and -|k|^2 / 18."""
    middle, diagonal = np.arange(SIDE) == SIDE // 2, np.eye(SIDE, dtype=bool)
    return {
        "disk": structuring.disk(SIDE // 2),
        "stick": structuring.flat(np.repeat(middle[:, None], SIDE, axis=1)),
        "cross": structuring.flat(diagonal | diagonal[::-1]),
        "quadratic": structuring.quadratic(SIDE, (SIDE // 2) ** 2 / 2),  # -1 at the corners
    }


def digits() -> dict[str, np.ndarray]:
    """MNIST digits (N, 1, 20, 20) of each split: all but the empty border of 4 pixels."""
    pixels, classes = mnist_digits()
    border = (28 - PATCH) // 2
    images = (pixels.reshape(-1, 1, 28, 28) / 255)[..., border:-border, border:-border].astype(np.float32)
    pools = stratified_split(classes, DIGITS, np.random.Generator(np.random.PCG64(SPLIT_SEED)))
    seeds = np.random.SeedSequence(SEED).spawn(len(SIZES))
    return {
        name: images[np.random.Generator(np.random.PCG64(seed)).choice(pools[name], count, replace=False)]
        for (name, count), seed in zip(SIZES.items(), seeds, strict=True)
    }


def photographs() -> dict[str, np.ndarray]:
    """Patches (N, 1, 20, 20) of photographs, each split from columns of its own."""
    from skimage import data

    pictures = [getattr(data, name)().astype(np.float64) / 255 for name in PHOTOGRAPHS]
    seeds = np.random.SeedSequence(SEED).spawn(len(SIZES))
    cut: dict[str, np.ndarray] = {}
    for (name, count), seed in zip(SIZES.items(), seeds, strict=True):
        generator = np.random.Generator(np.random.PCG64(seed))
        bands = [_band(picture, *BANDS[name]) for picture in pictures]
        patches = [
            next(_patches(generator, bands[number % len(bands)])) for number in range(count)
        ]  # the same number from each
        cut[name] = np.stack(patches)[:, None].astype(np.float32)
    return cut


SOURCES = {"digits": digits, "photographs": photographs}


def pairs(images: np.ndarray, wanted: MorphologicalTarget) -> Split:
    """Return images (N, 1, H, W) with what the operator makes of them; the window is cut at the border."""
    operator = getattr(reference, wanted.operation)
    return Split(images, operator(images, wanted.structuring_function).astype(np.float32))


def _band(picture: np.ndarray, start: float, end: float) -> np.ndarray:
    width = picture.shape[1]
    return picture[:, round(start * width) : round(end * width)]


def _patches(generator: np.random.Generator, picture: np.ndarray) -> Iterator[np.ndarray]:
    """Cut patches at random places, leave out those that are nearly uniform, and scale the others to [0, 1]."""
    while True:
        row = int(generator.integers(picture.shape[0] - PATCH + 1))
        column = int(generator.integers(picture.shape[1] - PATCH + 1))
        patch = picture[row : row + PATCH, column : column + PATCH]
        low, high = patch.min(), patch.max()
        if high - low >= LEAST_RANGE:
            yield (patch - low) / (high - low)
