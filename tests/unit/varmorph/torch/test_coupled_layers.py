"""Layers of coupled operators: the function of their name, parameters, certificates, pickling, learning."""

import pickle

import pytest
import torch

import varmorph.torch
from varmorph.torch import (
    ConvergenceWarning,
    Implicit,
    JointClosing2d,
    JointOpening2d,
    Newton,
    RegularisedDilation2d,
    joint_opening,
    regularised_dilation,
)

LAYERS = ["RegularisedDilation2d", "JointOpening2d", "JointClosing2d"]
every_layer = pytest.mark.parametrize("name", LAYERS)


def layer(name, **options):
    made = getattr(varmorph.torch, name)(3, (3, 2), **options)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return made


@pytest.fixture
def x():
    return torch.randn(2, 3, 7, 6, generator=torch.Generator().manual_seed(1))


def test_a_layer_applies_the_function_of_its_name(x):
    edges = {"edge_penalty": "huber", "edge_smoothing": 0.2, "ridge": 0.1, "padding": "reflect"}
    made = layer("RegularisedDilation2d", **edges)
    weights = torch.rand(2, 1, 2, 7, 6, generator=torch.Generator().manual_seed(2))
    arguments = (x, made.bias, made.logit_level, made.log_coupling.exp())
    assert torch.equal(
        made(x, weights),
        regularised_dilation(*arguments, weight=made.log_weight.exp(), edge_weights=weights, **edges).value,
    )
    for name in ("JointOpening2d", "JointClosing2d"):
        made = layer(name, rate=2)
        function = getattr(varmorph.torch, name.replace("2d", "").replace("Joint", "joint_").lower())
        arguments = (x, made.bias, made.logit_levels, made.log_eta.exp())
        assert torch.equal(made(x), function(*arguments, weight=made.log_weight.exp(), rate=2).value)


@every_layer
def test_a_layer_keeps_the_certificate_of_its_last_call(name, x):
    made = layer(name)
    assert made.certificate is None
    value = made(x)
    assert made.certificate.forward.converged.tolist() == [True, True]
    assert made.certificate.backward is None
    value.sum().backward()
    assert made.certificate.backward.converged.tolist() == [True, True]
    starved = layer(name, solver=Newton(max_steps=0))
    with pytest.warns(ConvergenceWarning):
        starved(x)
    assert starved.certificate.forward.converged.tolist() == [False, False]


@every_layer
def test_every_parameter_receives_a_finite_gradient(name, x):
    made = layer(name)
    made(x).square().sum().backward()
    for key, parameter in made.named_parameters():
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.any(), key


@every_layer
def test_a_layer_survives_pickling_and_loading_its_state(name, x):
    made = layer(name, padding="replicate")
    expected = made(x)
    copy = pickle.loads(pickle.dumps(made))
    fresh = getattr(varmorph.torch, name)(3, (3, 2), padding="replicate")
    fresh.load_state_dict(made.state_dict())
    assert repr(copy) == repr(made) == repr(fresh)
    assert torch.equal(copy(x), expected)
    assert torch.equal(fresh(x), expected)
    fresh.reset_parameters()
    assert not fresh.bias.any()


def test_what_layers_start_with_and_print():
    made = RegularisedDilation2d(
        2, 3, initial_level=1.0, initial_coupling=0.5, ridge=0.1, adjoint=Implicit(tolerance=1e-3)
    )
    torch.testing.assert_close(made.coupling, torch.full((2,), 0.5))
    assert made.logit_level.tolist() == [1.0, 1.0]
    assert repr(made) == (
        "RegularisedDilation2d(2, kernel_size=(3, 3), adjoint=Implicit(tolerance=0.001, max_steps=2000,"
        " on_failure='warn'), ridge=0.1)"
    )
    assert JointOpening2d(1, 3).logit_levels.flatten().tolist() == [-4.0, 4.0]
    assert JointClosing2d(1, 3).logit_levels.flatten().tolist() == [4.0, -4.0]
    torch.testing.assert_close(JointClosing2d(1, 3, initial_eta=0.3).eta, torch.tensor([0.3]))


def test_a_joint_opening_learns_its_eta_and_levels():
    images = torch.rand(4, 1, 10, 10, generator=torch.Generator().manual_seed(2))
    wanted = joint_opening(images, torch.zeros(3, 3), (-2.0, 3.0), 0.5).value
    made = JointOpening2d(1, 3, initial_eta=0.05)
    optimiser = torch.optim.Adam([made.logit_levels, made.log_eta], lr=0.2)
    losses = []
    for _ in range(120):
        optimiser.zero_grad()
        loss = (made(images) - wanted).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.02 * losses[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: RegularisedDilation2d(2, 3, padding="valid"),
            "padding must keep the size of the image, found 'valid'",
        ),
        (
            lambda: RegularisedDilation2d(2, 3, initial_coupling=0.0),
            "initial_coupling must be a positive number, found 0.0",
        ),
        (lambda: RegularisedDilation2d(2, 3, ridge=-1.0), "ridge must be a number >= 0, found -1.0"),
        (
            lambda: RegularisedDilation2d(2, 3, edge_penalty="tv"),
            "edge_penalty must be 'quadratic' or 'huber', found 'tv'",
        ),
        (lambda: RegularisedDilation2d(2, 3, edge_penalty="huber"), "edge_smoothing must be a positive number"),
        (
            lambda: RegularisedDilation2d(2, 3, edge_smoothing=0.1),
            "edge_smoothing must be None for edge_penalty 'quadratic'",
        ),
        (lambda: JointOpening2d(2, 3, initial_eta=-1.0), "initial_eta must be a positive number, found -1.0"),
        (
            lambda: JointOpening2d(2, 3, penalty="quantile"),
            "penalty must be 'expectile' or 'huber' for a joint operator",
        ),
    ],
)
def test_wrong_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


FLAT, X = torch.zeros(3, 3), torch.zeros(2, 2, 4, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coupling": -1.0}, r"coupling must be >= 0, found \[-1.0, -1.0\]"),
        ({"coupling": torch.zeros(3)}, r"coupling must be a scalar or have shape \(2,\), found \(3,\)"),
        ({"ridge": -0.5}, r"ridge must be >= 0, found \[-0.5, -0.5\]"),
        (
            {"edge_weights": torch.ones(2, 2, 4, 5)},
            r"edge_weights must have shape \(2, 1, 2, 4, 5\) or \(2, 2, 2, 4, 5\)",
        ),
        ({"edge_weights": -torch.ones(2, 1, 2, 4, 5)}, "edge_weights must hold finite numbers >= 0"),
        ({"padding": "valid"}, "padding must keep the size of the image, found 'valid'"),
        ({"edge_penalty": "huber", "edge_smoothing": 0.0}, r"edge_smoothing must be positive, found \[0.0, 0.0\]"),
    ],
)
def test_wrong_arguments_of_a_regularised_dilation_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        regularised_dilation(X, FLAT, 0.0, **{"coupling": 1.0, **options})
