"""Gradients: one frozen Newton step, automatic checks, ties, and the conventions at degenerate places."""

import pytest
import torch
from by_position import by_position

from varmorph import reference
from varmorph.torch import backend, dilation, erosion, variational_dilation, variational_erosion, variational_opening
from varmorph.torch.separable.expectile import frozen_newton_step, minimise_expectile

every_backend = pytest.mark.parametrize("computed_by", ["tensor", "cpu"])


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def windows():
    """One window of 9 neighbours a sample: values, weights and tau, as the solver takes them."""
    values, weight = randn(9, 200, 1, 1, 1), randn(9, 1, 1, 1, 1, seed=1).exp()
    level = torch.tensor(2.5, dtype=torch.float64)
    return values, weight, level


def sides(level):
    return torch.sigmoid(level).reshape(1, 1, 1, 1, 1), torch.sigmoid(-level).reshape(1, 1, 1, 1, 1)


def test_one_frozen_newton_step_is_the_implicit_gradient(windows):
    values, weight, level = windows
    solution, _ = minimise_expectile(values, weight, *sides(level))
    leaves = [leaf.clone().requires_grad_() for leaf in windows]
    step = frozen_newton_step(leaves[0], leaves[1], *sides(leaves[2]), solution)
    cotangent = randn(200, 1, 1, 1, seed=2)
    gradients = torch.autograd.grad(step, leaves, cotangent)
    # The same windows as images of 1 x 9 pixels.
    x, flat = values.reshape(9, 200).T.reshape(200, 1, 1, 9), weight.reshape(1, 1, 9)
    exact = reference.variational_dilation_gradient(
        x.numpy(), torch.zeros(1, 1, 9).numpy(), level.item(), cotangent.numpy(), weight=flat.numpy(), padding="valid"
    )
    torch.testing.assert_close(step.detach(), solution, rtol=0, atol=1e-14)
    for found, expected in zip(gradients, (exact.x, exact.weight, exact.logit_level), strict=True):
        found = found.reshape(9, -1).T.reshape(expected.shape) if found.ndim else found
        torch.testing.assert_close(found, torch.as_tensor(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("level", [-8.0, -2.0, 0.0, 0.5, 3.0, 12.0])
@pytest.mark.parametrize("neighbours", [1, 2, 9, 25])
def test_one_update_less_than_there_are_neighbours_is_enough(level, neighbours):
    weight = randn(neighbours, 1, 1, 1, 1, seed=1).exp()
    tau = sides(torch.tensor(level, dtype=torch.float64))
    drawn = randn(neighbours, 500, 1, 1, 1)
    for values in (drawn, drawn.round(), drawn.exp().exp(), torch.full_like(drawn, 0.1)):
        solution, updates = minimise_expectile(values, weight, *tau)
        assert updates <= neighbours - 1
        image = values.reshape(neighbours, 500).T.reshape(500, 1, 1, neighbours)
        flat, bias = weight.reshape(1, 1, neighbours), torch.zeros(1, 1, neighbours)
        exact = reference.variational_dilation(image.numpy(), bias.numpy(), level, weight=flat.numpy(), padding="valid")
        torch.testing.assert_close(solution, torch.from_numpy(exact), rtol=1e-12, atol=1e-13)


def test_a_constant_window_is_left_alone():
    for value in (0.0, 0.1, -3.3, 1e8):
        x = torch.full((1, 1, 5, 5), value, dtype=torch.float64)
        for level in (-30.0, -3.0, 3.0, 30.0):
            y = variational_dilation(x, torch.zeros(3, 3, dtype=torch.float64), level)
            torch.testing.assert_close(y, x, rtol=1e-15, atol=0)


@every_backend
@pytest.mark.parametrize("operator", [variational_dilation, variational_erosion, variational_opening])
def test_gradcheck_of_variational_operators(operator, computed_by):
    levels = (2, 2) if operator is variational_opening else (2,)
    leaves = [randn(1, 2, 3, 4), randn(2, 2, 3, seed=1), randn(2, 2, 3, seed=2).exp(), randn(*levels, seed=3)]
    with backend(computed_by):
        assert torch.autograd.gradcheck(by_position(operator), [leaf.requires_grad_() for leaf in leaves])


@every_backend
@pytest.mark.parametrize("operator", [dilation, erosion])
def test_gradcheck_of_max_plus_operators(operator, computed_by):
    leaves = [randn(1, 2, 3, 4), randn(2, 2, 3, seed=1)]
    with backend(computed_by):
        assert torch.autograd.gradcheck(operator, [leaf.requires_grad_() for leaf in leaves])


@every_backend
@pytest.mark.parametrize("level", [-2.0, 1.0])
def test_at_a_tie_each_derivative_lies_between_the_one_sided_ones(computed_by, level):
    tau = torch.sigmoid(torch.tensor(level, dtype=torch.float64)).item()
    # The expectile of (-1, 1/odds) is 0 for this ratio of distances; the third neighbour ties with it.
    x = torch.tensor([[[[-1.0, (1 - tau) / tau, 0.0]]]], dtype=torch.float64)
    flat = torch.zeros(1, 3, dtype=torch.float64)
    with backend(computed_by):
        leaf = x.clone().requires_grad_()
        y = variational_dilation(leaf, flat, level, padding="valid")
        assert y.item() == pytest.approx(0.0, abs=1e-15)
        (derivative,) = torch.autograd.grad(y.sum(), leaf)
        for k in range(3):
            step = torch.zeros_like(x)
            step[..., k] = 1e-7
            slopes = [
                ((variational_dilation(x + s * step, flat, level, padding="valid") - y) / (s * 1e-7)).item()
                for s in (1, -1)
            ]
            assert min(slopes) - 1e-6 <= derivative[..., k].item() <= max(slopes) + 1e-6


@every_backend
def test_a_residual_of_zero_counts_as_above(computed_by):
    x = torch.tensor([[[[-1.0, 0.0, 1.0]]]], dtype=torch.float64, requires_grad=True)
    with backend(computed_by):
        for level, share in ((0.0, 1 / 3), (1e-9, 1 / 3)):
            y = variational_dilation(x, torch.zeros(1, 3, dtype=torch.float64), level, padding="valid")
            (derivative,) = torch.autograd.grad(y.sum(), x)
            assert derivative[..., 1].item() == pytest.approx(share, abs=1e-8)
        tau = torch.sigmoid(torch.tensor(-1.0, dtype=torch.float64)).item()
        tied = torch.tensor([[[[-1.0, (1 - tau) / tau, 0.0]]]], dtype=torch.float64, requires_grad=True)
        y = variational_dilation(tied, torch.zeros(1, 3, dtype=torch.float64), -1.0, padding="valid")
        if y.item() == 0.0:
            (derivative,) = torch.autograd.grad(y.sum(), tied)
            assert derivative[..., 2].item() == pytest.approx(tau / (1 + tau))


@every_backend
@pytest.mark.parametrize("level", [-50.0, 50.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_at_a_saturated_level_the_extreme_neighbour_takes_the_gradient(computed_by, level, dtype):
    x = randn(1, 1, 5, 5).to(dtype).requires_grad_()
    with backend(computed_by):
        y = variational_dilation(x, torch.zeros(5, 5, dtype=dtype), level, padding="valid")
        (derivative,) = torch.autograd.grad(y.sum(), x)
    extreme = x.argmax() if level > 0 else x.argmin()
    assert derivative.flatten()[extreme].item() == pytest.approx(1.0, abs=1e-5)


@every_backend
def test_the_first_element_in_row_major_order_takes_a_max_plus_tie(computed_by):
    x = torch.zeros(1, 1, 4, 5, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(1, 3, 3, dtype=torch.float64, requires_grad=True)
    for operator in (dilation, erosion):
        with backend(computed_by):
            y = operator(x, bias, padding="valid")
            by_x, by_bias = torch.autograd.grad(y.sum(), (x, bias))
        expected = torch.zeros(4, 5, dtype=torch.float64)
        expected[:2, :3] = 1
        assert torch.equal(by_x[0, 0], expected)
        # The first place of the window as it lies on the image; an erosion looks through it from the other side.
        place = (0, 0) if operator is dilation else (2, 2)
        assert by_bias[0][place].abs().item() == 6
        assert by_bias.abs().sum().item() == 6


@every_backend
def test_max_plus_ties_agree_with_max_pool2d(computed_by):
    x = randn(2, 3, 6, 7).round().requires_grad_()
    with backend(computed_by):
        (ours,) = torch.autograd.grad(dilation(x, torch.zeros(3, 3, dtype=x.dtype)).square().sum(), x)
    (theirs,) = torch.autograd.grad(torch.nn.functional.max_pool2d(x, 3, 1, 1).square().sum(), x)
    assert torch.equal(ours, theirs)


@every_backend
def test_an_element_that_is_left_out_receives_no_gradient_and_gives_none(computed_by):
    x, bias, weight = randn(1, 1, 4, 4), randn(1, 3, 3, seed=1), randn(1, 3, 3, seed=2).exp()
    bias[0, 1, 2] = -torch.inf
    x[0, 0, 1, 1] = torch.nan  # reached from (1, 0) through the element that is left out
    leaves = [leaf.requires_grad_() for leaf in (x, bias, weight)]
    for operator in (variational_dilation, variational_erosion):
        with backend(computed_by):
            y = by_position(operator)(*leaves, 1.0)
            absent = [gradient[0, 1, 2].item() for gradient in torch.autograd.grad(y[..., 3, 3], leaves[1:])]
        assert absent == [0.0, 0.0]
        assert not y[0, 0, 1, 0 if operator is variational_dilation else 2].isnan()
    with backend(computed_by):
        y = dilation(x, bias)
        assert torch.autograd.grad(y[..., 3, 3], bias)[0][0, 1, 2].item() == 0.0
        assert not y[0, 0, 1, 0].isnan()


def test_tensor_code_has_second_derivatives():
    x, weight = randn(1, 1, 3, 3).requires_grad_(), torch.ones(3, 3, dtype=torch.float64, requires_grad=True)
    with backend("tensor"):
        assert torch.autograd.gradgradcheck(
            lambda x, w: variational_dilation(x, torch.zeros(3, 3, dtype=x.dtype), 1.0, weight=w), (x, weight)
        )
