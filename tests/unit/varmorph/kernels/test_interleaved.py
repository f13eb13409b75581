"""Small planes, which kernels take several at once, against the same kernels plane by plane."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from varmorph.arguments import geometry_of
from varmorph.kernels.threads import Team, working_in
from varmorph.kernels.window import interleaved, lanes
from varmorph.windows import outside_value

SHAPES = st.tuples(st.integers(1, 5), st.sampled_from([1, 3, 8, 13, 64, 72]), st.integers(1, 9), st.integers(1, 9))
PADDINGS = ["geodesic", "replicate", "reflect", "circular", 0.5]


ALL = 99  # channels, more than there are


def problem(shape, size, padding, stride=1, rate=1, dtype=np.float64, seed=0, reverse=False):
    rng = np.random.default_rng(seed)
    channels, elements = shape[1], size[0] * size[1]
    level = rng.uniform(-4, 4, channels)
    functions = rng.standard_normal((channels, elements)), np.exp(rng.standard_normal((channels, elements)))
    arrays = rng.standard_normal(shape), *functions, 1 / (1 + np.exp(-level)), 1 / (1 + np.exp(level))
    geometry = geometry_of(shape, size, stride, rate, padding, reverse)
    return [array.astype(dtype) for array in arrays], (geometry, outside_value(geometry))


def computed(arrays, where, monkeypatch, cells):
    """Return the expectile and its gradients, small planes being those of at most so many cells."""
    monkeypatch.setattr(interleaved, "CELLS", cells)
    y = lanes.expectile(*arrays, *where)
    grad_y = np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype)
    return y, *lanes.expectile_backward(grad_y, arrays[0], y, *arrays[1:], *where)


def searched(arrays, where, raised, monkeypatch, cells):
    """Return the supremum, its slots and its gradients, of so many first channels the greatest."""
    monkeypatch.setattr(interleaved, "CELLS", cells)
    geometry, beyond = where
    y, slots = lanes.supremum(*arrays[:2], geometry, beyond, raised)
    alone, none = lanes.supremum(*arrays[:2], geometry, beyond, raised, with_slots=False)
    np.testing.assert_array_equal(y, alone)
    assert none.size == 0
    grad_y = np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype)
    return y, slots, *lanes.supremum_backward(grad_y, slots, arrays[1], geometry, raised)


def search_alike(arrays, where, raised, monkeypatch, tolerance=1e-12):
    both = [searched(arrays, where, raised, monkeypatch, cells) for cells in (10**6, 0)]
    for one, other in zip(both[0][:2], both[1][:2], strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(both[0][2:], both[1][2:], strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


def agree(arrays, where, monkeypatch, tolerance=1e-10):
    for one, other in zip(*(computed(arrays, where, monkeypatch, cells) for cells in (10**6, 0)), strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@settings(max_examples=30, deadline=None)
@given(
    SHAPES,
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.sampled_from(PADDINGS),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(0, 99),
)
def test_bundles_give_what_planes_give(shape, size, padding, stride, rate, seed):
    arrays, where = problem(shape, size, padding, stride, rate, seed=seed)
    with pytest.MonkeyPatch.context() as monkeypatch:
        agree(arrays, where, monkeypatch)
        search_alike(arrays, where, (ALL, 0, 3)[seed % 3], monkeypatch)


def test_reversed_edges_and_float32(monkeypatch):
    for dtype, size, reverse, tolerance in ((np.float64, (3, 4), True, 1e-10), (np.float32, (3, 3), False, 1e-4)):
        arrays, where = problem((4, 8, 6, 5), size, "geodesic", dtype=dtype, reverse=reverse)
        agree(arrays, where, monkeypatch, tolerance)
        search_alike(arrays, where, 3, monkeypatch, tolerance)


def test_zero_weights_absent_elements_and_constant_images(monkeypatch):
    arrays, where = problem((3, 8, 5, 5), (3, 3), "geodesic")
    arrays[2][:, ::2] = 0
    agree(arrays, where, monkeypatch)
    arrays[1][3, 1] = -np.inf
    agree(arrays, where, monkeypatch)
    arrays, where = problem((3, 8, 5, 5), (3, 3), "geodesic")
    arrays[0][:], arrays[1][:] = 0.25, 0
    agree(arrays, where, monkeypatch)
    search_alike(arrays, where, ALL, monkeypatch)  # of equal values the first takes the gradient


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [(3, 3), (2, 2), (1, 5)])
def test_a_pixel_that_is_no_number_reaches_the_windows_that_hold_it(monkeypatch, value, size):
    arrays, where = problem((3, 8, 6, 6), size, "geodesic")
    arrays[0][1, 2, 3, 3] = value
    found, expected = (computed(arrays, where, monkeypatch, cells)[0] for cells in (10**6, 0))
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert np.isfinite(found[[0, 2]]).all()
    for raised in (ALL, 0, 3):
        found, expected = (searched(arrays, where, raised, monkeypatch, cells)[:2] for cells in (10**6, 0))
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


def test_any_number_of_threads_gives_the_same_bits(monkeypatch):
    monkeypatch.setattr("varmorph.kernels.threads._ELEMENTS_PER_THREAD", 1)
    arrays, where = problem((9, 24, 5, 4), (3, 3), "geodesic", dtype=np.float32)
    found = []
    for threads in (1, 2, 5):
        with working_in(Team(lambda threads=threads: threads, lambda count, task: task())):
            found.append((*computed(arrays, where, monkeypatch, 200), *searched(arrays, where, ALL, monkeypatch, 200)))
    for other in found[1:]:
        for one, same in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, same)


def test_few_planes_large_ones_and_lost_elements_stay_by_themselves():
    assert interleaved.bundles_of(1, 7, 36) is None
    assert interleaved.bundles_of(32, 8, 324) is None
    assert interleaved.bundles_of(2, 100, 36) == (64, 4, 2)
    assert interleaved.bundles_of(2, 96, 36) == (48, 4, 2)
    assert interleaved.bundles_of(1, 9, 36) == (16, 1, 8)
