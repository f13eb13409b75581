"""The operators of the specification that mix channels: their special cases, and their gradient against differences."""

import numpy as np
import pytest

from varmorph import reference

ERROR = 1e-12


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def drawn(rng, groups=1, signed=False, size=(2, 3), outputs=4, channels=4):
    """Image, offsets (one edge left out), weights and levels."""
    shape = (outputs, (2 if signed else 1) * channels // groups, *size)
    bias = 0.3 * rng.standard_normal(shape)
    bias[0, 0, 0, 0] = -np.inf
    return {
        "x": rng.standard_normal((2, channels, 4, 5)),
        "bias": bias,
        "weight": rng.random(shape) + 0.2,
        "logit_level": 2 * rng.standard_normal(outputs),
    }


@pytest.mark.parametrize("penalty", ["expectile", "quantile", "huber"])
@pytest.mark.parametrize("options", [{}, {"stride": 2, "rate": (1, 2)}, {"padding": "reflect"}, {"padding": 0.5}])
def test_with_as_many_groups_as_channels_it_is_depthwise(rng, penalty, options):
    arguments = drawn(rng, groups=4)
    depthwise = arguments | {name: arguments[name][:, 0] for name in ("bias", "weight")}
    options |= {"penalty": penalty, "smoothing": 0.4 if penalty == "huber" else None}
    found = reference.variational_conv2d(**arguments, groups=4, **options)
    np.testing.assert_array_equal(found, reference.variational_dilation(**depthwise, **options))


def test_max_plus_is_the_greatest_over_channels_and_min_plus_its_dual(rng):
    arguments = drawn(rng)
    x, bias = arguments["x"], arguments["bias"]
    apart = np.stack([[reference.dilation(x, bias[o])[:, c] for c in range(4)] for o in range(4)])
    np.testing.assert_array_equal(reference.maxplus_conv2d(x, bias), apart.max(1).swapaxes(0, 1))
    opposite = np.where(np.isneginf(bias), bias, -bias)
    np.testing.assert_array_equal(reference.minplus_conv2d(x, bias), -reference.maxplus_conv2d(-x, opposite))


def test_a_signed_max_plus_map_holds_the_distance_in_the_sup_norm(rng):
    x, pattern = rng.standard_normal((5, 7)), rng.standard_normal((3, 7))
    found = reference.maxplus_linear(x, np.concatenate((-pattern, pattern), 1), signed=True)
    np.testing.assert_allclose(found, np.abs(x[:, None] - pattern).max(-1), atol=ERROR)


def test_a_signed_map_at_level_0_is_linear(rng):
    x, weight, bias = rng.standard_normal((5, 7)), rng.random((3, 14)), rng.standard_normal((3, 14))
    found = reference.variational_linear(x, bias, 0.0, weight=weight, signed=True)
    scale = weight.sum(1)
    matrix, constant = (weight[:, :7] - weight[:, 7:]) / scale[:, None], (weight * bias).sum(1) / scale
    np.testing.assert_allclose(found, x @ matrix.T + constant, atol=ERROR)
    assert (np.abs(matrix).sum(1) <= 1).all()


def test_groups_see_their_own_channels(rng):
    arguments = drawn(rng, groups=2, signed=True)
    x, bias = arguments["x"], arguments["bias"]
    halves = [reference.maxplus_conv2d(x[:, g : g + 2], bias[g : g + 2], signed=True) for g in (0, 2)]
    np.testing.assert_array_equal(
        reference.maxplus_conv2d(x, bias, groups=2, signed=True), np.concatenate(halves, axis=1)
    )


def test_a_number_beyond_the_border_changes_its_sign_with_the_image(rng):
    x = rng.random((1, 1, 1, 1))
    found = reference.maxplus_conv2d(x, np.zeros((1, 2, 1, 3)), signed=True, padding=-5.0)
    assert found.item() == 5.0


@pytest.mark.parametrize("padding", ["geodesic", "replicate", 0.4])
@pytest.mark.parametrize(("groups", "signed"), [(1, False), (2, True)])
@pytest.mark.parametrize(("penalty", "smoothing"), [("expectile", None), ("huber", 0.4)])
def test_the_gradient_equals_central_differences(rng, padding, groups, signed, penalty, smoothing):
    arguments = drawn(rng, groups, signed)
    if smoothing is not None:
        arguments["smoothing"] = np.full(4, smoothing)
    options = {"groups": groups, "signed": signed, "penalty": penalty, "padding": padding}
    cotangent = rng.standard_normal((2, 4, 4, 5))
    gradients = reference.variational_conv2d_gradient(**arguments, cotangent=cotangent, **options)._asdict()
    for name, argument in arguments.items():
        direction = np.where(np.isfinite(argument), rng.standard_normal(argument.shape), 0.0)
        ahead, behind = (
            reference.variational_conv2d(**{**arguments, name: argument + sign * 1e-6 * direction}, **options)
            for sign in (1, -1)
        )
        numerical = (cotangent * (ahead - behind)).sum() / 2e-6
        assert gradients[name].shape == argument.shape
        assert (gradients[name] * direction).sum() == pytest.approx(numerical, rel=1e-6, abs=1e-7), name


def test_shapes_that_do_not_fit_are_refused():
    x = np.zeros((1, 4, 3, 3))
    for bias, options in (((2, 3, 1, 1), {}), ((2, 4, 1, 1), {"signed": True}), ((3, 2, 1, 1), {"groups": 2})):
        with pytest.raises(ValueError, match=r"bias must be \(O,"):
            reference.maxplus_conv2d(x, np.zeros(bias), **options)
