"""MNIST shapes under clutter, salt-and-pepper noise and uneven light; the truth is the clean shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from morphobench.contract import Split
from morphobench.data.splits import first_samples, load_split, prepare_splits, recipe, stratified_split
from morphobench.data.synthetic_images import (
    coverage,
    disc_depth,
    enlarge,
    mnist_digits,
    quantise,
    smooth_field,
    turn,
    unit_vector,
)

SPLIT_SEED = 20240605
SEED = 20240606
SIZES = {"train": 600, "valid": 150, "test": 250}
SMALL = {"train": 200, "valid": 50, "test": 100}  # of the variant small: the first of each split
DIGITS = {"train": 3000, "valid": 750, "test": 1250}  # digits to draw from: no digit serves two splits
SIDE = 32
SHAPE = (SIDE, SIDE)


def prepare(variant: str, cache: Path) -> None:
    """Generate the three splits and store them in ``cache``."""
    prepare_splits(cache / "degraded-digits.npz", recipe(Path(__file__).parent), make)


def load(variant: str, cache: Path, split: str) -> Split:
    """Return one split: uint8 images (N, 1, 32, 32), int64 masks (N, 32, 32), 0 background and 1 digit."""
    whole = load_split(cache / "degraded-digits.npz", split)
    return first_samples(whole, SMALL[split]) if variant == "small" else whole


def make() -> dict[str, Split]:
    """Generate the pictures; each split has digits and a generator of its own."""
    pixels, classes = mnist_digits()
    digits = pixels.reshape(-1, 28, 28) / 255
    pools = stratified_split(classes, DIGITS, np.random.Generator(np.random.PCG64(SPLIT_SEED)))
    seeds = np.random.SeedSequence(SEED).spawn(len(SIZES))
    return {
        name: generate(np.random.Generator(np.random.PCG64(seed)), digits[pools[name]], count)
        for (name, count), seed in zip(SIZES.items(), seeds, strict=True)
    }


def generate(generator: np.random.Generator, digits: np.ndarray, count: int) -> Split:
    """Generate ``count`` pictures with their masks from ``digits`` (D, 28, 28) in [0, 1], none used twice."""
    images = np.empty((count, 1, *SHAPE), dtype=np.uint8)
    masks = np.empty((count, *SHAPE), dtype=np.int64)
    unused = iter(digits[generator.permutation(len(digits))])
    for index in range(count):
        several = generator.random() < 0.25
        shape = two_digits(generator, next(unused), next(unused)) if several else one_digit(generator, next(unused))
        images[index, 0], masks[index] = quantise(degrade(generator, shape)), shape >= 0.5
    return Split(images, masks)


def one_digit(generator: np.random.Generator, digit: np.ndarray) -> np.ndarray:
    """Place one digit, enlarged a little; grey values (32, 32) in [0, 1]."""
    side = int(generator.integers(28, 37))
    margin = side // 8  # the digits have empty borders, which may lie outside the picture
    row, column = generator.integers(-margin, SIDE - side + margin + 1, 2).tolist()
    return place(digit, side, row, column)


def two_digits(generator: np.random.Generator, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Place two smaller digits side by side; grey values (32, 32) in [0, 1]."""
    first, second = generator.integers(21, 24, 2).tolist()
    rows = generator.integers(-2, SIDE - max(first, second) + 3, 2).tolist()
    return np.maximum(place(left, first, rows[0], -3), place(right, second, rows[1], SIDE + 3 - second))


def place(digit: np.ndarray, side: int, row: int, column: int) -> np.ndarray:
    """Enlarge a digit to ``side`` pixels and put its corner at (row, column); what lies outside is cut off."""
    padded = np.zeros((SIDE + 2 * side, SIDE + 2 * side))
    padded[row + side : row + 2 * side, column + side : column + 2 * side] = enlarge(digit, side, side)
    return padded[side : side + SIDE, side : side + SIDE]


def degrade(generator: np.random.Generator, shape: np.ndarray) -> np.ndarray:
    """Put clutter beside the shape, light both unevenly, and add noise."""
    ink = np.maximum(np.clip(1.5 * shape - 0.25, 0, 1), clutter(generator))
    light = smooth_field(generator, SHAPE, 2, 0.35, 1.15)
    background = smooth_field(generator, SHAPE, 2, -0.1, 0.7)
    image = background + generator.uniform(0.45, 0.70) * light * ink
    image = image + generator.uniform(0.02, 0.04) * generator.standard_normal(SHAPE)
    return salt_and_pepper(generator, image)


def clutter(generator: np.random.Generator) -> np.ndarray:
    """Draw scratches and specks as bright as the digits but thinner and smaller; share of each pixel they cover."""
    scratches = [scratch(generator) for _ in range(int(generator.integers(1, 4)))]
    specks = int(generator.integers(2, 8))
    points = np.concatenate([*scratches, generator.uniform(0, SIDE, (specks, 2))])
    radii = [np.full(len(points), generator.uniform(0.35, 0.65)) for points in scratches]
    return coverage(disc_depth(points, np.concatenate([*radii, generator.uniform(0.5, 1.3, specks)]), SHAPE))


def scratch(generator: np.random.Generator) -> np.ndarray:
    """Draw a slightly curved line of 8 to 30 pixels; its points (N, 2), half a pixel apart."""
    row, column = generator.uniform(0, SIDE, 2).tolist()
    direction, bend = unit_vector(generator), generator.uniform(-0.02, 0.02)
    points = []
    for _ in range(int(generator.integers(16, 61))):
        points.append((row, column))
        direction = turn(direction, bend)
        row, column = row + 0.5 * direction[0], column + 0.5 * direction[1]
    return np.array(points)


def salt_and_pepper(generator: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Set 2 to 5 per cent of the pixels to black or white."""
    share = generator.uniform(0.02, 0.05)
    chance = generator.random(SHAPE)
    return np.where(chance < share / 2, 0.0, np.where(chance > 1 - share / 2, 1.0, image))
