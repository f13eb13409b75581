"""How an operator compares with what it replaces: both timed in turn, so that a busy machine slows both alike.

`python -m pytest tests/benchmarks/test_bars.py --benchmark-only --benchmark-max-time=2 -s` prints each ratio of medians
beside the bar that the project sets itself. Images are normal noise in float32, offsets are 0 (one of them -0.5 where
"non-flat" is said), weights 1, levels 3. Forward and backward together include the gradients of all parameters. A ratio is
recorded, not judged: on a machine with other work it says little.
"""

import cv2
import kornia.morphology
import numpy as np
import pytest
import torch
from by_position import by_position
from torch.nn import functional

import varmorph.torch
from varmorph.torch import backend, regularised_dilation

SMALL = (1, 2, 8, 8)
LEVEL = 3.0
WINDOWS = (3, 5)
every_window = pytest.mark.parametrize("window", WINDOWS)


@pytest.fixture
def shape(timed, seconds):
    """32 x 16 x 64 x 64, or a smaller batch where little time is given."""
    if not timed:
        return SMALL
    return (32 if seconds >= 0.1 else 2), 16, 64, 64


@pytest.fixture
def images(shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def forward_and_backward(function, leaves):
    """A call that computes a function of leaves and the gradients of all of them."""
    leaves = [leaf.detach().clone(memory_format=torch.preserve_format).requires_grad_() for leaf in leaves]
    cotangent = torch.ones_like(function(*leaves))
    return lambda: torch.autograd.grad(function(*leaves), leaves, cotangent)


def forward(function, leaves):
    return torch.no_grad()(lambda: function(*leaves))


def structuring_function(channels, window, *, flat):
    bias = torch.zeros(channels, window, window)
    if not flat:
        bias[:, 0, 0] = -0.5
    return bias


def variational(images, window):
    channels = images.shape[1]
    flat, ones = torch.zeros(channels, window, window), torch.ones(channels, window, window)
    return [images, flat, ones, torch.full((channels,), LEVEL)]


@every_window
def test_variational_dilation_and_a_depthwise_convolution(against, images, window):
    channels = images.shape[1]

    def convolution(x, weight, bias):
        return functional.conv2d(x, weight, bias, padding=window // 2, groups=channels)

    parameters = torch.ones(channels, 1, window, window), torch.zeros(channels)
    peers = {
        "a depthwise Conv2d, contiguous": forward_and_backward(convolution, (images, *parameters)),
        "a depthwise Conv2d, channels last": forward_and_backward(
            convolution, (images.to(memory_format=torch.channels_last), *parameters)
        ),
    }
    ours = forward_and_backward(by_position(varmorph.torch.variational_dilation), variational(images, window))
    bar = {3: 2.2, 5: 1.2}[window]
    against(
        ours, peers, operator="variational_dilation", window=window, shape=images.shape,
        phase="forward and backward", bar=bar,
    )  # fmt: skip


@every_window
def test_dilation_and_max_pooling(against, images, window):
    def pooling(x):
        return functional.max_pool2d(x, window, 1, window // 2)

    peers = {
        "max_pool2d, contiguous": forward_and_backward(pooling, [images]),
        "max_pool2d, channels last": forward_and_backward(pooling, [images.to(memory_format=torch.channels_last)]),
    }
    leaves = [images, structuring_function(images.shape[1], window, flat=False)]
    against(
        forward_and_backward(varmorph.torch.dilation, leaves), peers, operator="dilation, non-flat", window=window,
        shape=images.shape, phase="forward and backward", bar=0.8,
    )  # fmt: skip


@every_window
def test_dilation_and_kornia(against, images, window):
    ones = torch.ones(window, window)
    function = structuring_function(1, window, flat=False)[0]

    def dilation(engine):
        return lambda x, bias: kornia.morphology.dilation(x, ones, structuring_element=bias, engine=engine)

    peers = {
        f"kornia, {engine}": forward_and_backward(dilation(engine), [images, function])
        for engine in ("unfold", "convolution")
    }
    ours = forward_and_backward(varmorph.torch.dilation, [images, function])
    against(
        ours, peers, operator="dilation, non-flat", window=window, shape=images.shape,
        phase="forward and backward", bar=0.03,
    )  # fmt: skip


@pytest.mark.parametrize(("window", "bar"), [(3, 1.0), (15, 2.0)])
@pytest.mark.parametrize("flat", [True, False], ids=["flat", "non-flat"])
def test_dilation_and_opencv(against, images, window, bar, flat):
    if window == 15 and not flat:
        pytest.skip("OpenCV has flat windows only, and takes a large one apart")
    planes, ones = images.numpy().reshape(-1, *images.shape[2:]), np.ones((window, window), np.uint8)
    result = np.empty_like(planes)

    def opencv():
        for plane, target in zip(planes, result, strict=True):
            cv2.dilate(plane, ones, dst=target)

    leaves = [images, structuring_function(images.shape[1], window, flat=flat)]
    against(
        forward(varmorph.torch.dilation, leaves), {"OpenCV, flat": opencv},
        operator="dilation, flat" if flat else "dilation, non-flat", window=window, shape=images.shape,
        phase="forward", bar=bar,
    )  # fmt: skip


@pytest.mark.parametrize("operator", ["dilation, non-flat", "variational_dilation"])
@pytest.mark.parametrize("window", [5, 7, 9, 11, 13, 15])
def test_cost_grows_with_the_window_no_faster_than_its_elements(against, images, operator, window):
    images = images[: max(1, images.shape[0] // 8)]

    def call(window):
        if operator == "variational_dilation":
            return forward_and_backward(by_position(varmorph.torch.variational_dilation), variational(images, window))
        leaves = [images, structuring_function(images.shape[1], window, flat=False)]
        return forward_and_backward(varmorph.torch.dilation, leaves)

    against(
        call(window), {"3 x 3": call(3)}, operator=operator, window=window, shape=images.shape,
        phase="forward and backward", bar=window**2 / 9,
    )  # fmt: skip


@pytest.mark.parametrize("edge_penalty", ["quadratic", "huber"])
def test_regularised_dilation_in_kernels_and_in_tensor_code(against, timed, seconds, edge_penalty):
    size = ((16, 1, 128, 128) if seconds >= 0.1 else (1, 1, 48, 48)) if timed else (2, 1, 8, 8)
    x = torch.randn(size, generator=torch.Generator().manual_seed(0))
    leaves = [x, torch.zeros(1, 3, 3), torch.ones(1, 3, 3), torch.tensor(LEVEL), torch.tensor(1.0)]
    smoothing = 0.05 if edge_penalty == "huber" else None

    def dilation(name):
        def value(*leaves):
            with backend(name):
                return by_position(regularised_dilation)(
                    *leaves, edge_penalty=edge_penalty, edge_smoothing=smoothing
                ).value

        call = forward_and_backward(value, leaves)

        def within():
            with backend(name):  # the backward pass asks too
                call()

        return within

    against(
        dilation("auto"), {"tensor code": dilation("tensor")}, operator=f"regularised_dilation, {edge_penalty} edges",
        window=3, shape=size, phase="forward and backward", bar=0.4,
    )  # fmt: skip
