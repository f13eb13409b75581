"""The bars that the modes of differentiation must meet on small instances, in PyTorch."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

import varmorph.torch
from morphobench.studies.active_sets import pieces
from morphobench.studies.gradients.finite_differences import Hull
from morphobench.studies.gradients.modes import modes
from morphobench.studies.gradients.perturbations import by_channel
from morphobench.studies.gradients.torch_modes import TorchInstance, differentiate
from morphobench.studies.reference import solve_reference
from varmorph.convergence import ConvergenceWarning

SEPARABLE = ["variational_dilation", "variational_erosion"]
COUPLED = ["regularised_dilation", "joint_opening"]


def described(instance, settings, mode, setting, **more):
    """The description of one mode."""
    wanted = {"mode": mode, "setting": setting, "dtype": "float64", **more}
    found = [m for m in modes(instance.family, settings, "torch") if wanted.items() <= m.items()]
    return found[0]


def errors(found, reference):
    return {
        name: float(np.linalg.norm(found.gradients[name] - expected) / np.linalg.norm(expected))
        for name, expected in reference.gradients.items()
    }


@pytest.fixture
def error_of(make_instance, gradient_settings):
    """Largest relative error over the parameter groups, of one mode on one operator."""

    def measured(operator, mode, setting, more=None, **changed):
        instance = make_instance(operator)
        description = described(instance, {**gradient_settings, **changed}, mode, setting, **(more or {}))
        with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
            return max(errors(differentiate(instance, description), solve_reference(instance)).values())

    return measured


@pytest.mark.parametrize("operator", SEPARABLE)
def test_one_newton_step_differentiated_is_the_implicit_gradient(error_of, operator):
    assert error_of(operator, "one-step", "newton") <= 1e-12


@pytest.mark.parametrize("operator", SEPARABLE)
def test_one_step_of_gradient_descent_is_far_off(error_of, operator):
    assert 0.5 < error_of(operator, "one-step", "gradient-descent") < 1.1


@pytest.mark.parametrize("operator", [*SEPARABLE, "reconstruction"])
@pytest.mark.parametrize("backend", ["tensor", "kernels"])
def test_each_backend_has_the_gradient_of_the_reference(error_of, operator, backend):
    assert error_of(operator, "implicit", backend) <= 1e-10
    assert error_of(operator, "implicit", backend, {"dtype": "float32"}) <= 1e-4


@pytest.mark.parametrize("operator", COUPLED)
def test_implicit_gradients_are_as_exact_as_their_adjoint_solve(error_of, operator):
    assert error_of(operator, "implicit", "1e-06") <= 1e-5
    assert error_of(operator, "implicit", "1e-12", adjoint_tolerances=[1e-12]) <= 1e-10


@pytest.mark.parametrize(
    ("operator", "setting", "steps"),
    [
        ("variational_dilation", "newton 9", 9),
        ("variational_dilation", "gradient-descent 300", 300),
        ("regularised_dilation", "accelerated-gradient 300", 300),
        ("reconstruction", "dilation 64", 64),
    ],
)
def test_unrolling_to_convergence_is_the_implicit_gradient(error_of, operator, setting, steps):
    assert error_of(operator, "unrolled", setting, unrolled=[steps]) <= 1e-8


def test_unrolling_lags_until_the_active_set_is_found(make_instance, gradient_settings):
    instance = make_instance("variational_dilation")
    reference = solve_reference(instance)
    early = differentiate(instance, described(instance, {**gradient_settings, "unrolled": [1]}, "unrolled", "newton 1"))
    assert min(errors(early, reference).values()) > 1e-3
    assert reference.share(pieces(instance, early.unknowns)) < 1.0


def test_more_terms_of_the_neumann_series_err_less(error_of):
    found = [error_of("regularised_dilation", "neumann", str(terms), neumann=[terms]) for terms in (1, 8, 64)]
    assert found[0] > found[1] > found[2]


def test_a_solver_that_takes_no_step_has_gradient_zero(make_instance, gradient_settings):
    instance = make_instance("joint_opening", data="ties")
    x = np.ones_like(instance.arguments["x"])
    constant = replace(instance, arguments={**instance.arguments, "x": x})
    found = differentiate(constant, described(instance, {**gradient_settings, "unrolled": [1]}, "unrolled", "newton 1"))
    assert found.iterations in (0, 1)
    assert all(np.isfinite(gradient).all() for gradient in found.gradients.values())


def test_only_unrolled_gradient_descent_keeps_memory_for_every_iteration(make_instance, gradient_settings):
    instance, settings = make_instance("variational_dilation"), {**gradient_settings, "unrolled": [1, 9]}
    kept = {
        name: differentiate(instance, described(instance, settings, "unrolled", name)).peak_bytes
        for name in ("newton 1", "newton 9", "gradient-descent 1", "gradient-descent 9")
    }
    # Newton's iterate reaches the next one through signs alone, so that autograd drops the steps before the last.
    assert kept["newton 9"] == kept["newton 1"]
    assert kept["gradient-descent 9"] > 3 * kept["gradient-descent 1"]


@pytest.mark.parametrize("operator", ["regularised_dilation", "joint_opening", "joint_closing"])
def test_the_reference_is_solved_to_rounding(make_instance, operator):
    instance = make_instance("regularised_dilation" if operator == "regularised_dilation" else "joint_opening")
    if operator == "joint_closing":
        levels = -instance.arguments["logit_levels"]
        instance = replace(instance, operator=operator, arguments={**instance.arguments, "logit_levels": levels})
    reference = solve_reference(instance)
    arguments = {name: torch.tensor(array) for name, array in instance.arguments.items()}
    nothing = varmorph.torch.Newton(max_steps=0, tolerance=1e-13)
    function = getattr(varmorph.torch, operator)
    found = function(**arguments, solver=nothing, start=torch.tensor(reference.unknowns))
    assert float(found.certificate.forward.residual.max()) <= 1e-13
    assert np.array_equal(reference.active, pieces(instance, found.unknowns.numpy()))


@pytest.mark.parametrize("operator", SEPARABLE)
@pytest.mark.parametrize("backend", ["tensor", "kernels"])
def test_at_ties_the_implicit_gradient_lies_between_one_sided_derivatives(
    make_instance, gradient_settings, operator, backend
):
    tied = make_instance(operator, data="ties")
    opened = TorchInstance(tied, "cpu", 16)
    assert opened.reference.ties
    found = differentiate(opened.hull.rows, described(tied, gradient_settings, "implicit", backend))
    gradients = {name: by_channel(gradient) for name, gradient in found.gradients.items()}
    assert all(share == 1.0 for share, _ in opened.hull.test(gradients, 1e-6).values())
    # A wrong gradient is seen.
    assert opened.hull.test({**gradients, "x": 1.5 * gradients["x"]}, 1e-6)["x"][0] < 1.0


def test_an_instance_without_ties_leaves_no_room_in_the_hull(make_instance):
    opened = TorchInstance(make_instance("variational_dilation"), "cpu", 8)
    low, high = Hull(opened.instance, opened.solve, 8).brackets["x"]
    assert np.abs(high - low).max() < 1e-9
    assert not opened.reference.ties


@pytest.mark.parametrize("operator", [*SEPARABLE, *COUPLED, "reconstruction"])
@pytest.mark.parametrize("data", ["random", "image", "ties"])
def test_single_precision_solves_the_same_instance(make_instance, operator, data):
    for array in make_instance(operator, data).arguments.values():
        assert np.array_equal(array, array.astype(np.float32).astype(np.float64))
