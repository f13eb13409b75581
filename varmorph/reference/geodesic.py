"""Geodesic reconstruction, levelings, and the operators built on them: every loop runs until nothing changes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from varmorph.reference.edges import Array, as_function, as_image
from varmorph.reference.exact import dilation, erosion
from varmorph.reference.gradients import ReconstructionGradients


def _neighbourhood(connectivity: int) -> Array:
    """Give the flat structuring function of a pixel and its 4 or 8 neighbours."""
    if connectivity not in (4, 8):
        raise ValueError(f"connectivity must be 4 or 8, found {connectivity!r}")
    return np.where(np.abs(np.indices((3, 3)) - 1).sum(0) * 4 > connectivity, -np.inf, 0.0)


def reconstruction(
    marker: ArrayLike, mask: ArrayLike, bias: ArrayLike | None = None, *, by: str = "dilation", connectivity: int = 8
) -> Array:
    """Repeat u <- min(mask, dilation(u, bias)) from u = min(marker, mask) until nothing changes.

    >>> reconstruction([[[[0.0, 2.0, 0.0, 1.0, 0.0]]]], [[[[1.0, 3.0, 1.0, 2.0, 1.0]]]])
    array([[[[1., 2., 1., 1., 1.]]]])
    """
    if by == "erosion":
        return -reconstruction(-as_image(marker), -as_image(mask), bias, connectivity=connectivity)
    if bias is None:
        bias = _neighbourhood(connectivity)
    u, before = np.minimum(as_image(marker), as_image(mask)), None
    while before is None or not np.array_equal(u, before, equal_nan=True):
        before, u = u, np.minimum(as_image(mask), np.maximum(u, dilation(u, bias)))
    return u


IN_MASK, IN_MARKER = -1, -2  # where a pixel is a copy of the mask or the marker at its own place
UNSEEN = -3  # not followed yet


def reconstruction_sources(marker: ArrayLike, mask: ArrayLike, bias: ArrayLike) -> Array:
    """Tell of what each pixel of a reconstruction by dilation is a copy.

    An integer an output pixel: IN_MASK or IN_MARKER where it has the value of that image, else the place in the window of
    the neighbour whose value plus bias it has. Of several neighbours it is the first in row-major order among those with the
    shortest path to a pixel of marker or mask, so that no path is a cycle.

    >>> reconstruction_sources([[[[0.0, 2.0, 0.0, 1.0]]]], [[[[1.0, 3.0, 2.5, 2.0]]]], [[0.0, 0.0, 0.0]])
    array([[[[-1, -2,  0, -1]]]])
    """
    lower, upper = as_image(marker), as_image(mask)
    if np.isnan(lower).any() or np.isnan(upper).any():
        raise ValueError("a pixel that is NaN is no copy of another: marker and mask must be numbers")
    u, offsets = reconstruction(lower, upper, bias), as_function(bias, lower.shape[1])
    sources = np.where(u == upper, IN_MASK, np.where(u == lower, IN_MARKER, UNSEEN))
    while (sources == UNSEEN).any():
        reached = sources != UNSEEN
        for place, (row, column) in reversed(list(enumerate(np.ndindex(offsets.shape[1:])))):
            shift = row - offsets.shape[1] // 2, column - offsets.shape[2] // 2
            copied = _seen_at(u, shift, np.nan) + offsets[:, row, column, None, None] == u
            sources[~reached & copied & _seen_at(reached, shift, False)] = place
    return sources


def _seen_at(image: Array, shift: tuple[int, int], outside: float | bool) -> Array:
    """Give each pixel i the value at i + shift."""
    rows, columns = (abs(step) for step in shift)
    padded = np.pad(image, ((0, 0), (0, 0), (rows, rows), (columns, columns)), constant_values=outside)
    top, left = rows + shift[0], columns + shift[1]
    return padded[:, :, top : top + image.shape[2], left : left + image.shape[3]]


def reconstruction_gradient(
    marker: ArrayLike, mask: ArrayLike, bias: ArrayLike, cotangent: ArrayLike
) -> ReconstructionGradients:
    """Differentiate sum(cotangent * reconstruction(marker, mask, bias)) by following every pixel to what it is a copy of."""
    sources, pull = reconstruction_sources(marker, mask, bias), as_image(cotangent)
    offsets = as_function(bias, sources.shape[1])
    by_marker, by_mask, by_bias = np.zeros(sources.shape), np.zeros(sources.shape), np.zeros(offsets.shape)
    for n, c, i, j in np.ndindex(sources.shape):
        k, m = i, j
        while (place := sources[n, c, k, m]) >= 0:
            row, column = divmod(place, offsets.shape[2])
            by_bias[c, row, column] += pull[n, c, i, j]
            k, m = k + row - offsets.shape[1] // 2, m + column - offsets.shape[2] // 2
        (by_mask if place == IN_MASK else by_marker)[n, c, k, m] += pull[n, c, i, j]
    return ReconstructionGradients(by_marker, by_mask, by_bias.reshape(np.shape(bias)))


def leveling(marker: ArrayLike, reference: ArrayLike, *, connectivity: int = 8) -> Array:
    """Repeat m <- max(erosion(m), min(dilation(m), reference)) for all pixels at once until nothing changes.

    The erosion and the dilation are flat, over a pixel and its neighbours.

    >>> leveling([[[[2.0, 2.0, 2.0, 0.0, 0.0]]]], [[[[1.0, 5.0, 3.0, 0.0, 1.0]]]])
    array([[[[2., 2., 2., 0., 0.]]]])
    """
    flat, upper = _neighbourhood(connectivity), as_image(reference)
    m, before = as_image(marker), None
    while before is None or not np.array_equal(m, before, equal_nan=True):
        before, m = m, np.maximum(erosion(m, flat), np.minimum(dilation(m, flat), upper))
    return m


def h_maxima(x: ArrayLike, h: ArrayLike, *, connectivity: int = 8) -> Array:
    """Reconstruct x from x - h: every maximum is lowered by h, or to the height at which it joins a higher one.

    An image. `skimage.morphology.h_maxima` marks where it is h below x, if the range of x is at least h.
    """
    return reconstruction(as_image(x) - h, x, connectivity=connectivity)


def h_minima(x: ArrayLike, h: ArrayLike, *, connectivity: int = 8) -> Array:
    """Reconstruct x from x + h by erosion: every minimum is raised."""
    return reconstruction(as_image(x) + h, x, by="erosion", connectivity=connectivity)


def h_convex(x: ArrayLike, h: ArrayLike, *, connectivity: int = 8) -> Array:
    """What `h_maxima` takes away: the domes of height at most h."""
    return as_image(x) - h_maxima(x, h, connectivity=connectivity)


def opening_by_reconstruction(x: ArrayLike, bias: ArrayLike, *, connectivity: int = 8) -> Array:
    """Reconstruct x from its erosion."""
    return reconstruction(erosion(x, bias), x, connectivity=connectivity)


def closing_by_reconstruction(x: ArrayLike, bias: ArrayLike, *, connectivity: int = 8) -> Array:
    """Reconstruct x by erosion from its dilation."""
    return reconstruction(dilation(x, bias), x, by="erosion", connectivity=connectivity)


def fill_holes(x: ArrayLike, *, connectivity: int = 8) -> Array:
    """Give each pixel the least height, over all paths to the border, of the highest pixel of a path."""
    x = as_image(x)
    marker = x.copy()
    marker[..., 1:-1, 1:-1] = np.inf
    return reconstruction(marker, x, by="erosion", connectivity=connectivity)


def regional_maxima(x: ArrayLike, *, connectivity: int = 8) -> Array:
    """Tell which pixels belong to a plateau of equal values, all of whose neighbours are lower.

    A constant image has no neighbours that are not, and is a maximum; for `skimage.morphology.local_maxima` it is none.

    >>> regional_maxima([[[[0.0, 2.0, 2.0, 1.0, 3.0]]]])
    array([[[[False,  True,  True, False,  True]]]])
    """
    x, near = as_image(x), _neighbourhood(connectivity) == 0
    result = np.zeros(x.shape, dtype=bool)
    for n, c in np.ndindex(x.shape[:2]):
        for height in np.unique(x[n, c]):
            plateaus, number = ndimage.label(x[n, c] == height, structure=near)
            for label in range(1, number + 1):
                plateau = plateaus == label
                around = ndimage.binary_dilation(plateau, structure=near) & ~plateau
                result[n, c] |= plateau & (x[n, c][around] < height).all()
    return result


def extended_maxima(x: ArrayLike, h: ArrayLike, *, connectivity: int = 8) -> Array:
    """Tell which pixels belong to the regional maxima of `h_maxima`: all of an image whose range is at most h.

    >>> extended_maxima([[[[0.0, 4.0, 3.0, 0.0, 1.0]]]], 2.0).astype(int)
    array([[[[0, 1, 1, 0, 0]]]])
    """
    return regional_maxima(h_maxima(x, h, connectivity=connectivity), connectivity=connectivity)
