"""The modes of differentiation in JAX: the same bars, on the two kinds of operators."""

import numpy as np
import pytest

jax = pytest.importorskip("jax")

from morphobench.studies.gradients.jax_modes import JaxInstance, differentiate  # noqa: E402
from morphobench.studies.gradients.modes import modes  # noqa: E402
from morphobench.studies.reference import solve_reference  # noqa: E402


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def error_of(make_instance, gradient_settings):
    def measured(operator, mode, setting, **changed):
        instance = make_instance(operator)
        found = modes(instance.family, {**gradient_settings, **changed}, "jax")
        (description,) = [m for m in found if (m["mode"], m["setting"], m["dtype"]) == (mode, setting, "float64")]
        gradients, expected = differentiate(instance, description).gradients, solve_reference(instance).gradients
        return max(float(np.linalg.norm(gradients[n] - e) / np.linalg.norm(e)) for n, e in expected.items())

    return measured


@pytest.mark.parametrize("operator", ["variational_dilation", "variational_erosion"])
def test_one_newton_step_differentiated_is_the_implicit_gradient(error_of, operator):
    assert error_of(operator, "one-step", "newton") <= 1e-12
    assert error_of(operator, "implicit", "kernels") <= 1e-12


def test_unrolling_to_convergence_is_the_implicit_gradient(error_of):
    assert error_of("variational_dilation", "unrolled", "gradient-descent 300", jax_unrolled=[300]) <= 1e-8
    assert error_of("reconstruction", "unrolled", "dilation 64", jax_unrolled=[64]) <= 1e-8


def test_implicit_gradients_are_as_exact_as_their_adjoint_solve(error_of):
    assert error_of("regularised_dilation", "implicit", "1e-06") <= 1e-5


def test_at_ties_the_implicit_gradient_lies_between_one_sided_derivatives(make_instance, gradient_settings):
    from morphobench.studies.cells import Cell

    tied = make_instance("variational_dilation", data="ties")
    mode = next(m for m in modes("separable", gradient_settings, "jax") if m["setting"] == "kernels")
    opened, cell = JaxInstance(tied, "cpu", 8), Cell("tied", "tied", mode)
    opened.prepare(cell)
    assert all(share == 1.0 for share, _ in opened.hulls["tied"].values())
