"""Finite arguments: no operation of the tensor code makes NaN, on the way forward or back."""

import numpy as np
import pytest
import torch
from operator_calls import calls
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import varmorph.torch
from varmorph.torch import ADMM, AcceleratedGradient, Anderson, FixedPoint, Neumann, PrimalDual, Unrolled, backend
from varmorph.torch import equilibrium as solve_equilibrium


def is_nan(value):
    if isinstance(value, torch.Tensor):
        return value.is_floating_point() and bool(value.isnan().any())
    return isinstance(value, float) and value != value


class NanSources(TorchDispatchMode):
    """Lists the operations whose result holds NaN though no operand does."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        made = any(map(is_nan, tree_leaves(result))) and not any(map(is_nan, tree_leaves((args, kwargs))))
        if made and "empty" not in function.name():
            self.found.append(function.name())
        return result


def assert_no_nan(function, leaves):
    with NanSources() as sources, backend("tensor"):
        found = function()
        value = found if isinstance(found, torch.Tensor) else found.value
        torch.autograd.grad(value.square().sum(), leaves, allow_unused=True)
    assert not sources.found


def applied(call, **more):
    arguments = call.arguments(torch.tensor, np.float32)
    leaves = [value.requires_grad_() for value in arguments.values() if value.is_floating_point()]
    return lambda: getattr(varmorph.torch, call.operator)(**arguments, **call.options, **more), leaves


@pytest.mark.parametrize("ties", [False, True], ids=["generic", "ties"])
@pytest.mark.parametrize("name", calls())
def test_no_operation_makes_nan(name, ties):
    call = calls()[name]
    assert_no_nan(*applied(call.with_ties() if ties else call))


@pytest.mark.filterwarnings("ignore::varmorph.torch.ConvergenceWarning")
@pytest.mark.parametrize("adjoint", [Neumann(terms=2), Unrolled()], ids=repr)
@pytest.mark.parametrize("solver", [ADMM, AcceleratedGradient, Anderson, FixedPoint, PrimalDual])
def test_no_solver_makes_nan(solver, adjoint):
    call = calls()["regularised_dilation, huber"]
    for instance in (call, call.with_ties()):
        assert_no_nan(*applied(instance, solver=solver(max_steps=10), adjoint=adjoint))


@pytest.mark.filterwarnings("ignore::varmorph.torch.ConvergenceWarning")
@pytest.mark.parametrize("solver", [Anderson(), FixedPoint()], ids=repr)
@pytest.mark.parametrize("factor", [0.0, 0.5])
def test_no_equilibrium_makes_nan(solver, factor):
    weight = (factor * torch.eye(3)).requires_grad_()
    for adjoint in (None, Neumann(terms=2), Unrolled()):

        def solve(adjoint=adjoint):
            start = torch.zeros(2, 3)
            return solve_equilibrium(lambda z: torch.tanh(z @ weight + 1), start, solver=solver, adjoint=adjoint)

        assert_no_nan(solve, [weight])
        assert not is_nan(solve().certificate.forward.active.margin)
