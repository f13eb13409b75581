"""Certified networks: their Lipschitz constant by computation and by measurement, and what their levels and weights do."""

import time
from importlib import import_module

import numpy as np
import pytest
import torch

from morphobench.contract import Budget, Run, Split, Task
from morphobench.plugins.discovery import discover_methods
from morphobench.plugins.loading import load_method
from morphobench.training.torch.lipschitz import CENTRING, lipschitz_constant, margins

TASK = Task("classification", (1, 12, 10), 3)


@pytest.fixture(scope="module")
def info(project):
    return discover_methods(project.methods)["certified"]


@pytest.fixture(scope="module")
def module(info):
    """Return a function that gives a module of the plugin by name."""
    load_method(info, "convolutional")
    return lambda name: import_module(f"morphobench_method_certified.{name}")


@pytest.fixture(scope="module")
def plugin(module):
    return module("method")


def made(info, plugin, variant="convolutional", **changed):
    torch.manual_seed(0)
    params = {**info.params_of(variant), "widths": [4, 6, 8], **changed}
    return plugin.build(TASK, params)


@pytest.mark.parametrize("variant", ["convolutional", "dense", "max-plus", "mean", "annealed"])
def test_the_constant_is_1_and_no_change_of_a_pixel_moves_a_score_further(info, plugin, variant):
    network = made(info, plugin, variant).double()
    constant = CENTRING * lipschitz_constant(network)
    assert constant == 1.0
    generator = torch.Generator().manual_seed(1)
    network(2 * torch.rand(16, 1, 12, 10, generator=generator, dtype=torch.float64) - 1)  # moves the running means
    network.eval()
    x = torch.rand(32, 1, 12, 10, generator=generator, dtype=torch.float64)
    for size in (1e-3, 0.1):
        change = size * (2 * torch.rand(x.shape, generator=generator, dtype=torch.float64) - 1).sign()
        moved = (network(2 * (x + change) - 1) - network(2 * x - 1)).abs().amax()
        assert 1e-6 * size < moved <= constant * size + 1e-12  # of a network that is constant at first nothing moves


def run(info, tmp_path, variant, **changed):
    params = {**info.params_of(variant), "widths": [4, 6, 8], **changed}
    budget = Budget(epochs=3, batch_size=8)
    return Run(0, time.monotonic() + 300, tmp_path, lambda line: None, TASK, budget, 0.02, params)


def toy():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 24)
    images = np.clip(labels[:, None, None, None] / 2 + 0.1 * rng.standard_normal((24, 1, 12, 10)), 0, 1)
    return Split(images.astype(np.float32), labels)


@pytest.mark.parametrize(
    ("variant", "changed", "moves"),
    [
        ("convolutional", {}, {"logit_level", "log_weight", "bias"}),
        ("convolutional", {"weights": "fixed"}, {"logit_level", "bias"}),
        ("mean", {}, {"log_weight", "bias"}),
        ("annealed", {}, {"logit_level", "log_weight", "bias"}),
    ],
)
def test_what_is_learned_moves_and_nothing_else(info, plugin, tmp_path, variant, changed, moves):
    network = made(info, plugin, variant, **changed)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    plugin.fit(network, toy(), toy(), run(info, tmp_path, variant, **changed))
    after = network.state_dict()
    moved = {name.rpartition(".")[2] for name in before if not torch.equal(before[name], after[name])}
    assert moved - {"mean", "log_scale"} == moves


def test_an_annealed_level_rises_to_its_last_value(info, plugin, tmp_path):
    network = made(info, plugin, "annealed")
    learner = plugin.MarginLearner(network, run(info, tmp_path, "annealed"), steps=3)
    levels, split = [], toy()
    for _ in range(3):
        learner.step(split.images[:8], split.labels[:8], 0.01)
        levels.append(network.having("logit_level")[0].logit_level[0].item())
    assert levels == [3.0, 6.0, 9.0]


def test_margins():
    scores = torch.tensor([[1.0, 3.0, 2.0], [0.0, -1.0, 4.0]])
    assert margins(scores, torch.tensor([1, 0])).tolist() == [1.0, -4.0]
