"""Arguments changed in place between forward and backward pass: an error of PyTorch, or the gradient of what was computed."""

import numpy as np
import pytest
import torch
from operator_calls import calls

import varmorph.torch
from varmorph.torch import Implicit, Neumann, Truncated, Unrolled, backend, equilibrium
from varmorph.torch.lasso import sparse_code

CHANGED = "modified by an inplace operation"
both_backends = pytest.mark.parametrize("name_of_backend", ["auto", "tensor"])


def gradients_of(function, arguments, changed=None):
    """Gradients of a function's value; before the backward pass one argument is changed in place."""
    leaves = {key: value.clone() for key, value in arguments.items()}
    learnt = [value.requires_grad_() for value in leaves.values() if value.is_floating_point()]
    found = function(**leaves)
    value = found if isinstance(found, torch.Tensor) else found.value
    cotangent = torch.from_numpy(np.random.default_rng(7).standard_normal(value.shape))
    if changed is not None:
        with torch.no_grad():
            leaf = leaves[changed]
            leaf.copy_(100 * leaf + 7 if leaf.is_floating_point() else leaf.flip(0, 1))
    return torch.autograd.grad(value, learnt, cotangent, allow_unused=True)


def assert_found_or_refused(function, arguments):
    expected = gradients_of(function, arguments)
    for changed in arguments:
        try:
            found = gradients_of(function, arguments, changed)
        except RuntimeError as error:
            if CHANGED not in str(error):
                raise
        else:
            for gradient, unchanged in zip(found, expected, strict=True):
                assert (gradient is None) == (unchanged is None)
                if gradient is not None:
                    torch.testing.assert_close(gradient, unchanged, msg=changed)


@pytest.mark.parametrize("name", calls())
@both_backends
def test_an_argument_changed_in_place_is_found_or_does_not_matter(name, name_of_backend):
    call = calls()[name]

    def apply(**arguments):
        with backend(name_of_backend):
            return getattr(varmorph.torch, call.operator)(**arguments, **call.options)

    assert_found_or_refused(apply, call.arguments(torch.tensor, np.float64))


@pytest.mark.parametrize("adjoint", [Neumann(terms=2), Truncated(steps=2), Unrolled()], ids=repr)
@pytest.mark.parametrize("name", ["regularised_dilation, huber", "regularised_graph_dilation, huber", "joint_opening"])
@pytest.mark.filterwarnings("ignore::varmorph.torch.ConvergenceWarning")
@both_backends
def test_so_it_is_with_every_adjoint(name, adjoint, name_of_backend):
    call = calls()[name]

    def apply(**arguments):
        with backend(name_of_backend):
            return getattr(varmorph.torch, call.operator)(**arguments, **call.options, adjoint=adjoint)

    assert_found_or_refused(apply, call.arguments(torch.tensor, np.float64))


@pytest.mark.parametrize("adjoint", [Implicit(), Neumann(terms=2), Truncated(steps=2), Unrolled()], ids=repr)
def test_so_it_is_with_what_an_equilibrium_closes_over(adjoint):
    def solve(weight, x):
        start = torch.zeros(3, 2, dtype=torch.float64)
        return equilibrium(lambda z: torch.tanh(z @ weight + x), start, adjoint=adjoint)

    arguments = {"weight": torch.tensor([[0.3, 0.2], [-0.4, 0.1]]), "x": torch.tensor([[0.5, -1.0]])}
    assert_found_or_refused(solve, {key: value.double() for key, value in arguments.items()})


@both_backends
def test_so_it_is_with_a_sparse_code(name_of_backend):
    def solve(**arguments):
        with backend(name_of_backend):
            return sparse_code(**arguments, ridge=0.1)

    numbers = np.random.default_rng(0).standard_normal
    arguments = {"x": numbers((3, 4)), "dictionary": numbers((4, 5)), "strength": np.full(5, 0.1)}
    assert_found_or_refused(solve, {key: torch.tensor(value) for key, value in arguments.items()})


@pytest.mark.parametrize("name", calls())
@both_backends
def test_a_result_changed_in_place_is_found_or_does_not_matter(name, name_of_backend):
    call = calls()[name]

    def differentiated(changed):
        arguments = call.arguments(torch.tensor, np.float64)
        x = next(iter(arguments.values())).requires_grad_()
        with backend(name_of_backend):
            found = getattr(varmorph.torch, call.operator)(**arguments, **call.options)
        value, result = (found, found) if isinstance(found, torch.Tensor) else (found.value, found.unknowns)
        copy = 1.0 * value
        if changed:
            with torch.no_grad():
                result.mul_(100)
        return torch.autograd.grad(copy.sum(), x)[0]

    expected = differentiated(changed=False)
    try:
        found = differentiated(changed=True)
    except RuntimeError as error:
        if CHANGED not in str(error):
            raise
    else:
        torch.testing.assert_close(found, expected)
