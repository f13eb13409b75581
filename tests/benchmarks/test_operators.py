"""Operators beside their peers, in one process: `python -m pytest tests/benchmarks --benchmark-only`.

Max-plus operators have offsets 0, variational ones weights 1 and logit level 3, on images of normal noise in float32.
Forward and backward together include the gradients of the parameters. Times are not judged here.
"""

import kornia.morphology
import numpy as np
import pytest
import torch
from by_position import by_position
from scipy import ndimage

import varmorph.torch

WINDOWS = (3, 5)
LEVEL = 3.0
MAX_PLUS = ("dilation", "erosion", "opening", "closing")
VARIATIONAL = tuple(f"variational_{name}" for name in MAX_PLUS)
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}

every_window = pytest.mark.parametrize("window", WINDOWS)
every_phase = pytest.mark.parametrize("phase", ["forward", "forward and backward"])
every_layout = pytest.mark.parametrize("layout", LAYOUTS)


@pytest.fixture
def images(shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@every_phase
@every_window
@pytest.mark.parametrize("operator", [*MAX_PLUS, *VARIATIONAL])
def test_varmorph(compare, images, operator, window, phase):
    channels = images.shape[1]
    leaves = [images, torch.zeros(channels, window, window)]
    if operator in VARIATIONAL:
        level = torch.full((channels,), LEVEL)
        opposite = {"variational_opening": (-level, level), "variational_closing": (level, -level)}
        leaves += [torch.ones(channels, window, window), torch.stack(opposite.get(operator, (level,))).squeeze(0)]
    leaves = [leaf.requires_grad_() for leaf in leaves]
    function = by_position(getattr(varmorph.torch, operator))
    compare(operator, function, leaves, implementation="varmorph", window=window, phase=phase)


@every_phase
@every_layout
@every_window
def test_depthwise_convolution(compare, images, window, layout, phase):
    channels = images.shape[1]
    leaves = [images.to(memory_format=LAYOUTS[layout]), torch.ones(channels, 1, window, window), torch.zeros(channels)]

    def convolution(x, weight, bias):
        return torch.nn.functional.conv2d(x, weight, bias, padding=window // 2, groups=channels)

    leaves = [leaf.requires_grad_() for leaf in leaves]
    name = f"torch depthwise Conv2d, {layout}"
    compare("depthwise convolution", convolution, leaves, implementation=name, window=window, phase=phase)


@every_phase
@every_layout
@every_window
def test_max_pooling(compare, images, window, layout, phase):
    leaves = [images.to(memory_format=LAYOUTS[layout]).requires_grad_()]

    def pooling(x):
        return torch.nn.functional.max_pool2d(x, window, 1, window // 2)

    compare("flat dilation", pooling, leaves, implementation=f"torch max_pool2d, {layout}", window=window, phase=phase)


@every_phase
@every_window
def test_kornia_dilation(compare, images, window, phase):
    ones = torch.ones(window, window)

    def dilation(x, bias):
        return kornia.morphology.dilation(x, ones, structuring_element=bias)

    leaves = [images.requires_grad_(), torch.zeros(window, window, requires_grad=True)]
    compare("dilation", dilation, leaves, implementation="kornia", window=window, phase=phase)


@every_window
def test_scipy_dilation(measure, images, shape, window):
    planes, flat = images.numpy(), np.zeros((1, 1, window, window), dtype=np.float32)
    measure(
        lambda: ndimage.grey_dilation(planes, structure=flat),
        operator="dilation",
        implementation="scipy",
        phase="forward",
        window=[window, window],
        shape=list(shape),
        threads=1,
    )
