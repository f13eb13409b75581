"""The layers: parameters, first values, what they print, and that they travel and learn."""

import pickle

import pytest
import torch

import varmorph.torch
from varmorph.torch import (
    Dilation2d,
    Erosion2d,
    VariationalClosing2d,
    VariationalDilation2d,
    VariationalErosion2d,
    VariationalOpening2d,
)

MAX_PLUS = ["Dilation2d", "Erosion2d", "Opening2d", "Closing2d", "Gradient2d", "WhiteTopHat2d", "BlackTopHat2d"]
ONE_LEVEL = ["VariationalDilation2d", "VariationalErosion2d"]
TWO_LEVELS = ["VariationalOpening2d", "VariationalClosing2d"]
every_layer = pytest.mark.parametrize("name", MAX_PLUS + ONE_LEVEL + TWO_LEVELS)

FUNCTIONS = {
    "Dilation2d": "dilation",
    "Erosion2d": "erosion",
    "Opening2d": "opening",
    "Closing2d": "closing",
    "Gradient2d": "gradient",
    "WhiteTopHat2d": "white_top_hat",
    "BlackTopHat2d": "black_top_hat",
    "VariationalDilation2d": "variational_dilation",
    "VariationalErosion2d": "variational_erosion",
    "VariationalOpening2d": "variational_opening",
    "VariationalClosing2d": "variational_closing",
}


def layer(name, **options):
    made = getattr(varmorph.torch, name)(3, (3, 2), **options)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    return made


@pytest.fixture
def x():
    return torch.randn(2, 3, 7, 6, generator=torch.Generator().manual_seed(1))


@every_layer
def test_a_layer_applies_the_function_of_its_name(name, x):
    made = layer(name, stride=2, padding="reflect")
    arguments = {"bias": made.bias}
    if name not in MAX_PLUS:
        level = "logit_level" if name in ONE_LEVEL else "logit_levels"
        arguments |= {"weight": made.log_weight.exp(), level: getattr(made, level)}
    expected = getattr(varmorph.torch, FUNCTIONS[name])(x, **arguments, stride=2, padding="reflect")
    assert torch.equal(made(x), expected)


def test_one_layer_holds_dilations_and_erosions(x):
    maxplus = Dilation2d(3, (3, 3), dual=2)
    assert repr(maxplus) == "Dilation2d(3, kernel_size=(3, 3), dual=2)"
    assert torch.equal(maxplus(x)[:, 1:], Erosion2d(2, 3)(x[:, 1:]))  # flat and odd, so that it is its own transpose
    made = VariationalDilation2d(3, 3, initial_level=[2.0, -2.0, -1.0])
    torch.nn.init.normal_(made.bias, generator=torch.Generator().manual_seed(2))
    eroding = VariationalErosion2d(2, 3, initial_level=(2.0, 1.0))
    with torch.no_grad():
        eroding.bias.copy_(-made.bias[1:].flip((1, 2)))
    torch.testing.assert_close(made(x)[:, 1:], eroding(x[:, 1:]))


@pytest.mark.parametrize("level", [[1.0, 2.0], [[1.0] * 3], [1.0, float("inf"), 0.0]])
def test_first_levels_that_do_not_fit_are_refused(level):
    with pytest.raises(ValueError, match="initial_level must be"):
        VariationalDilation2d(3, 3, initial_level=level)


@pytest.mark.parametrize("dual", [-1, 4, 1.5, True])
def test_a_number_of_dual_channels_that_does_not_fit_is_refused(dual):
    with pytest.raises(ValueError, match=f"dual must be a number of channels, 0 to 3, found {dual}"):
        Dilation2d(3, 3, dual=dual)


@every_layer
def test_shapes_of_the_parameters(name):
    shapes = {key: tuple(value.shape) for key, value in layer(name).state_dict().items()}
    expected = {"bias": (3, 3, 2)}
    if name in ONE_LEVEL:
        expected |= {"log_weight": (3, 3, 2), "logit_level": (3,)}
    if name in TWO_LEVELS:
        expected |= {"log_weight": (3, 3, 2), "logit_levels": (2, 3)}
    assert shapes == expected


@every_layer
def test_a_layer_survives_pickling_and_loading_its_state(name, x):
    made = layer(name, rate=2)
    copy = pickle.loads(pickle.dumps(made))
    fresh = getattr(varmorph.torch, name)(3, (3, 2), rate=2)
    fresh.load_state_dict(made.state_dict())
    assert repr(copy) == repr(made)
    assert torch.equal(copy(x), made(x))
    assert torch.equal(fresh(x), made(x))


@every_layer
def test_every_parameter_receives_a_finite_gradient(name, x):
    made = layer(name)
    made(x).square().sum().backward()
    for key, parameter in made.named_parameters():
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.any(), key


@every_layer
def test_a_layer_works_in_float64_and_under_autocast(name, x):
    made = layer(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert made(x.bfloat16()).dtype == torch.bfloat16
    assert made.double()(x.double()).dtype == torch.float64


def test_reprs_name_what_differs_from_the_default():
    assert repr(Dilation2d(8, 3)) == "Dilation2d(8, kernel_size=(3, 3))"
    changed = VariationalDilation2d(8, (3, 5), stride=2, rate=(1, 3), padding=0.0)
    assert repr(changed) == "VariationalDilation2d(8, kernel_size=(3, 5), stride=(2, 2), rate=(1, 3), padding=0.0)"


def test_layers_start_flat_at_their_level():
    made = VariationalDilation2d(2, 3, initial_level=1.5)
    assert not made.bias.any()
    assert torch.equal(made.weight, torch.ones(2, 3, 3))
    assert made.logit_level.tolist() == [1.5, 1.5]
    assert VariationalOpening2d(1, 3).logit_levels.flatten().tolist() == [-2.0, 2.0]
    assert VariationalClosing2d(1, 3).logit_levels.flatten().tolist() == [2.0, -2.0]


def test_a_variational_dilation_learns_a_structuring_element(x):
    target = torch.full((1, 3, 3), -3.0)
    target[0, 1] = 0.0  # a horizontal line
    images = torch.rand(8, 1, 12, 12, generator=torch.Generator().manual_seed(2))
    wanted = varmorph.torch.dilation(images, target)
    made = VariationalDilation2d(1, 3)
    optimiser = torch.optim.Adam(made.parameters(), lr=0.1)
    for _ in range(150):
        optimiser.zero_grad()
        loss = (made(images) - wanted).square().mean()
        loss.backward()
        optimiser.step()
    assert loss.item() < 1e-3
    assert made.logit_level.item() > 3
