"""The window layers of methods/morpholayers against their definitions, computed by SciPy."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy import ndimage

FILTERS, CHANNELS = 2, 3


@pytest.fixture
def layers(plugin):
    return plugin("layers")


def D(x, k):
    """Dilation of a plane by an odd window: max_b x[p + b] + k[b]."""
    return ndimage.grey_dilation(x, structure=k[::-1, ::-1], mode="constant", cval=-np.inf)


def E(x, k):
    """Erosion of a plane by an odd window: -D(-x; k reversed)."""
    return -D(-x, k[::-1, ::-1])


def randomised(layer, seed=1):
    """Draw the parameters of a layer, so that no two of its structuring functions are equal."""
    rng = np.random.default_rng(seed)
    layer = layer.double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.tensor(-rng.random(parameter.shape)))
    return layer


def planes(images, kernel, function):
    """Apply a function of plane and structuring function to every channel and filter: (N, F, C, H, W)."""
    kernel = kernel.detach().numpy()
    return np.array(
        [[[function(x, k) for x, k in zip(image, ks, strict=True)] for ks in kernel] for image in images.numpy()]
    )


DEPTHWISE = {
    "DepthwiseDilation2D": D,
    "DepthwiseErosion2D": E,
    "Opening2D": lambda x, k: D(E(x, k), k),
    "Closing2D": lambda x, k: E(D(x, k), k),
    "TopHatOpening2D": lambda x, k: x - D(E(x, k), k),
    "TopHatClosing2D": lambda x, k: E(D(x, k), k) - x,
    "Gradient2D": lambda x, k: D(x, k) - E(x, k),
    "InternalGradient2D": lambda x, k: x - E(x, k),
    "ExternalGradient2D": lambda x, k: D(x, k) - x,
    "MorphoAverage2D": lambda x, k: (D(x, k) + E(x, k)) / 2,
    "QuadraticDilation2D": D,
    "QuadraticErosion2D": E,
    "QuadraticAverage2D": lambda x, k: (D(x, k) + E(x, k)) / 2,
}


@pytest.mark.parametrize("name", DEPTHWISE)
def test_channel_f_c_is_function_f_on_channel_c(layers, images, name):
    layer = randomised(getattr(layers, name)(CHANNELS, FILTERS, 3))
    expected = planes(images, layer.functions(), DEPTHWISE[name])
    np.testing.assert_allclose(layer(images).detach(), expected.reshape(2, FILTERS * CHANNELS, 9, 8), atol=1e-12)


MERGED = {
    "Dilation2D": (D, lambda values: values.sum(2)),
    "Erosion2D": (E, lambda values: values.sum(2)),
    "MinofDilations2D": (D, lambda values: values.min((1, 2))[:, None]),
    "MaxofErosions2D": (E, lambda values: values.max((1, 2))[:, None]),
}


@pytest.mark.parametrize("name", MERGED)
def test_channels_are_merged(layers, images, name):
    function, merge = MERGED[name]
    layer = randomised(getattr(layers, name)(CHANNELS, FILTERS, 3))
    np.testing.assert_allclose(layer(images).detach(), merge(planes(images, layer.functions(), function)), atol=1e-12)


def test_shared_structuring_functions_act_on_every_channel(layers, images):
    layer = randomised(layers.DepthwiseDilation2D(CHANNELS, FILTERS, 3, shared=True))
    (kernel,) = layer.parameters()
    assert kernel.shape == (FILTERS, 1, 3, 3)
    expected = planes(images, kernel.expand(-1, CHANNELS, -1, -1), D)
    np.testing.assert_allclose(layer(images).detach(), expected.reshape(2, -1, 9, 8), atol=1e-12)


def test_probing_is_a_dilation_minus_an_erosion_by_another_function(layers, images):
    layer = randomised(layers.Probing2D(CHANNELS, FILTERS, 3))
    expected = planes(images, layer.functions(), D) - planes(images, layer.below(), E)
    np.testing.assert_allclose(layer(images).detach(), expected.reshape(2, -1, 9, 8), atol=1e-12)


@pytest.mark.parametrize("shared", [False, True])
def test_the_mode_is_the_image_minus_the_mean_of_its_envelopes(plugin, images, shared):
    layer = randomised(plugin("empirical_modes").MorphoEMP2D(CHANNELS, FILTERS, 3, shared=shared))
    assert len(list(layer.parameters())) == (1 if shared else 2)
    means = (planes(images, layer.upper.functions(), D) + planes(images, layer.lower.functions(), E)) / 2
    expected = images.numpy()[:, None].sum(2) - means.sum(2)
    np.testing.assert_allclose(layer(images).detach(), expected[..., 1:-1, 1:-1], atol=1e-12)


@pytest.mark.parametrize("shared", [False, True])
def test_separable_layers_merge_channels_by_their_own_extremum(plugin, images, shared):
    dilation, erosion = (
        randomised(getattr(plugin("separable"), name)(CHANNELS, FILTERS, 3, multiplier=2, shared=shared))
        for name in ("SeparableDilation2D", "SeparableErosion2D")
    )
    offsets = dilation.offsets.detach().numpy()[:, :, None, None]
    kernel = dilation.windows.functions().expand(-1, CHANNELS, -1, -1)
    for layer, function, extremum, sign in ((dilation, D, np.max, 1), (erosion, E, np.min, -1)):
        values = planes(images, kernel, function)[:, :, None] + sign * offsets
        np.testing.assert_allclose(layer(images).detach(), extremum(values, 3).reshape(2, -1, 9, 8), atol=1e-12)


def test_blueprint_layers_merge_channels_first(plugin, images):
    x = images.numpy()
    for name, function, extremum, sign in (("Dilation", D, np.max, 1), ("Erosion", E, np.min, -1)):
        layer = randomised(getattr(plugin("separable"), f"Blueprint{name}2D")(CHANNELS, FILTERS, 3))
        offsets = layer.offsets.detach().numpy()[:, :, None, None]
        merged = torch.tensor(extremum(x[:, None] + sign * offsets, 2))
        kernel = layer.windows.functions().transpose(0, 1)
        expected = planes(merged, kernel.reshape(1, FILTERS, 3, 3), function)[:, 0]
        np.testing.assert_allclose(layer(images).detach(), expected, atol=1e-12)


@pytest.mark.parametrize("name", ["Opening2D", "Closing2D"])
def test_stride_acts_on_the_second_step_and_rate_on_both(layers, plugin, images, name):
    layer = randomised(getattr(layers, name)(CHANNELS, 1, 3, stride=2, rate=2))
    first, second = ("erosion", "dilation") if name == "Opening2D" else ("dilation", "erosion")
    kernel = layer.functions()[0]
    inner = getattr(plugin("operators"), first)(images, kernel, rate=2)
    outer = getattr(plugin("operators"), second)(inner, kernel, rate=2, stride=2)
    torch.testing.assert_close(layer(images), outer, rtol=0, atol=0)


def test_every_line_leads_through_the_centre_to_the_opposite_border(plugin):
    lines = plugin("structuring").lines((5, 5))
    assert len({tuple(line.flatten().tolist()) for line in lines}) == 8
    for line in lines:
        assert line[2, 2]
        assert line.sum() == 5
        assert torch.equal(line, line.flip(0, 1))


def test_what_lies_beside_a_line_is_left_out(layers, plugin):
    layer = layers.DilationLines2D(1, 5)
    point = torch.zeros(1, 1, 5, 5)
    point[..., 2, 2] = 1
    assert torch.equal(layer(point)[0] == 1, plugin("structuring").lines((5, 5)))


def test_lines_need_an_odd_square(layers):
    with pytest.raises(ValueError, match="square window of odd size, found"):
        layers.DilationLines2D(1, 4)


def test_quadratic_functions_are_paraboloids_of_learned_width(layers):
    layer = layers.QuadraticDilation2D(1, 1, 5)
    with torch.no_grad():
        layer.functions.weight.fill_(2.0)
    kernel = layer.functions()[0, 0].detach()
    assert kernel[2, 2] == 0
    assert kernel[2, 4] == pytest.approx(-2.0 * (2 / 8) ** 2)
    assert kernel[1, 1] == pytest.approx(-2.0 * 2 / 64)
    weights = torch.cat([layers.QuadraticDilation2D(4, 8, 3).functions.weight.flatten() for _ in range(8)])
    assert 0.1 <= weights.min() < 0.2 < 0.9 < weights.max() <= 1.0


def test_a_constraint_holds_after_each_step(layers, plugin, images):
    constrained = partial(plugin("structuring").StructuringFunctions, constraint=plugin("constraints").non_positive)
    layer = layers.Opening2D(CHANNELS, 1, 3, functions=constrained).double()
    optimiser = torch.optim.SGD(layer.parameters(), lr=1.0)
    for sign in (-1, 1):
        optimiser.zero_grad()
        (sign * layer(images)).sum().backward()
        optimiser.step()
        kernel = layer.functions().detach()
        assert -1 <= kernel.min() <= kernel.max() <= 0
    twice = layer(images) + layer(images)  # used twice before one backward pass
    twice.sum().backward()
