"""Regional and extended maxima in JAX, whose programs take denormal numbers for 0: the rule is that of the other halves."""

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="jax is not installed")

from varmorph import reference  # noqa: E402
from varmorph.jax import backend, extended_maxima, regional_maxima  # noqa: E402

both_backends = pytest.mark.parametrize("name_of_backend", ["auto", "xla"])
INFINITE = [[-np.inf, 0, -np.inf], [-np.inf] * 3, [np.inf] * 3, [1, -np.inf, 1], [np.inf, 0, np.inf]]


@both_backends
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_maxima_around_zero(dtype, name_of_backend):
    image = np.array([[[[-1, 0, -1]]], [[[0, 1, 0]]]], dtype)
    with backend(name_of_backend):
        np.testing.assert_array_equal(regional_maxima(image)[:, 0, 0], [[False, True, False]] * 2)
        assert extended_maxima(image, 1.0).all()


@both_backends
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_infinite_values_are_values_as_others(dtype, name_of_backend):
    image = np.array(INFINITE, dtype)[:, None, None]
    with backend(name_of_backend):
        np.testing.assert_array_equal(regional_maxima(image), reference.regional_maxima(image))


@both_backends
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_maxima_do_not_depend_on_the_precision(dtype, name_of_backend):
    image = np.random.default_rng(0).integers(0, 6, (4, 3, 7, 8)).astype(float)
    image[:, 0] = 10
    image[:, 0, 1:4, 1:4] = 13
    image[:, 0, 2, 2] = 14
    given = jax.numpy.asarray(image, dtype)
    with backend(name_of_backend):
        found = regional_maxima(given), extended_maxima(given, 2.0), extended_maxima(given, 5.0)
    np.testing.assert_array_equal(found[0], reference.regional_maxima(image))
    np.testing.assert_array_equal(found[1], reference.extended_maxima(image, 2.0))
    np.testing.assert_array_equal(found[2], reference.extended_maxima(image, 5.0))
    assert found[2][:, 0].all()
