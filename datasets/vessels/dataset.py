"""Generated pictures of retinal vessels: branching trees grown from an optic disc, on an uneven fundus with noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from morphobench.contract import Split
from morphobench.data.splits import first_samples, load_split, prepare_splits, recipe
from morphobench.data.synthetic_images import (
    binomial_blur,
    coverage,
    disc_depth,
    quantise,
    smooth_field,
    turn,
    unit_vector,
)

SEED = 20240604
SIZES = {"train": 300, "valid": 75, "test": 125}
SMALL = {"train": 200, "valid": 50, "test": 100}  # of the variant small: the first of each split
SIDE = 64
SHAPE = (SIDE, SIDE)

STEP = 0.5  # pixels between two discs of a vessel
TAPER = 0.998  # of the radius remains after a step
OUTWARD = 0.012  # pull away from the optic disc, as a half tangent per step
MARGIN = 12  # pixels that a vessel may leave the picture and come back, or come from
THINNEST = 0.6  # radius at which a vessel ends; thinner ones would fall between the pixels
# Radii of the two branches relative to the parent, by Murray's law a^3 + b^3 = 1, and the half tangents of the angles
# by which they leave its direction (the thicker one bends less).
BRANCHINGS = ((0.79, 0.79, 0.20, 0.20), (0.87, 0.70, 0.14, 0.28), (0.93, 0.58, 0.07, 0.38), (0.97, 0.44, 0.03, 0.46))
FEWEST = 150  # vessel pixels in a picture; one with fewer is drawn again
BRIGHT_SHARE = 0.25  # of the pictures show bright vessels, as an angiogram does


def prepare(variant: str, cache: Path) -> None:
    """Generate the three splits and store them in ``cache``."""
    prepare_splits(cache / "vessels.npz", recipe(Path(__file__).parent), make)


def load(variant: str, cache: Path, split: str) -> Split:
    """Return one split: uint8 images (N, 1, 64, 64), int64 masks (N, 64, 64), 0 background and 1 vessel."""
    whole = load_split(cache / "vessels.npz", split)
    return first_samples(whole, SMALL[split]) if variant == "small" else whole


def make() -> dict[str, Split]:
    """Generate the pictures; each split has a generator of its own, spawned from one seed."""
    seeds = np.random.SeedSequence(SEED).spawn(len(SIZES))
    return {
        name: generate(np.random.Generator(np.random.PCG64(seed)), count)
        for (name, count), seed in zip(SIZES.items(), seeds, strict=True)
    }


def generate(generator: np.random.Generator, count: int) -> Split:
    """Generate ``count`` pictures with their masks."""
    images = np.empty((count, 1, *SHAPE), dtype=np.uint8)
    masks = np.empty((count, *SHAPE), dtype=np.int64)
    for index in range(count):
        images[index, 0], masks[index] = draw_picture(generator)
    return Split(images, masks)


def draw_picture(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw one picture (uint8) and its mask (bool)."""
    while True:
        disc = generator.uniform(-0.1, 1.1, 2) * SIDE
        depth = disc_depth(*grow_vessels(generator, disc), SHAPE)
        field = field_of_view(generator)
        mask = (depth >= 0) & (field >= 0.5)
        if np.count_nonzero(mask) >= FEWEST:
            return quantise(render(generator, depth, disc, field)), mask


@dataclass
class Tip:
    """The growing end of a vessel: place and direction (row, column), radius in pixels, and curvature."""

    place: tuple[float, float]
    direction: tuple[float, float]
    radius: float
    bend: float = 0.0


def grow_vessels(generator: np.random.Generator, disc: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Grow trees from the optic disc until every branch is thin or has left; return points (N, 2) and radii (N,)."""
    tortuosity = generator.uniform(0.002, 0.008)
    tips = trunks(generator, disc)
    points: list[tuple[float, float]] = []
    radii: list[float] = []
    while tips:
        tip = tips.pop()
        steps_to_branching = int(generator.integers(16, 64))
        wander = tortuosity * generator.standard_normal(steps_to_branching)
        for kick in wander.tolist():
            if tip.radius < THINNEST or not near(tip.place):
                break
            points.append(tip.place)
            radii.append(tip.radius)
            advance(tip, kick, disc)
        else:
            tips += branch(generator, tip)
    return np.array(points).reshape(-1, 2), np.array(radii)


def trunks(generator: np.random.Generator, disc: np.ndarray) -> list[Tip]:
    """Start vessels at the optic disc, well apart, and towards the picture where the disc lies near its edge."""
    towards = SIDE / 2 - disc
    distance = np.sqrt(towards[0] * towards[0] + towards[1] * towards[1])
    tips: list[Tip] = []
    for _ in range(int(generator.integers(7, 19))):
        row, column = unit_vector(generator)
        cosine = (row * towards[0] + column * towards[1]) / distance
        crowded = any(row * tip.direction[0] + column * tip.direction[1] > 0.92 for tip in tips)
        if crowded or (distance > 0.35 * SIDE and cosine < 0.1):
            continue
        start = disc + generator.uniform(-3, 3, 2)
        tips.append(Tip((start[0], start[1]), (row, column), generator.uniform(0.9, 1.9)))
    return tips


def near(place: tuple[float, float]) -> bool:
    """Whether a place lies in the picture or close enough to it for a vessel to come back."""
    return -MARGIN < place[0] < SIDE + MARGIN and -MARGIN < place[1] < SIDE + MARGIN


def advance(tip: Tip, kick: float, disc: np.ndarray) -> None:
    """Move the tip by one step: its curvature wanders, and it is drawn away from the optic disc."""
    row, column = tip.place[0] - float(disc[0]), tip.place[1] - float(disc[1])
    across = (tip.direction[0] * column - tip.direction[1] * row) / (math.sqrt(row * row + column * column) + 1)
    tip.bend = 0.95 * tip.bend + kick
    tip.direction = turn(tip.direction, tip.bend + OUTWARD * across)
    tip.place = (tip.place[0] + STEP * tip.direction[0], tip.place[1] + STEP * tip.direction[1])
    tip.radius *= TAPER


def branch(generator: np.random.Generator, tip: Tip) -> list[Tip]:
    """Split a tip in two: widths by Murray's law, the thinner branch bending away further, to either side."""
    thick, thin, small, large = BRANCHINGS[int(generator.integers(len(BRANCHINGS)))]
    side = 1 if generator.random() < 0.5 else -1
    return [
        Tip(tip.place, turn(tip.direction, -side * small), tip.radius * thick),
        Tip(tip.place, turn(tip.direction, side * large * generator.uniform(0.8, 1.3)), tip.radius * thin),
    ]


def field_of_view(generator: np.random.Generator) -> np.ndarray:
    """Draw the round aperture of the camera; its edge crosses most pictures. Share of each pixel inside it."""
    centre = SIDE / 2 + generator.uniform(-10, 10, 2)
    radius = generator.uniform(34, 48)
    return coverage(disc_depth(centre[None], np.array([radius]), SHAPE))


def render(generator: np.random.Generator, depth: np.ndarray, disc: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Paint fundus, optic disc, lesions and vessels, then blur, add noise and cut to the field of view."""
    fundus = smooth_field(generator, SHAPE, 2, 0.30, 0.62) + smooth_field(generator, SHAPE, 12, -0.06, 0.06)
    glow = coverage(disc_depth(disc[None], np.array([generator.uniform(6, 9)]), SHAPE))
    fundus = fundus + generator.uniform(0.10, 0.25) * binomial_blur(glow, 3) + lesions(generator)
    contrast = generator.uniform(0.14, 0.26) * smooth_field(generator, SHAPE, 3, 0.55, 1.25)
    # Thin vessels carry less blood in the line of sight, and so are fainter; thick ones are darkest along their axis.
    vessels = coverage(depth) * (0.7 + 0.3 * np.clip(depth, 0, 1.5))
    sign = 1 if generator.random() < BRIGHT_SHARE else -1
    image = binomial_blur(fundus + sign * contrast * vessels)
    grain = binomial_blur(generator.standard_normal(SHAPE))
    image = image + generator.uniform(0.01, 0.035) * generator.standard_normal(SHAPE) + 0.03 * grain
    return image * field + 0.03 * (1 - field)


def lesions(generator: np.random.Generator) -> np.ndarray:
    """Draw a few small dark haemorrhages and bright exudates, which are no vessels."""
    painted = np.zeros(SHAPE)
    for strength in (-0.15, 0.2):
        count = int(generator.integers(0, 4))
        centres = generator.uniform(0, SIDE, (count, 2))
        painted += strength * coverage(disc_depth(centres, generator.uniform(0.8, 2.2, count), SHAPE))
    return painted
