"""Equilibria of functions whose parameters their graph does not show: an error that says so, never a gradient that is lost."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from varmorph.torch import dilation, equilibrium

SUM = 3.5527  # of the gradient of the weights
# PyTorch says so of every call without gradients, as those of the forward solve are.
without_inputs = pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")


@pytest.fixture
def weight():
    return (0.5 * torch.eye(3)).requires_grad_()


def layer(weight):
    return lambda z: torch.tanh(z @ weight + 1)


def hiding(weight):
    """Build a function that differentiates anew in its backward pass, and adds to what its graph does not show."""

    class Hiding(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):
            ctx.save_for_backward(z)
            return layer(weight)(z)

        @staticmethod
        def backward(ctx, cotangent):
            with torch.enable_grad():
                z = ctx.saved_tensors[0].detach().requires_grad_()
                image = layer(weight)(z)
            torch.autograd.backward(image, cotangent)
            return z.grad

    return Hiding.apply


class Recomputed(torch.autograd.Function):
    """Differentiates anew as well, but only what it is given."""

    @staticmethod
    def forward(ctx, z, weight):
        ctx.save_for_backward(z, weight)
        return layer(weight)(z)

    @staticmethod
    def backward(ctx, cotangent):
        with torch.enable_grad():
            z, weight = (saved.detach().requires_grad_() for saved in ctx.saved_tensors)
            image = layer(weight)(z)
        return torch.autograd.grad(image, (z, weight), cotangent)


def test_a_checkpoint_without_reentrance_gives_the_gradient(weight):
    function = layer(weight)
    for seen in (function, lambda z: checkpoint(function, z, use_reentrant=False)):
        (gradient,) = torch.autograd.grad(equilibrium(seen, torch.zeros(2, 3)).value.sum(), weight)
        assert gradient.sum().item() == pytest.approx(SUM, abs=1e-4)


def test_a_function_that_computes_again_what_it_is_given_gives_the_gradient(weight):
    solution = equilibrium(lambda z: Recomputed.apply(z, weight), torch.zeros(2, 3))
    (gradient,) = torch.autograd.grad(solution.value.sum(), weight)
    assert gradient.sum().item() == pytest.approx(SUM, abs=1e-4)


@without_inputs
def test_a_reentrant_checkpoint_is_refused(weight):
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        equilibrium(lambda z: checkpoint(layer(weight), z, use_reentrant=True), torch.zeros(2, 3))
    assert weight.grad is None


@without_inputs
def test_so_it_is_beside_parameters_that_are_seen(weight):
    bias = torch.zeros(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        equilibrium(lambda z: checkpoint(layer(weight), z, use_reentrant=True) + bias, torch.zeros(2, 3))


def test_a_function_that_hides_its_parameters_is_refused(weight):
    with pytest.raises(RuntimeError, match=r"differentiates anew in its backward pass \(Hiding\)"):
        equilibrium(hiding(weight), torch.zeros(2, 3))
    assert weight.grad is None


@without_inputs
def test_without_gradients_nothing_is_refused(weight):
    with torch.no_grad():
        found = equilibrium(lambda z: checkpoint(layer(weight), z, use_reentrant=True), torch.zeros(2, 3)).value
    torch.testing.assert_close(found, equilibrium(layer(weight), torch.zeros(2, 3)).value.detach())


def test_a_kernel_inside_of_the_function_hides_nothing(weight):
    def function(z):
        return dilation(layer(weight)(z).view(2, 1, 1, 3), torch.zeros(1, 1)).view(2, 3)

    (gradient,) = torch.autograd.grad(equilibrium(function, torch.zeros(2, 3)).value.sum(), weight)
    assert gradient.sum().item() == pytest.approx(SUM, abs=1e-4)


def test_a_function_that_is_a_parameter_has_its_gradient():
    constant = torch.ones(2, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(equilibrium(lambda z: constant, torch.zeros(2, 3)).value.sum(), constant)
    torch.testing.assert_close(gradient, torch.ones(2, 3))
