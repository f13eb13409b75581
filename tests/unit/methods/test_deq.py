"""The deep equilibrium model: its size, what its training logs, and what its gradient is."""

import csv
import time

import numpy as np
import pytest
import torch

from morphobench.contract import Budget, InvalidPlugin, Run, Split, Task
from morphobench.plugins.discovery import discover_methods
from morphobench.plugins.loading import load_method
from morphobench.training.torch.learner import count_parameters

CLASSES = tuple("0123456789")


@pytest.fixture
def plugin(project):
    infos = discover_methods(project.methods)
    return lambda name="deq", variant=None: load_method(infos[name], variant or next(iter(infos[name].variants)))


def task(side=8, kind="classification"):
    return Task(kind, (1, side, side), len(CLASSES), CLASSES)


@pytest.mark.parametrize("side", [8, 28])
def test_the_classifier_is_as_large_as_the_small_cnn(plugin, side):
    ours, small = (count_parameters(plugin(name).build(task(side))) for name in ("deq", "small-cnn"))
    assert abs(ours - small) <= 0.1 * small


def trained(plugin, tmp_path, variant):
    method = plugin(variant=variant)
    torch.manual_seed(0)
    model, kept = method.build(task()), []
    rng = np.random.default_rng(0)
    split = Split(rng.random((24, 1, 8, 8), dtype=np.float32), rng.integers(0, 10, 24))
    run = Run(0, time.monotonic() + 100, tmp_path, kept.append, task(), Budget(2, 8), 0.003, method.params)
    method.fit(model, split, split, run)
    return model, run, kept


def test_training_logs_how_the_equilibria_converged(plugin, tmp_path):
    _, run, said = trained(plugin, tmp_path, "anderson")
    with (tmp_path / "convergence.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["split"]) for row in rows] == [
        (str(epoch), split) for epoch in (1, 2) for split in ("train", "valid")
    ]
    assert all(1 <= float(row["mean_steps"]) <= int(row["most_steps"]) <= 20 for row in rows)
    assert all(float(row["backward_residual"]) >= 0 for row in rows if row["split"] == "train")
    assert sum("equilibrium steps mean" in line for line in said) == 4
    assert len(run.curve) == 4


def test_the_penalty_is_part_of_the_loss(plugin, tmp_path):
    plain, penalised = (trained(plugin, tmp_path, variant)[1] for variant in ("anderson", "penalised"))
    assert penalised.curve[0].loss > plain.curve[0].loss


@pytest.mark.parametrize(("variant", "exact"), [("anderson", True), ("one-step", False)])
def test_the_gradient_of_the_layer_is_that_of_finite_differences(plugin, variant, exact):
    params = dict(plugin(variant=variant).params) | {"width": 4, "inner_width": 4, "groups": 2, "max_steps": 200}
    params |= {"tolerance": 1e-13, "adjoint_tolerance": 1e-13, "adjoint_steps": 200}
    plugin(variant=variant)
    import sys

    torch.manual_seed(1)
    layer = sys.modules["morphobench_method_deq.networks"].EquilibriumLayer(params).double()
    x = torch.randn(1, 4, 5, 5, dtype=torch.float64, requires_grad=True)
    cotangent, direction = torch.randn_like(x), torch.randn_like(x)
    (gradient,) = torch.autograd.grad(layer(x), x, cotangent)
    step = 1e-6
    with torch.no_grad():
        ahead, behind = (layer(x + sign * step * direction) for sign in (1, -1))
    expected = ((ahead - behind) * cotangent).sum().item() / (2 * step)
    found = (gradient * direction).sum().item()
    assert (abs(found - expected) <= 1e-6 * abs(expected)) == exact


@pytest.mark.parametrize(("key", "value"), [("solver", "newton"), ("adjoint", "unrolled")])
def test_what_is_not_offered_is_refused_by_name(plugin, key, value):
    method = plugin()
    with pytest.raises(InvalidPlugin, match=f"key '{key}': found '{value}'"):
        method.module.build(task(), {**method.params, key: value})
