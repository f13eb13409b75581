"""The generated pictures: seeded, and built as their descriptions say."""

import numpy as np
import pytest

from morphobench.data.synthetic_images import (
    binomial_blur,
    coverage,
    disc_depth,
    enlarge,
    quantise,
    smooth_field,
    turn,
    unit_vector,
)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def test_the_same_seed_gives_the_same_vessels(plugin):
    vessels = plugin("vessels")
    first, second, other = (vessels.generate(generator(seed), 3) for seed in (5, 5, 6))
    assert np.array_equal(first.images, second.images)
    assert np.array_equal(first.labels, second.labels)
    assert not np.array_equal(first.images, other.images)


def test_the_same_seed_gives_the_same_degradations(plugin):
    degraded = plugin("degraded-digits")
    digits = generator(1).random((12, 28, 28))
    first, second = (degraded.generate(generator(5), digits, 4) for _ in range(2))
    assert np.array_equal(first.images, second.images)
    assert np.array_equal(first.labels, second.labels)


def test_branch_radii_obey_murrays_law(plugin):
    vessels = plugin("vessels")
    parent = vessels.Tip((0.0, 0.0), (1.0, 0.0), 2.0)
    for seed in range(20):
        children = vessels.branch(generator(seed), parent)
        assert sum(child.radius**3 for child in children) == pytest.approx(parent.radius**3, rel=0.03)


def test_the_thinner_branch_bends_away_further(plugin):
    vessels = plugin("vessels")
    parent = vessels.Tip((0.0, 0.0), (1.0, 0.0), 2.0)
    for seed in range(20):
        thick, thin = sorted(vessels.branch(generator(seed), parent), key=lambda child: -child.radius)
        assert thin.radius == thick.radius or thin.direction[0] < thick.direction[0]


def test_vessels_only_get_thinner(plugin):
    vessels = plugin("vessels")
    tip = vessels.Tip((10.0, 10.0), (1.0, 0.0), 2.0)
    radii = []
    for _ in range(50):
        vessels.advance(tip, 0.0, np.array([0.0, 0.0]))
        radii.append(tip.radius)
    assert np.all(np.diff(radii) < 0)


def test_clutter_is_as_bright_as_the_digit_and_not_in_the_mask(plugin):
    degraded = plugin("degraded-digits")
    clutter = degraded.clutter(generator(3))
    assert clutter.max() == 1
    blank = degraded.generate(generator(3), np.zeros((4, 28, 28)), 2)
    assert not blank.labels.any()


def test_salt_and_pepper_touches_a_small_share_of_the_pixels(plugin):
    degraded = plugin("degraded-digits")
    grey = np.full(degraded.SHAPE, 0.5)
    shares = [(degraded.salt_and_pepper(generator(seed), grey) != 0.5).mean() for seed in range(50)]
    assert 0.02 < np.mean(shares) < 0.05


def test_disc_depth_is_the_largest_radius_minus_distance():
    centres, radii = np.array([[4.0, 4.5], [9.0, 2.0]]), np.array([2.0, 1.0])
    row, column = np.mgrid[:12, :10]
    distance = np.sqrt((row - centres[:, 0, None, None]) ** 2 + (column - centres[:, 1, None, None]) ** 2)
    expected = (radii[:, None, None] - distance).max(axis=0)
    depth = disc_depth(centres, radii, (12, 10))
    close = expected > -2
    np.testing.assert_allclose(depth[close], expected[close])
    assert np.all(depth[~close] < -1)


def test_discs_outside_the_picture_leave_it_empty():
    assert np.all(disc_depth(np.array([[-20.0, 5.0]]), np.array([2.0]), (8, 8)) < 0)
    assert np.all(disc_depth(np.empty((0, 2)), np.empty(0), (8, 8)) < 0)


def test_coverage_ramps_over_one_pixel():
    np.testing.assert_array_equal(coverage(np.array([-1.0, -0.5, 0.0, 0.5, 1.0])), [0, 0, 0.5, 1, 1])


def test_smooth_field_stays_in_its_range_and_is_smooth():
    field = smooth_field(generator(), (40, 30), 3, -1.0, 2.0)
    assert field.shape == (40, 30)
    assert field.min() >= -1
    assert field.max() <= 2
    assert np.abs(np.diff(field, axis=0)).max() < 0.4


def test_enlarging_keeps_corners_and_constants():
    image = generator().random((5, 4))
    large = enlarge(image, 17, 13)
    np.testing.assert_allclose(large[np.ix_([0, -1], [0, -1])], image[np.ix_([0, -1], [0, -1])])
    np.testing.assert_allclose(enlarge(np.full((3, 3), 0.7), 8, 9), 0.7)


def test_blur_keeps_constants_and_lowers_contrast():
    np.testing.assert_array_equal(binomial_blur(np.full((6, 5), 0.25)), np.full((6, 5), 0.25))
    noise = generator().random((20, 20))
    assert np.ptp(binomial_blur(noise, 2)) < np.ptp(noise)


def test_quantising_rounds_and_clips():
    np.testing.assert_array_equal(quantise(np.array([-1.0, 0.0, 0.5, 1.0, 2.0])), [0, 0, 128, 255, 255])


def test_directions_have_unit_length_and_keep_it_when_turned():
    draw = generator()
    for half_tangent in (-0.7, 0.0, 0.3):
        direction = turn(unit_vector(draw), half_tangent)
        assert direction[0] ** 2 + direction[1] ** 2 == pytest.approx(1)
