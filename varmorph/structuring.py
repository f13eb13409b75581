"""Structuring functions in NumPy: what operators of all frameworks take as `bias`, and layers as `initial`.

A flat structuring element, a set of offsets, is the function that is 0 on it and -inf elsewhere. All are (kh, kw) in float64;
the origin lies at (kh // 2, kw // 2). Convert them for the framework at hand: `torch.as_tensor(disk(3), dtype=torch.float32)`,
`jax.numpy.asarray(disk(3), "float32")`.

P. Soille (2003), Morphological Image Analysis, 2nd edition, chapter 3.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["cross", "diamond", "disk", "flat", "line", "mirrored", "quadratic", "square"]

Function = npt.NDArray[np.float64]


def flat(footprint: npt.ArrayLike) -> Function:
    """Give the structuring function of a footprint, as scikit-image, SciPy and OpenCV have them: 0 inside, -inf outside.

    Parameters
    ----------
    footprint : (kh, kw)
        What is true, or not 0, belongs to the structuring element.

    Raises
    ------
    ValueError
        If it is no array of two axes, or nothing belongs to it.

    Examples
    --------
    >>> flat([[0, 1, 0], [1, 1, 1]])
    array([[-inf,   0., -inf],
           [  0.,   0.,   0.]])
    """
    inside = np.asarray(footprint) != 0
    if inside.ndim != 2 or not inside.any():
        raise ValueError(f"footprint must have shape (kh, kw) with an element that is not 0, found {inside.shape}")
    return np.where(inside, 0.0, -np.inf)


def mirrored(function: npt.ArrayLike) -> Function:
    """Turn a structuring function round about its origin: offset k takes the value of -k.

    Libraries differ in whether a dilation, or an erosion, reads the window so; see `varmorph/README.md`.

    Parameters
    ----------
    function : (kh, kw)

    Returns
    -------
    (kh, kw), with one more row or column of -inf in front where a side is even, so that the origin stays.

    Raises
    ------
    ValueError
        If it is no array of two axes.

    Examples
    --------
    >>> mirrored([[1.0, 2.0, 3.0]])
    array([[3., 2., 1.]])
    >>> mirrored([[1.0, 2.0]])
    array([[-inf,   2.,   1.]])
    """
    values = np.asarray(function, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"function must have shape (kh, kw), found {values.shape}")
    odd = np.pad(values, [(0, 1 - side % 2) for side in values.shape], constant_values=-np.inf)
    return odd[::-1, ::-1].copy()


def square(side: int) -> Function:
    """Give the flat square of this side.

    Examples
    --------
    >>> square(2)
    array([[0., 0.],
           [0., 0.]])
    """
    return np.zeros((_positive("side", side),) * 2)


def disk(radius: int) -> Function:
    """Give the flat disk of the pixels whose centres are at most `radius` from the origin, as `skimage.morphology.disk`.

    Examples
    --------
    >>> disk(1)
    array([[-inf,   0., -inf],
           [  0.,   0.,   0.],
           [-inf,   0., -inf]])
    """
    row, column = _offsets(_nonnegative("radius", radius))
    return flat(row**2 + column**2 <= radius**2)


def diamond(radius: int) -> Function:
    """Give the flat ball of the city-block distance, as `skimage.morphology.diamond`.

    Examples
    --------
    >>> (diamond(2) == 0).astype(int)
    array([[0, 0, 1, 0, 0],
           [0, 1, 1, 1, 0],
           [1, 1, 1, 1, 1],
           [0, 1, 1, 1, 0],
           [0, 0, 1, 0, 0]])
    """
    row, column = _offsets(_nonnegative("radius", radius))
    return flat(abs(row) + abs(column) <= radius)


def cross(size: int) -> Function:
    """Give the flat cross of a row and a column of this length, which meet at the origin.

    Examples
    --------
    >>> (cross(5) == 0).astype(int)
    array([[0, 0, 1, 0, 0],
           [0, 0, 1, 0, 0],
           [1, 1, 1, 1, 1],
           [0, 0, 1, 0, 0],
           [0, 0, 1, 0, 0]])
    """
    footprint = np.zeros((_positive("size", size),) * 2, bool)
    footprint[size // 2] = footprint[:, size // 2] = True
    return flat(footprint)


def line(length: int, angle: float) -> Function:
    """Give the flat line of this many pixels through the origin, at an angle in degrees, anticlockwise from the row axis.

    Pixel by pixel along the axis that is nearer to the angle (Bresenham's line). The window is as small as holds it, with
    odd sides.

    Parameters
    ----------
    length : int
        Number of pixels, odd, so that the line is symmetric about the origin.
    angle : float
        0 is horizontal, 90 vertical, 45 rises to the right.

    Raises
    ------
    ValueError
        If the length is no odd positive integer, or the angle not finite.

    Examples
    --------
    >>> line(3, 0)
    array([[0., 0., 0.]])
    >>> (line(5, 45) == 0).astype(int)
    array([[0, 0, 0, 0, 1],
           [0, 0, 0, 1, 0],
           [0, 0, 1, 0, 0],
           [0, 1, 0, 0, 0],
           [1, 0, 0, 0, 0]])
    """
    if _positive("length", length) % 2 == 0:
        raise ValueError(f"length must be odd, found {length}")
    if not math.isfinite(angle):
        raise ValueError(f"angle must be a finite number of degrees, found {angle}")
    along, across = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    step = np.arange(length) - length // 2
    greater = max(abs(along), abs(across))
    column, row = (_nearest(step * part / greater) for part in (along, -across))
    footprint = np.zeros((2 * abs(row).max() + 1, 2 * abs(column).max() + 1), bool)
    footprint[row + abs(row).max(), column + abs(column).max()] = True
    return flat(footprint)


def quadratic(size: int, scale: float) -> Function:
    """Give the quadratic structuring function -|k|^2 / (4 scale) on a square window.

    Dilations by it at growing scales form a scale space: on the whole plane, scale t after scale s is scale s + t.
    R. van den Boomgaard, A. Smeulders (1994), The morphological structure of images, IEEE Transactions on Pattern Analysis and
    Machine Intelligence 16(11), 1101-1113.

    Parameters
    ----------
    size : int
        Side of the window.
    scale : float
        Positive; larger ones are flatter.

    Examples
    --------
    >>> quadratic(3, 0.25)
    array([[-2., -1., -2.],
           [-1.,  0., -1.],
           [-2., -1., -2.]])
    """
    if not 0 < scale < math.inf:
        raise ValueError(f"scale must be a positive number, found {scale}")
    offset = np.arange(_positive("size", size)) - size // 2
    return 0.0 - (offset[:, None] ** 2 + offset**2) / (4 * scale)


def _nearest(numbers: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """Round to integers, halves away from 0, so that a line stays symmetric."""
    return (np.sign(numbers) * np.floor(abs(numbers) + 0.5 - 1e-9)).astype(int)


def _offsets(radius: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Give rows and columns of a square window, counted from its origin."""
    offset = np.arange(2 * radius + 1) - radius
    return offset[:, None], offset[None]


def _positive(name: str, value: int) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a positive integer, found {value!r}")
    return int(value)


def _nonnegative(name: str, value: int) -> int:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name} must be an integer >= 0, found {value!r}")
    return int(value)
