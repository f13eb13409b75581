"""Quantile and huber operators where they are delicate: ties, flat pieces, extreme levels, float32, NaN."""

import numpy as np
import pytest
import torch
from by_position import by_position

from varmorph import reference
from varmorph.torch import VariationalOpening2d, variational_dilation, variational_erosion

LEVELS = np.array([-30.0, -1.3, 0.0, np.log(2), np.log(3), 3.0, 12.0, 40.0])
PENALTIES = [{"penalty": "quantile"}, *({"penalty": "huber", "smoothing": mu} for mu in (1e-3, 0.25, 0.5, 1.0, 30.0))]
every_penalty = pytest.mark.parametrize("penalty", PENALTIES, ids=lambda p: "-".join(map(str, p.values())))


def drawn(seed, integers):
    """Return image, offsets, weights and one level a channel; integers make ties and flat pieces."""
    rng = np.random.default_rng(seed)
    channels, size = len(LEVELS), (int(rng.integers(1, 4)), int(rng.integers(2, 5)))
    if integers:
        x, bias = rng.integers(-3, 4, (1, channels, 4, 5)), rng.integers(-1, 2, (channels, *size))
        weight = rng.integers(1, 3, (channels, *size))
    else:
        x, bias = rng.standard_normal((1, channels, 4, 5)), rng.standard_normal((channels, *size))
        weight = rng.random((channels, *size)) + 1e-3
    weight[seed % 2 :: 2, 0, 0] = 0
    return x.astype(float), bias.astype(float), weight.astype(float), LEVELS


@every_penalty
@pytest.mark.parametrize("integers", [True, False], ids=["ties", "generic"])
@pytest.mark.parametrize("operator", [variational_dilation, variational_erosion])
def test_values_are_those_of_the_reference(operator, integers, penalty):
    for seed in range(12):
        arrays = drawn(seed, integers)
        expected = by_position(getattr(reference, operator.__name__))(*arrays, **penalty)
        found = by_position(operator)(*map(torch.from_numpy, arrays), **penalty).numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
        single = by_position(operator)(*(torch.from_numpy(array).float() for array in arrays), **penalty).numpy()
        np.testing.assert_allclose(single, expected, rtol=0, atol=1e-3)


@every_penalty
def test_a_nan_reaches_the_windows_that_hold_it_and_no_others(penalty):
    x = torch.randn(1, 1, 5, 5, dtype=torch.float64)
    clean = variational_dilation(x, torch.zeros(3, 3), 1.0, **penalty)
    x[0, 0, 1, 1] = torch.nan
    y = variational_dilation(x, torch.zeros(3, 3), 1.0, **penalty)
    touched = torch.zeros(5, 5, dtype=torch.bool)
    touched[:3, :3] = True
    assert torch.equal(y.isnan()[0, 0], touched)
    assert torch.equal(y[0, 0][~touched], clean[0, 0][~touched])


@every_penalty
def test_a_window_without_neighbours_is_nan_and_spoils_no_gradient(penalty):
    x = torch.randn(1, 1, 1, 4, dtype=torch.float64, requires_grad=True)
    bias = torch.tensor(
        [[0.0, -torch.inf, -torch.inf]], dtype=torch.float64
    )  # looks left: the first pixel sees nothing
    y = variational_dilation(x, bias, 0.0, **penalty)
    assert y.isnan().flatten().tolist() == [True, False, False, False]
    (gradient,) = torch.autograd.grad(y[..., 1:].sum(), x)
    assert gradient.flatten().tolist() == pytest.approx([1.0, 1.0, 1.0, 0.0])


@pytest.mark.parametrize("penalty", [PENALTIES[0], PENALTIES[2]], ids=["quantile", "huber"])
def test_on_a_flat_piece_the_gradient_goes_by_halves_to_its_ends(penalty):
    x = torch.tensor([[[[3.0, 0.0, 2.0, 1.0]]]], requires_grad=True)
    parameters = torch.zeros(1, 4, requires_grad=True), torch.ones(1, 4, requires_grad=True)
    level = torch.zeros((), requires_grad=True)
    y = by_position(variational_dilation)(x, *parameters, level, padding="valid", **penalty)
    assert y.item() == 1.5
    gradients = torch.autograd.grad(y, (x, *parameters, level), allow_unused=True)
    assert gradients[0].flatten().tolist() == gradients[1].flatten().tolist() == [0.0, 0.0, 0.5, 0.5]
    assert all(gradient is None or not gradient.any() for gradient in gradients[2:])


def test_a_large_smoothing_gives_the_expectile():
    arguments = tuple(map(torch.from_numpy, drawn(0, False)))
    expected = by_position(variational_dilation)(*arguments)
    found = by_position(variational_dilation)(*arguments, penalty="huber", smoothing=1e3)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_layers_train_with_every_penalty():
    for penalty in PENALTIES[:3]:
        layer = VariationalOpening2d(2, 3, **penalty)
        layer(torch.randn(2, 2, 6, 6)).square().sum().backward()
        assert layer.bias.grad.isfinite().all()
        assert layer.bias.grad.any()


@every_penalty
@pytest.mark.parametrize("operator", [variational_dilation, variational_erosion])
def test_gradcheck(operator, penalty):
    torch.manual_seed(0)
    x, bias = torch.randn(1, 2, 3, 4, dtype=torch.float64), torch.randn(2, 2, 3, dtype=torch.float64)
    weight, level = torch.rand(2, 2, 3, dtype=torch.float64) + 0.5, torch.tensor([-1.0, 2.0], dtype=torch.float64)
    leaves = [tensor.requires_grad_() for tensor in (x, bias, weight, level)]
    assert torch.autograd.gradcheck(
        lambda *arguments: by_position(operator)(*arguments, **penalty), leaves, eps=1e-7, atol=1e-5
    )


def test_the_smoothing_has_a_gradient():
    arguments = [
        torch.from_numpy(array)[:, 1:6] if array.ndim == 4 else torch.from_numpy(array)[1:6]
        for array in drawn(1, False)
    ]
    smoothing = torch.full((5,), 0.5, dtype=torch.float64, requires_grad=True)

    def smoothed(mu):
        return by_position(variational_dilation)(*arguments, penalty="huber", smoothing=mu)

    assert torch.autograd.gradcheck(smoothed, smoothing, eps=1e-7, atol=1e-5)
    assert torch.autograd.grad(smoothed(smoothing).square().sum(), smoothing)[0].all()
