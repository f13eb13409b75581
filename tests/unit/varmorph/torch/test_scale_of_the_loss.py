"""The adjoint is linear: a gradient over the scale of the loss does not depend on that scale."""

import numpy as np
import pytest
import torch
from operator_calls import calls, coupled_calls

import varmorph.torch
from varmorph.torch import Implicit, Neumann, OneStep, backend, equilibrium
from varmorph.torch.lasso import sparse_code

SCALES = [1e-30, 1e-24, 1e-12, 1e20, 1e30]
ADJOINTS = [Implicit(tolerance=1e-5), Neumann(terms=3), OneStep(step="relaxation")]
both_backends = pytest.mark.parametrize("name_of_backend", ["auto", "tensor"])


def differentiated(name, scale, name_of_backend, **options):
    """Solution and gradients of scale times a product, over that scale; in float32."""
    call = calls()[name]
    arguments = call.arguments(torch.tensor, np.float32)
    leaves = {key: value.requires_grad_() for key, value in arguments.items() if value.is_floating_point()}
    with backend(name_of_backend):
        found = getattr(varmorph.torch, call.operator)(**arguments, **call.options, **options)
    values = found if isinstance(found, torch.Tensor) else found.value
    cotangent = torch.from_numpy(np.random.default_rng(7).standard_normal(values.shape).astype(np.float32))
    gradients = torch.autograd.grad(values, list(leaves.values()), cotangent * scale, allow_unused=True)
    return found, {
        key: None if gradient is None else gradient.double() / scale
        for key, gradient in zip(leaves, gradients, strict=True)
    }


def assert_gradients_agree(found, expected):
    for key, gradient in expected.items():
        if gradient is not None:
            assert (found[key] - gradient).abs().max() <= 1e-4 * gradient.abs().max() + 1e-5, key


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", calls())
@both_backends
def test_gradients_do_not_depend_on_the_scale_of_the_loss(name, scale, name_of_backend):
    _, expected = differentiated(name, 1.0, name_of_backend)
    _, found = differentiated(name, scale, name_of_backend)
    assert_gradients_agree(found, expected)


@pytest.mark.parametrize("adjoint", ADJOINTS, ids=repr)
@pytest.mark.parametrize("name", coupled_calls())
@both_backends
def test_certificates_do_not_depend_on_the_scale_of_the_loss(name, adjoint, name_of_backend):
    solution, expected = differentiated(name, 1.0, name_of_backend, adjoint=adjoint)
    for scale in SCALES:
        other, found = differentiated(name, scale, name_of_backend, adjoint=adjoint)
        assert_gradients_agree(found, expected)
        torch.testing.assert_close(
            other.certificate.backward.residual, solution.certificate.backward.residual, rtol=0.1, atol=1e-6
        )
        assert torch.equal(other.certificate.backward.converged, solution.certificate.backward.converged)


@pytest.mark.filterwarnings("ignore::varmorph.torch.ConvergenceWarning")
@pytest.mark.parametrize("scale", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", calls())
@both_backends
def test_a_loss_that_is_no_number_leaves_gradients_without_a_warning_of_numpy(name, scale, name_of_backend):
    _, gradients = differentiated(name, scale, name_of_backend)
    assert any(gradient is not None and not gradient.isfinite().all() for gradient in gradients.values())


@pytest.mark.filterwarnings("ignore::varmorph.torch.ConvergenceWarning")
@pytest.mark.parametrize("scale", [torch.nan, torch.inf])
@pytest.mark.parametrize("adjoint", ADJOINTS, ids=repr)
@pytest.mark.parametrize("name", coupled_calls())
@both_backends
def test_a_loss_that_is_no_number_does_not_converge(name, adjoint, scale, name_of_backend):
    solution, _ = differentiated(name, scale, name_of_backend, adjoint=adjoint)
    assert not solution.certificate.backward.converged.any()


def of_an_equilibrium(scale, adjoint):
    weight = torch.tensor([[0.3, 0.2], [-0.4, 0.1]], requires_grad=True)
    solution = equilibrium(lambda z: torch.tanh(z @ weight + 1), torch.zeros(3, 2), adjoint=adjoint)
    cotangent = torch.tensor([[1.0, -2.0], [3.0, 0.5], [0.1, 0.0]]) * scale
    (gradient,) = torch.autograd.grad(solution.value, weight, cotangent)
    return solution.certificate.backward, gradient.double() / scale


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("adjoint", ADJOINTS, ids=repr)
def test_gradients_of_an_equilibrium_do_not_depend_on_the_scale_of_the_loss(adjoint, scale):
    (expected, by_one), (found, by_scale) = of_an_equilibrium(1.0, adjoint), of_an_equilibrium(scale, adjoint)
    torch.testing.assert_close(by_scale, by_one, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.residual, expected.residual, rtol=0.1, atol=1e-5)
    assert torch.equal(found.converged, expected.converged)


@pytest.mark.filterwarnings("ignore::varmorph.torch.ConvergenceWarning")
@pytest.mark.parametrize("adjoint", ADJOINTS, ids=repr)
@pytest.mark.parametrize("scale", [torch.nan, torch.inf])
def test_an_equilibrium_does_not_converge_for_a_loss_that_is_no_number(adjoint, scale):
    certificate, _ = of_an_equilibrium(scale, adjoint)
    assert not certificate.converged.any()


def of_a_sparse_code(scale):
    x = torch.tensor([[3.0, 0.2, 1.0], [0.5, -2.0, 1.5]], requires_grad=True)
    dictionary = torch.tensor([[1.0, 0.2, 0.5, 0.1], [0.0, 1.0, 0.5, 0.3], [0.3, 0.0, 1.0, 1.0]], requires_grad=True)
    solution = sparse_code(x, dictionary, 0.1, ridge=0.1)
    cotangent = torch.tensor([[1.0, -2.0, 0.5, 0.3], [0.2, 0.3, -1.0, 2.0]]) * scale
    gradients = torch.autograd.grad(solution.value, (x, dictionary), cotangent)
    return solution.certificate.backward, [gradient.double() / scale for gradient in gradients]


@pytest.mark.parametrize("scale", SCALES)
@both_backends
def test_gradients_of_a_sparse_code_do_not_depend_on_the_scale_of_the_loss(scale, name_of_backend):
    with backend(name_of_backend):
        (expected, by_one), (found, by_scale) = of_a_sparse_code(1.0), of_a_sparse_code(scale)
    torch.testing.assert_close(by_scale, by_one, rtol=1e-4, atol=1e-6)
    assert bool(found.converged.all())
    torch.testing.assert_close(found.residual, expected.residual, rtol=0.5, atol=1e-6)


@pytest.mark.filterwarnings("ignore::varmorph.torch.ConvergenceWarning")
@pytest.mark.parametrize("scale", [torch.nan, torch.inf])
def test_a_sparse_code_does_not_converge_for_a_loss_that_is_no_number(scale):
    certificate, _ = of_a_sparse_code(scale)
    assert not certificate.converged.any()
