"""The error of finite differences against the step, and what else is read off differences."""

from dataclasses import replace

import numpy as np
import pytest

from morphobench.studies.gradients.finite_differences import Sweep, extrapolated, taylor_slope
from morphobench.studies.gradients.rows import relative_error
from morphobench.studies.gradients.torch_modes import TorchInstance
from morphobench.studies.instances import Instance
from morphobench.studies.reference import solve_reference

STEPS = [10.0**-k for k in range(1, 12)]


@pytest.fixture(scope="module")
def spaced():
    """One row of well separated values, so that the active set holds for steps up to 1e-2."""
    arguments = {
        "x": np.array([[[[0.0, 3.0, 1.0, 7.0, 2.0, 11.0]]]]),
        "bias": np.array([[[0.25, 0.0, -0.5]]]),
        "weight": np.array([[[0.75, 1.25, 1.0]]]),
        "logit_level": np.array([1.5]),
    }
    cotangent = np.array([[[[1.0, -0.5, 2.0, 0.5, -1.0, 1.5]]]])
    return TorchInstance(Instance("separable", "variational_dilation", arguments, {}, cotangent), "cpu", 16)


def sweep_of(opened, parameter):
    return Sweep(opened.instance, opened.reference, parameter, 16, opened.solve)


def curve(opened, parameter):
    sweep = sweep_of(opened, parameter)
    found = [sweep.at(step) for step in STEPS]
    assert all(differences.smooth.all() for differences in found[1:])
    return np.array([relative_error(differences.gradient, sweep.expected) for differences in found])


@pytest.mark.parametrize("parameter", ["weight", "logit_level"])
def test_differences_in_weight_and_level_err_in_the_shape_of_a_v(spaced, parameter):
    error = curve(spaced, parameter)
    best = int(error.argmin())
    assert 1 < best < len(STEPS) - 3
    assert error[1] == pytest.approx(100 * error[2], rel=0.05)  # truncation, second order in the step
    assert min(error[1] / error[best], error[-1] / error[best]) > 1e2


@pytest.mark.parametrize("parameter", ["x", "bias"])
def test_differences_in_image_and_bias_err_by_rounding_alone(spaced, parameter):
    error = curve(spaced, parameter)
    assert all(e <= 1e-14 / step for e, step in zip(error[1:], STEPS[1:], strict=True))
    assert error[1] <= 1e-12 < 1e-6 < error[-1]


def test_a_difference_across_a_sign_change_is_seen(spaced):
    sweep = sweep_of(spaced, "x")
    assert not sweep.at(5.0).smooth.all()
    assert sweep.at(1e-3).smooth.all()


def test_extrapolation_cancels_the_second_order(spaced):
    sweep = sweep_of(spaced, "weight")
    coarse, fine = sweep.at(1e-2), sweep.at(1e-3)
    found = extrapolated(fine, coarse)
    assert relative_error(found.gradient, sweep.expected) < 1e-3 * relative_error(fine.gradient, sweep.expected)
    assert found.evaluations == coarse.evaluations + fine.evaluations


@pytest.mark.parametrize(
    ("operator", "parameter"),
    [("variational_dilation", "weight"), ("regularised_dilation", "coupling"), ("joint_opening", "eta")],
)
def test_the_taylor_remainder_of_a_right_gradient_is_of_second_order(make_instance, operator, parameter):
    opened = TorchInstance(make_instance(operator), "cpu", 16)
    slope, _ = taylor_slope(opened.instance, opened.reference, parameter, opened.solve)
    assert slope == pytest.approx(2.0, abs=0.1)


def test_the_taylor_remainder_of_a_wrong_gradient_is_of_first_order(spaced):
    reference = solve_reference(spaced.instance)
    wrong = {**reference.gradients, "weight": 1.5 * reference.gradients["weight"]}
    slope, _ = taylor_slope(spaced.instance, replace(reference, gradients=wrong), "weight", spaced.solve)
    assert slope == pytest.approx(1.0, abs=0.1)


def test_a_piecewise_linear_group_has_no_remainder(spaced):
    slope, why = taylor_slope(spaced.instance, spaced.reference, "x", spaced.solve)
    assert np.isnan(slope)
    assert why == "the remainder is rounding"


@pytest.mark.parametrize("operator", ["regularised_dilation", "joint_opening", "reconstruction"])
def test_differences_of_every_family_agree_with_the_reference(make_instance, operator):
    opened = TorchInstance(make_instance(operator), "cpu", 6)
    for parameter in opened.instance.arguments:
        sweep = sweep_of(opened, parameter)
        found = sweep.at(1e-4)
        assert found.smooth.mean() > 0.5
        assert relative_error(found.gradient[found.smooth], sweep.expected[found.smooth]) < 1e-6
