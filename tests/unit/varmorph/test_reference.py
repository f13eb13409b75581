"""The executable specification against libraries and definitions that are independent of it."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.optimize import minimize_scalar

from varmorph import reference


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("padding", "mode"),
    [("replicate", "nearest"), ("reflect", "mirror"), ("circular", "wrap"), (0.3, "constant")],
)
@pytest.mark.parametrize("size", [(3, 3), (5, 3)])
def test_dilation_equals_scipy(rng, padding, mode, size):
    x, bias = rng.standard_normal((9, 8)), rng.standard_normal(size)
    # SciPy reflects the structuring function: y_i = max_k x_{i-k} + b_k.
    constant = padding if mode == "constant" else 0.0
    expected = ndimage.grey_dilation(x, structure=bias[::-1, ::-1], mode=mode, cval=constant)
    np.testing.assert_allclose(reference.dilation(x[None, None], bias, padding=padding)[0, 0], expected, atol=1e-14)


def test_geodesic_padding_equals_a_surrounding_of_minus_infinity(rng):
    x, bias = rng.standard_normal((1, 1, 5, 6)), rng.standard_normal((4, 3))
    wide = np.pad(x, ((0, 0), (0, 0), (4, 4), (4, 4)), constant_values=-np.inf)
    expected = reference.dilation(wide, bias, padding="replicate")[..., 4:-4, 4:-4]
    np.testing.assert_array_equal(reference.dilation(x, bias), expected)


def test_the_expectile_minimises_its_energy(rng):
    x, bias, weight = rng.standard_normal((1, 1, 2, 3)), rng.standard_normal((2, 3)), rng.random((2, 3))
    for level in (-4.0, -0.5, 0.0, 1.5, 6.0):
        tau = 1 / (1 + np.exp(-level))

        def energy(z, tau=tau):
            residual = x[0, 0] + bias - z
            return (weight * np.where(residual >= 0, tau, 1 - tau) * residual**2 / 2).sum()

        y = reference.variational_dilation(x, bias, weight, level, padding="valid").item()
        assert y == pytest.approx(minimize_scalar(energy, tol=1e-12).x, abs=1e-6)


def test_level_zero_is_the_weighted_mean(rng):
    x, bias, weight = rng.standard_normal((1, 1, 3, 3)), rng.standard_normal((3, 3)), rng.random((3, 3))
    y = reference.variational_dilation(x, bias, weight, 0.0, padding="valid").item()
    assert y == pytest.approx(np.average(x[0, 0] + bias, weights=weight))


@pytest.mark.parametrize("name", ["variational_dilation", "variational_erosion"])
@pytest.mark.parametrize("padding", ["geodesic", "replicate", 0.5])
def test_the_gradient_equals_central_differences(rng, name, padding):
    arguments = [rng.standard_normal((1, 2, 4, 4)), rng.standard_normal((2, 2, 3)), rng.random((2, 2, 3)), [1.0, -2.0]]
    arguments = [np.asarray(argument) for argument in arguments]
    operator, derivative = getattr(reference, name), getattr(reference, f"{name}_gradient")
    cotangent = rng.standard_normal((1, 2, 4, 4))
    gradients = derivative(*arguments, cotangent, padding=padding)
    for i, gradient in enumerate(gradients):
        numerical = np.zeros_like(gradient)
        for place in np.ndindex(gradient.shape):
            step = np.zeros_like(gradient)
            step[place] = 1e-6
            ahead, behind = (
                operator(*arguments[:i], arguments[i] + sign * step, *arguments[i + 1 :], padding=padding)
                for sign in (1, -1)
            )
            numerical[place] = (cotangent * (ahead - behind)).sum() / 2e-6
        np.testing.assert_allclose(gradient, numerical, rtol=1e-6, atol=1e-8)


def test_an_unavailable_penalty_is_refused():
    with pytest.raises(ValueError, match=r"'expectile', found 'quantile'"):
        reference.variational_dilation(np.zeros((1, 1, 2, 2)), np.zeros((1, 1)), None, 0.0, penalty="quantile")
