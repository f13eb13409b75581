"""Coupled and graph operators against the executable specification: values and the gradient of every parameter."""

import pytest
import torch
from coupled_instances import drawn, exact, problems

import varmorph.torch
from varmorph import reference
from varmorph.torch import (
    Implicit,
    Newton,
    joint_closing,
    joint_opening,
    regularised_dilation,
    regularised_graph_dilation,
    variational_dilation,
    variational_graph_dilation,
)

EXACT = {"solver": Newton(tolerance=1e-13), "adjoint": Implicit(tolerance=1e-12)}
every_problem = pytest.mark.parametrize("name", problems())


def options(name):
    return {} if "separable" in name else EXACT


def relative(found, expected):
    return ((found - expected).abs().max() / expected.abs().max().clamp(min=1e-3)).item()


@every_problem
def test_values_are_those_of_the_specification(name):
    problem = problems()[name]
    solution, _ = problem.call(**options(name))
    assert solution.certificate.forward.converged.all()
    assert relative(solution.value.detach(), exact(name)[0]) <= 1e-10


@every_problem
def test_gradients_of_every_parameter_are_those_of_the_specification(name):
    problem = problems()[name]
    solution, leaves = problem.call(**options(name))
    cotangent = problem.cotangent()
    gradients = dict(zip(leaves, torch.autograd.grad(solution.value, leaves.values(), cotangent), strict=True))
    assert solution.certificate.backward.converged.all()
    assert not solution.certificate.backward.singular.any()
    for parameter, expected in exact(name)[1].items():
        assert relative(gradients[parameter], expected) <= 1e-8, parameter


@every_problem
def test_single_precision_is_close(name):
    problem = problems()[name]
    solution, leaves = problem.call(torch.float32)
    cotangent = problem.cotangent()
    assert solution.value.dtype == torch.float32
    assert solution.certificate.forward.converged.all()
    assert relative(solution.value.detach().double(), exact(name)[0]) <= 1e-4
    gradients = dict(zip(leaves, torch.autograd.grad(solution.value, leaves.values(), cotangent.float()), strict=True))
    for parameter, expected in exact(name)[1].items():
        assert relative(gradients[parameter].double(), expected) <= 1e-3, parameter


@pytest.mark.parametrize("name", ["quadratic", "huber edges, ridge", "huber", "joint_opening", "joint_closing, huber"])
def test_gradcheck(name):
    problem = problems()[name]
    tensors = {key: value[:1, ..., :2, :3] if value.ndim > 3 else value for key, value in problem.tensors.items()}
    tensors["bias"] = tensors["bias"].nan_to_num(neginf=0.1)  # -inf is no place for finite differences

    def operator(*leaves):
        arguments = dict(zip(tensors, leaves, strict=True))
        return getattr(varmorph.torch, problem.operator)(**arguments, **problem.options, **EXACT).value

    leaves = tuple(value.clone().requires_grad_() for value in tensors.values())
    assert torch.autograd.gradcheck(operator, leaves, eps=1e-7, atol=1e-6, rtol=1e-5)


def test_without_coupling_it_is_the_separable_dilation():
    tensors = problems()["quadratic"].tensors
    arguments = {name: tensors[name] for name in ("x", "bias", "weight", "logit_level")}
    found = regularised_dilation(**arguments, coupling=0.0, **EXACT).value
    torch.testing.assert_close(found, variational_dilation(**arguments), rtol=1e-12, atol=1e-12)


def test_parameters_may_be_numbers_or_shared_by_channels():
    x = drawn(0, 1, 2, 4, 5)
    shared = {"bias": 0.1 * drawn(1, 3, 3), "weight": drawn(2, 3, 3).exp()}
    for number, tensor in ((0.4, torch.tensor(0.4, dtype=x.dtype)), (0.4, torch.full((2,), 0.4, dtype=x.dtype))):
        one, two = (
            regularised_dilation(
                x, **shared, logit_level=v, coupling=v, ridge=v, edge_penalty="huber", edge_smoothing=v
            )
            for v in (number, tensor)
        )
        torch.testing.assert_close(one.value, two.value)
    leaf = shared["bias"].requires_grad_()
    value = regularised_dilation(x, leaf, 1.0, 0.5, weight=shared["weight"], **EXACT).value
    (gradient,) = torch.autograd.grad(value.square().sum(), leaf)
    expected = reference.regularised_dilation_gradient(
        x.numpy(),
        leaf.detach().numpy(),
        1.0,
        0.5,
        weight=shared["weight"].numpy(),
        cotangent=2 * value.detach().numpy(),
    )
    torch.testing.assert_close(gradient, torch.from_numpy(expected.bias), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("operator", "exact", "sign"), [(joint_opening, "opening", -1), (joint_closing, "closing", 1)])
def test_the_joint_operator_tends_to_the_classical_one(operator, exact, sign):
    x, bias = drawn(0, 1, 1, 1, 40), 0.2 * drawn(1, 1, 3)
    target = torch.from_numpy(getattr(reference, exact)(x.numpy(), bias.numpy()))
    errors = []
    for level in (4.0, 6.0, 8.0, 10.0):
        # eta (1 - tau_2) / tau_1 -> 0, or its mirror image for the closing: eta falls with the level
        eta = torch.sigmoid(torch.tensor(-level)).item()
        value = operator(x, bias, (sign * level, -sign * level), eta, **EXACT).value
        errors.append((value - target).abs().max().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-2
    # While that ratio stays 1 the joint operator stays away from the classical one.
    kept = operator(x, bias, (sign * 10.0, -sign * 10.0), 1.0, **EXACT).value
    assert (kept - target).abs().max() > 0.05


def test_a_graph_batch_is_as_many_single_graphs():
    problem = problems()["regularised_graph_dilation, quadratic"]
    together, _ = problem.call(**EXACT)
    for i in range(2):
        tensors = problem.tensors | {"x": problem.tensors["x"][i]}
        alone, _ = problem._replace(tensors=tensors).call(**EXACT)
        assert alone.certificate.forward.converged.shape == ()
        torch.testing.assert_close(alone.value, together.value[i], rtol=1e-11, atol=1e-11)
    assert together.certificate.forward.iterations.shape == (2,)


@pytest.mark.parametrize("penalty", ["expectile", "quantile", "huber"])
def test_a_graph_without_coupling_equals_the_general_solver_where_the_minimiser_is_unique(penalty):
    smoothing = 0.3 if penalty == "huber" else None
    arguments = problems()["regularised_graph_dilation, quadratic"].tensors | {
        "penalty": penalty,
        "smoothing": smoothing,
    }
    arguments.pop("coupling")
    exact = variational_graph_dilation(**arguments)
    if penalty == "quantile":
        close = variational_graph_dilation(**arguments | {"penalty": "huber", "smoothing": 1e-7})
        torch.testing.assert_close(exact, close, rtol=0, atol=1e-5)
    else:
        solved = regularised_graph_dilation(**arguments, coupling=0.0, solver=Newton(tolerance=1e-12)).value
        torch.testing.assert_close(exact, solved, rtol=1e-9, atol=1e-9)
