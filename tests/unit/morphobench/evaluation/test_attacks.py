"""Attacks: they find what is there to be found, stay within the ball, and break false proofs."""

import copy

import pytest
import torch
from torch import nn

from morphobench.evaluation.attacks import accurate, broken_by_attack
from morphobench.training.torch.lipschitz import (
    CENTRING,
    certified_by_margin,
    lipschitz_constant,
    margins,
    rounding_bound,
)
from varmorph.torch import MaxPlusLinear, VariationalLinear

ATTACK = {"steps": 20, "restarts": 2, "seed": 0}


class Difference(nn.Module):
    """Scores (d, -d), d the difference of the first two pixels: the least change that turns it is |d| / 2 a pixel."""

    lipschitz = 2.0

    def forward(self, x):
        d = (x[:, 0, 0, 0] - x[:, 0, 0, 1]) / 2  # pixels were centred
        return torch.stack((d, -d), 1)


@pytest.fixture
def pairs():
    generator = torch.Generator().manual_seed(0)
    images = 0.2 + 0.6 * torch.rand(40, 1, 1, 2, generator=generator, dtype=torch.float64)
    return images, (images[:, 0, 0, 0] < images[:, 0, 0, 1]).long()


def test_an_attack_breaks_what_a_change_of_that_size_breaks_and_nothing_else(pairs):
    images, truth = pairs
    model = Difference()
    assert accurate(model, images, truth).all()
    distance = (images[:, 0, 0, 0] - images[:, 0, 0, 1]).abs() / 2
    for epsilon in (0.02, 0.1):
        broken = broken_by_attack(model, model, images, truth, epsilon, **ATTACK)
        assert broken[distance < epsilon * 0.999].all()
        assert not broken[distance > epsilon].any()


def test_an_image_that_is_wrong_counts_as_broken(pairs):
    images, truth = pairs
    assert broken_by_attack(Difference(), Difference(), images, 1 - truth, 1e-6, **ATTACK).all()


def test_pixels_stay_in_their_range(pairs):
    """At the end of the range there is no room for the change that would be needed."""
    images = torch.tensor(
        [[[[0.9, 1.0]]]], dtype=torch.float64
    )  # turned by 0.05 a pixel; with the second held at 1 by 0.1

    class Second(Difference):
        def forward(self, x):
            return super().forward(torch.stack((x[..., 0].clamp(max=0.8), x[..., 1]), -1))  # the first counts up to 0.9

    assert not broken_by_attack(Second(), Second(), images, torch.tensor([1]), 0.09, **ATTACK).any()
    assert broken_by_attack(Second(), Second(), images, torch.tensor([1]), 0.11, **ATTACK).all()


def network(seed, level=2.0):
    torch.manual_seed(seed)
    layers = [VariationalLinear(12, 8, signed=True, initial_level=level), MaxPlusLinear(8, 3, signed=True)]
    return nn.Sequential(nn.Flatten(), *layers).double().eval()


def test_certificates_grow_weaker_with_epsilon_and_survive_attacks():
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(64, 1, 3, 4, generator=generator, dtype=torch.float64)
    model = network(0)
    truth = model(images * 2 - 1).argmax(1)
    before = torch.ones(64, dtype=torch.bool)
    for epsilon in (0.001, 0.003, 0.01):
        proven = certified_by_margin(model, images, truth, epsilon)
        assert not (proven & ~before).any()
        before = proven
        broken = broken_by_attack(copy.deepcopy(model).float(), model, images, truth, epsilon, **ATTACK)
        assert not (proven & broken).any()
        assert not certified_by_margin(model, images, (truth + 1) % 3, epsilon).any()
    assert 0 < before.sum() < 64


def test_the_centring_counts():
    """A margin m proves changes of pixels below m / (2 L), L with the factor 2 of the map from [0, 1] to [-1, 1]."""
    images, model = torch.tensor([[[[0.6, 0.4]]]], dtype=torch.float64), Difference()
    assert CENTRING * lipschitz_constant(model) == 4.0
    assert margins(model(images * 2 - 1), torch.tensor([0])).item() == pytest.approx(0.4)
    assert certified_by_margin(model, images, torch.tensor([0]), 0.0499).item()
    assert not certified_by_margin(model, images, torch.tensor([0]), 0.0501).item()


@pytest.mark.parametrize("seed", range(3))
def test_the_rounding_bound_holds(seed):
    """In float32 against float64; and it is far below the margins that matter."""
    generator = torch.Generator().manual_seed(seed)
    inputs = 2 * torch.rand(64, 1, 3, 4, generator=generator) - 1
    exact = network(seed)
    fast = copy.deepcopy(exact).float()
    rounded = copy.deepcopy(fast).double()  # the parameters that the float32 network has
    error = (fast(inputs).double() - rounded(inputs.double())).abs().max().item()
    bound = rounding_bound(fast, inputs)
    assert 0 < error <= bound < 1e-2
    assert rounding_bound(rounded, inputs.double()) < 1e-10


def test_constants_multiply_and_unknown_layers_are_refused():
    class Twice(nn.Module):
        lipschitz = 2.0

    assert lipschitz_constant(nn.Sequential(Twice(), nn.Sequential(nn.ReLU(), Twice()))) == 4.0
    with pytest.raises(TypeError, match="Conv2d does not say its Lipschitz constant"):
        lipschitz_constant(nn.Sequential(nn.Conv2d(1, 1, 3)))
