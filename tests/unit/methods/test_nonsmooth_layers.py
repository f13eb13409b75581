"""methods/nonsmooth: gradients of its layers against finite differences, and what training logs of kinks."""

import importlib
import time

import numpy as np
import pytest
import torch

from morphobench.contract import Budget, Run, Split, Task
from morphobench.plugins.discovery import discover_methods
from morphobench.plugins.loading import load_method
from varmorph.torch import Implicit, Newton


@pytest.fixture
def method(project):
    return load_method(discover_methods(project.methods)["nonsmooth"], "sparse")


@pytest.fixture
def layers(method):
    return importlib.import_module(f"{method.module.__package__}.layers")


def sparse(layers):
    return layers.SparseWindows(2, 3, atoms=5, initial_strength=0.3, ridge=0.05)


def total_variation(layers):
    layer = layers.WeightedTotalVariation(2, 3, initial_level=2.0, initial_coupling=0.2, edge_smoothing=0.3, ridge=0.05)
    layer.solver, layer.adjoint = Newton(tolerance=1e-13), Implicit(tolerance=1e-13)
    return layer


@pytest.mark.parametrize("make", [sparse, total_variation])
def test_gradients_are_those_of_finite_differences(layers, make):
    torch.manual_seed(0)
    layer = make(layers).double()
    x = torch.rand((2, 2, 5, 6), dtype=torch.float64).requires_grad_()
    cotangent = torch.randn((2, 2, 5, 6), dtype=torch.float64)
    groups = {"x": x, **dict(layer.named_parameters())}
    gradients = torch.autograd.grad((layer(x) * cotangent).sum(), list(groups.values()))
    assert layer.certificate.forward.converged.all()
    assert layer.certificate.backward.converged.all()
    assert not layer.certificate.backward.singular.any()
    pieces = layer.active_set()
    for (name, value), gradient in zip(groups.items(), gradients, strict=True):
        direction = torch.randn(value.shape, dtype=torch.float64)
        step, ends = 1e-6, []
        for sign in (1, -1):
            with torch.no_grad():
                value.add_(sign * step * direction)
                ends.append(float((layer(x) * cotangent).sum()))
                value.sub_(sign * step * direction)
            assert torch.equal(layer.active_set(), pieces), f"{name}: a kink lies between"
        expected = (ends[0] - ends[1]) / (2 * step)
        scale = float(gradient.norm() * direction.norm())
        assert abs(float((gradient * direction).sum()) - expected) <= 1e-6 * scale, name


def test_the_active_set_is_asked_for_after_a_call(layers):
    for make in (sparse, total_variation):
        with pytest.raises(RuntimeError, match="has not been called yet"):
            make(layers).active_set()


def test_the_log_tells_of_kinks_after_each_epoch(method, tmp_path):
    rng, lines = np.random.default_rng(0), []
    images, labels = rng.random((12, 1, 8, 8)).astype(np.float32), np.arange(12) % 3
    split, task = Split(images, labels), Task("classification", (1, 8, 8), 3, ("a", "b", "c"))
    torch.manual_seed(0)
    model = method.build(task)
    run = Run(
        0, time.monotonic() + 60, tmp_path, lines.append, task, Budget(epochs=2, batch_size=6), 0.01, method.params
    )
    method.fit(model, split, split, run)
    first, second = (line for line in lines if line.startswith("kinks: "))
    problems = 2 * 6 * (8 * 64 + 16 * 16 + 2 * 32 * 4)  # steps, images, windows of the four layers
    assert f"of {problems} problems" in first
    assert "active set changed" not in first
    assert "active set changed since the last epoch in" in second
