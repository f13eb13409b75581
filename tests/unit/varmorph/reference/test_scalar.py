"""The executable specification against libraries and definitions that are independent of it."""

import numpy as np
import pytest
from by_position import by_position
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

        y = reference.variational_dilation(x, bias, level, weight=weight, padding="valid").item()
        assert y == pytest.approx(minimize_scalar(energy, tol=1e-12).x, abs=1e-6)


def test_level_zero_is_the_weighted_mean(rng):
    x, bias, weight = rng.standard_normal((1, 1, 3, 3)), rng.standard_normal((3, 3)), rng.random((3, 3))
    y = reference.variational_dilation(x, bias, 0.0, weight=weight, padding="valid").item()
    assert y == pytest.approx(np.average(x[0, 0] + bias, weights=weight))


@pytest.mark.parametrize("smoothing", [0.02, 0.5, 4.0])
def test_the_huber_output_minimises_its_energy(rng, smoothing):
    x, bias, weight = rng.standard_normal((1, 1, 2, 3)), rng.standard_normal((2, 3)), rng.random((2, 3))
    for level in (-4.0, -0.5, 0.3, 1.5, 6.0):
        tau = 1 / (1 + np.exp(-level))

        def energy(z, tau=tau):
            residual = x[0, 0] + bias - z
            size = np.abs(residual)
            smooth = np.where(size <= smoothing, residual**2 / (2 * smoothing), size - smoothing / 2)
            return (weight * np.where(residual >= 0, tau, 1 - tau) * smooth).sum()

        y = reference.variational_dilation(
            x, bias, level, weight=weight, padding="valid", penalty="huber", smoothing=smoothing
        ).item()
        found = minimize_scalar(energy, bounds=(-6, 6), method="bounded", options={"xatol": 1e-12})
        assert energy(y) <= found.fun + 1e-12
        assert y == pytest.approx(found.x, abs=1e-5)


@pytest.mark.parametrize(
    ("values", "weight", "level", "expected"),
    [
        ([3.0, 0.0, 2.0], [1.0, 1.0, 1.0], 0.0, 2.0),
        ([3.0, 0.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0], 0.0, 1.5),  # the minimisers fill [1, 2]
        ([3.0, 0.0, 2.0, 1.0], [1.0, 3.0, 1.0, 1.0], 0.0, 0.5),
        ([3.0, 0.0, 2.0, 1.0], [1.0, 4.0, 1.0, 1.0], 0.0, 0.0),
        ([3.0, 0.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0], np.log(3.0), 2.5),  # tau = 3 / 4
        ([3.0, 0.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0], 2.0, 3.0),  # tau > 1 - w / W: the maximum itself
        ([3.0, 0.0, 2.0, 1.0], [0.0, 1.0, 1.0, 1.0], 2.0, 2.0),
    ],
)
@pytest.mark.parametrize(("penalty", "smoothing"), [("quantile", None), ("huber", 2**-12)])
def test_quantiles_known_by_hand(values, weight, level, expected, penalty, smoothing):
    x, flat = np.reshape(values, (1, 1, 1, -1)), np.zeros((1, len(values)))
    options = {"padding": "valid", "penalty": penalty, "smoothing": smoothing}
    y = reference.variational_dilation(x, flat, level, weight=[weight], **options)
    assert y.item() == pytest.approx(expected, abs=2**-11)


@pytest.mark.parametrize("name", ["variational_dilation", "variational_erosion"])
@pytest.mark.parametrize("padding", ["geodesic", "replicate", 0.5])
@pytest.mark.parametrize(("penalty", "smoothing"), [("expectile", None), ("quantile", None), ("huber", 0.4)])
def test_the_gradient_equals_central_differences(rng, name, padding, penalty, smoothing):
    arguments = [rng.standard_normal((1, 2, 4, 4)), rng.standard_normal((2, 2, 3)), rng.random((2, 2, 3)), [1.0, -2.0]]
    arguments = [np.asarray(argument) for argument in arguments]
    if smoothing is not None:
        arguments.append(np.asarray([smoothing, 2 * smoothing]))
    cotangent = rng.standard_normal((1, 2, 4, 4))

    def call(function, arguments, *more):
        options = {"smoothing": arguments[4]} if len(arguments) > 4 else {}
        return by_position(getattr(reference, function))(
            *arguments[:4], *more, penalty=penalty, padding=padding, **options
        )

    gradients = call(f"{name}_gradient", arguments, cotangent)
    assert (gradients.smoothing is None) == (smoothing is None)
    for i, (argument, gradient) in enumerate(zip(arguments, gradients, strict=False)):
        numerical = np.zeros_like(argument)
        for place in np.ndindex(argument.shape):
            step = np.zeros_like(argument)
            step[place] = 1e-6
            ahead, behind = (
                call(name, [*arguments[:i], argument + sign * step, *arguments[i + 1 :]]) for sign in (1, -1)
            )
            numerical[place] = (cotangent * (ahead - behind)).sum() / 2e-6
        np.testing.assert_allclose(gradient, numerical, rtol=1e-6, atol=2e-8)


def test_an_unknown_penalty_is_refused():
    for penalty in ("square", "huber"):  # huber needs a smoothing
        with pytest.raises(ValueError, match=f"with a smoothing, found '{penalty}'"):
            reference.variational_dilation(np.zeros((1, 1, 2, 2)), np.zeros((1, 1)), 0.0, penalty=penalty)
