"""TensorFlow's borders: laws of the operators of methods/morpholayers, and poolings."""

import pytest
import torch
from torch.nn import functional as F

import varmorph.torch


@pytest.fixture
def operators(plugin):
    return plugin("operators")


def kernel_of(size, seed=0):
    return -torch.rand(3, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", [(3, 3), (5, 1), (3, 5)])
@pytest.mark.parametrize("rate", [1, 2])
def test_dilation_and_erosion_are_an_adjunction_for_odd_windows(operators, images, size, rate):
    kernel = kernel_of(size)
    dilated = operators.dilation(images, kernel, rate=rate)
    eroded = operators.erosion(images, kernel, rate=rate)
    # Two increasing operators are an adjunction exactly if erosion dilation >= identity >= dilation erosion.
    assert (operators.erosion(dilated, kernel, rate=rate) >= images - 1e-12).all()
    assert (operators.dilation(eroded, kernel, rate=rate) <= images + 1e-12).all()


def test_opening_by_an_even_window_is_not_anti_extensive(operators, images):
    kernel = torch.zeros(3, 2, 2, dtype=torch.float64)
    assert (operators.opening(images, kernel) > images).any()
    assert (varmorph.torch.opening(images, kernel) <= images).all()


def test_a_stride_of_the_window_gives_max_pooling(operators, images):
    kernel = torch.zeros(3, 2, 2, dtype=torch.float64)
    expected = F.max_pool2d(images, 2, ceil_mode=True)
    torch.testing.assert_close(operators.dilation(images, kernel, stride=2), expected)


def test_the_first_of_equal_elements_takes_the_gradient(operators):
    x = torch.zeros(1, 1, 4, 4, requires_grad=True)
    kernel = torch.zeros(1, 2, 2, requires_grad=True)
    for operator, place in ((operators.dilation, (0, 0)), (operators.erosion, (1, 1))):
        by_x, by_kernel = torch.autograd.grad(operator(x, kernel, stride=2).sum(), (x, kernel))
        assert by_x[0, 0].nonzero().tolist() == [[0, 0], [0, 2], [2, 0], [2, 2]]
        assert by_kernel[0].nonzero().tolist() == [list(place)]


def test_errors_say_what_was_expected(operators, images):
    with pytest.raises(ValueError, match="padding must be 'same' or 'valid', found 'full'"):
        operators.dilation(images, kernel_of((3, 3)), padding="full")
    with pytest.raises(ValueError, match="padding 'valid' needs an image of at least"):
        operators.dilation(images, kernel_of((11, 3)), padding="valid")


def test_poolings_mix_extrema_and_mean_of_each_window(plugin, images):
    pooling = plugin("pooling")
    greatest, least = F.max_pool2d(images, 2), -F.max_pool2d(-images, 2)
    mean = F.avg_pool2d(images, 2)
    torch.testing.assert_close(pooling.MinPooling2D(2)(images), least)
    torch.testing.assert_close(pooling.GradPooling2D(2)(images), greatest - least)
    torch.testing.assert_close(pooling.MixedPooling2D(2)(images), (greatest + mean) / 2)
    torch.testing.assert_close(pooling.MixedMaxMinPooling2D(2)(images), (greatest + least) / 2)
    learned = pooling.MixedPooling2D(2)
    learned(images).sum().backward()
    torch.testing.assert_close(learned.alpha.grad.double(), (greatest - mean).sum()[None], atol=1e-5, rtol=1e-5)
