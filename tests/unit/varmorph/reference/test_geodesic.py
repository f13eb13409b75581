"""The geodesic operators of the specification: against scikit-image, SciPy and properties."""

import numpy as np
import pytest
from scipy import ndimage
from skimage import morphology

from varmorph import reference

FOOTPRINTS = {8: np.ones((3, 3), dtype=bool), 4: ndimage.generate_binary_structure(2, 1)}
both = pytest.mark.parametrize("connectivity", [4, 8])


def image(seed, shape=(2, 2, 6, 7)):
    """Draw whole numbers: their plateaus are where definitions differ."""
    return np.random.default_rng(seed).integers(0, 5, shape).astype(float)


def plane_by_plane(function, *images):
    result = np.stack(
        [function(*planes) for planes in zip(*(x.reshape(-1, *x.shape[2:]) for x in images), strict=True)]
    )
    return result.reshape(images[0].shape)


@both
def test_below_its_reference_a_leveling_is_the_reconstruction(connectivity):
    marker, upper = image(0) - image(1), image(0)
    expected = plane_by_plane(
        lambda m, f: morphology.reconstruction(m, f, footprint=FOOTPRINTS[connectivity]), marker, upper
    )
    np.testing.assert_array_equal(reference.leveling(marker, upper, connectivity=connectivity), expected)
    dual = reference.leveling(-marker, -upper, connectivity=connectivity)
    np.testing.assert_array_equal(dual, -expected)


@both
def test_a_leveling_steps_only_where_its_reference_does(connectivity):
    marker, upper = image(2), image(3)
    m = reference.leveling(marker, upper, connectivity=connectivity)
    np.testing.assert_array_equal(reference.leveling(m, upper, connectivity=connectivity), m)
    shifts = [(0, 1), (1, 0)] if connectivity == 4 else [(0, 1), (1, 0), (1, 1), (1, -1)]
    for di, dj in shifts:
        here, there = (
            (slice(0, 6 - di), slice(max(0, -dj), 7 - max(0, dj))),
            (slice(di, 6), slice(max(0, dj), 7 + min(0, dj))),
        )
        for p, q in ((here, there), (there, here)):
            step = m[..., p[0], p[1]] > m[..., q[0], q[1]]
            assert (upper[..., p[0], p[1]] >= m[..., p[0], p[1]])[step].all()
            assert (upper[..., q[0], q[1]] <= m[..., q[0], q[1]])[step].all()


@both
def test_regional_maxima_are_those_of_scikit_image(connectivity):
    x = image(4)
    expected = plane_by_plane(
        lambda f: morphology.local_maxima(f, connectivity={4: 1, 8: 2}[connectivity]).astype(bool), x
    )
    np.testing.assert_array_equal(reference.regional_maxima(x, connectivity=connectivity), expected)


@both
def test_extended_maxima_hold_the_tops_that_scikit_image_finds(connectivity):
    x, near = image(5), FOOTPRINTS[connectivity]
    extended = reference.extended_maxima(x, 1.5, connectivity=connectivity)
    tops = plane_by_plane(lambda f: morphology.h_maxima(f, 1.5, near).astype(bool), x)
    grown = plane_by_plane(lambda m, f: ndimage.binary_propagation(m, near, f), tops, extended)
    np.testing.assert_array_equal(grown, extended)


@both
def test_extrema_of_height_h_are_reconstructions(connectivity):
    x = image(6)
    lowered = reference.h_maxima(x, 2.0, connectivity=connectivity)
    expected = plane_by_plane(lambda f: morphology.reconstruction(f - 2.0, f, footprint=FOOTPRINTS[connectivity]), x)
    np.testing.assert_array_equal(lowered, expected)
    np.testing.assert_array_equal(reference.h_minima(-x, 2.0, connectivity=connectivity), -lowered)
    np.testing.assert_array_equal(reference.h_convex(x, 2.0, connectivity=connectivity), x - lowered)


@both
def test_filling_holes_fills_those_of_every_threshold(connectivity):
    x = image(7)
    filled = reference.fill_holes(x, connectivity=connectivity)
    for height in range(1, 5):
        expected = plane_by_plane(lambda f: ndimage.binary_fill_holes(f, FOOTPRINTS[connectivity]), x >= height)
        np.testing.assert_array_equal(filled >= height, expected)


@both
def test_opening_by_reconstruction_keeps_the_shape_of_what_it_keeps(connectivity):
    x, flat = image(8), np.zeros((2, 2))
    opened = reference.opening_by_reconstruction(x, flat, connectivity=connectivity)
    expected = plane_by_plane(
        lambda e, f: morphology.reconstruction(e, f, footprint=FOOTPRINTS[connectivity]), reference.erosion(x, flat), x
    )
    np.testing.assert_array_equal(opened, expected)
    reflected = reference.closing_by_reconstruction(-x[..., ::-1, ::-1], np.zeros((3, 3)), connectivity=connectivity)
    dual = -reference.opening_by_reconstruction(x, np.zeros((3, 3)), connectivity=connectivity)[..., ::-1, ::-1]
    np.testing.assert_array_equal(reflected, dual)


def test_an_unknown_connectivity_is_refused():
    with pytest.raises(ValueError, match="connectivity must be 4 or 8, found 6"):
        reference.leveling(image(0), image(1), connectivity=6)


def test_what_is_not_a_number_spreads_and_ends():
    mask = np.array([[[[1.0, np.nan, 1.0, 2.0]]]])
    with np.errstate(invalid="ignore"):
        found = reference.reconstruction(np.zeros((1, 1, 1, 4)), mask)
    assert np.isnan(found[..., 1]).all()
