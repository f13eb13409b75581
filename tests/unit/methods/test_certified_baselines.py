"""The baselines that certify: distance networks, SortNet and a CNN with interval bounds, their neurons, bounds and training."""

import itertools
import math
import time
from importlib import import_module

import numpy as np
import pytest
import torch

from morphobench.contract import Budget, Run, Split, Task
from morphobench.plugins.discovery import discover_methods
from morphobench.plugins.loading import load_method
from morphobench.training.torch.bounded import p_at
from morphobench.training.torch.lipschitz import CENTRING, lipschitz_constant
from varmorph.kernels.distances import gradients
from varmorph.torch.backend.ops.distances import distances_in_parts, gradients_in_parts
from varmorph.torch.operators.distances import distance

TASK = Task("classification", (1, 12, 10), 3)
SMALLER = {"linf-distance": [4, 6, 8], "sortnet": [4, 6, 8], "ibp-cnn": [4, 6, 8]}
BY_MARGIN = [("linf-distance", "convolutional"), ("linf-distance", "dense"), ("sortnet", "convolutional")]
BY_MARGIN += [("sortnet", "dense")]
ALL = [*BY_MARGIN, ("linf-distance", "mixture"), ("ibp-cnn", "radius-tenth"), ("ibp-cnn", "radius-fifth")]


@pytest.fixture(scope="module")
def loaded(project):
    """Return a function that gives a plugin, its parameters for small networks, and its modules by name."""
    methods = discover_methods(project.methods)

    def load(name, variant):
        info = methods[name]
        method = load_method(info, variant)
        params = {**method.params, "widths": SMALLER[name]}
        return method.module, params, lambda module: import_module(f"{method.module.__name__}.{module}")

    return load


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def doubles(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def built(plugin, params, task=TASK):
    torch.manual_seed(0)
    return plugin.build(task, params)


def in_evaluation(plugin, params):
    """Return a network in float64 whose running means have moved."""
    network = built(plugin, params).double()
    network(doubles(16, 1, 12, 10).tanh())
    return network.eval()


def toy():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 24)
    images = np.clip(labels[:, None, None, None] / 2 + 0.1 * rng.standard_normal((24, 1, 12, 10)), 0, 1)
    return Split(images.astype(np.float32), labels)


def trained(plugin, params, tmp_path, epochs=4):
    network = built(plugin, params)
    run = Run(0, time.monotonic() + 300, tmp_path, lambda line: None, TASK, Budget(epochs, 8), 0.01, params)
    plugin.fit(network, toy(), toy(), run)
    return network, run


@pytest.fixture(scope="module")
def neuron(loaded):
    return loaded("sortnet", "convolutional")[2]("neuron")


@pytest.mark.parametrize("p", [2, 3, 8, 31, 1000])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_the_distance_is_the_norm_of_the_difference(p, scale):
    columns, centres = scale * doubles(7, 300), scale * doubles(4, 7, seed=1)
    gap = (columns - centres[..., None]).abs()
    logarithms = p * (gap / scale).log()
    expected = scale * (logarithms.logsumexp(1) / p).exp()
    torch.testing.assert_close(distance(columns, centres, p), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(distances_in_parts(columns, centres, p), expected, rtol=1e-12, atol=0)


def test_a_distance_of_0_has_no_gradient_and_nan_is_not_hidden():
    columns = torch.ones(3, 2, requires_grad=True)
    y = distance(columns, torch.ones(1, 3), 8)
    y.sum().backward()
    assert y.tolist() == [[0.0, 0.0]]
    assert not columns.grad.any()
    assert distance(torch.full((3, 1), torch.nan), torch.ones(1, 3), 8).isnan().all()


@pytest.mark.parametrize("p", [2, 5, 8])
def test_the_gradient_of_the_distance(p):
    columns, centres = doubles(5, 70).requires_grad_(), doubles(3, 5, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda *given: distance(*given, p), (columns, centres))


def test_both_ways_to_compute_the_gradient_agree():
    columns, centres, given = doubles(5, 70), doubles(3, 5, seed=1), doubles(3, 70, seed=2)
    y = distance(columns, centres, 100)
    arrays = (columns.numpy(), centres.numpy(), 100, None, y.numpy(), given.numpy())
    expected = gradients_in_parts(columns, centres, 100, None, y, given)
    for one, other in zip(gradients(*arrays), expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(one), other)


def test_second_derivatives_are_refused(neuron):
    columns, centres = doubles(5, 70).requires_grad_(), doubles(3, 5, seed=1)
    for y in (distance(columns, centres, 8), neuron.sorted_sum(columns, centres, 0.5)):
        with pytest.raises(NotImplementedError, match="first derivatives alone"):
            torch.autograd.grad(y.sum(), columns, create_graph=True)


def test_the_distance_at_1000_is_near_that_at_infinity_which_is_the_greatest_difference():
    columns, centres = doubles(20, 50), doubles(4, 20, seed=1)
    expected = (columns - centres[..., None]).abs().amax(1)
    torch.testing.assert_close(distance(columns, centres, math.inf), expected, rtol=0, atol=0)
    at_1000 = distance(columns, centres, 1000) / expected
    assert at_1000.min() >= 1 - 1e-14
    assert at_1000.max() <= 20 ** (1 / 1000)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.8])
def test_sorted_sums_are_those_of_a_full_sort(neuron, rho):
    columns, centres, given = doubles(200, 70), doubles(3, 200, seed=1), doubles(3, 70, seed=2)
    columns, centres = columns.requires_grad_(), centres.requires_grad_()
    values = (columns - centres[..., None]).abs().sort(1, descending=True).values
    weights = (1 - rho) * rho ** torch.arange(200, dtype=torch.float64)
    expected, found = (values * weights[:, None]).sum(1), neuron.sorted_sum(columns, centres, rho)
    torch.testing.assert_close(found, expected, rtol=2**-23, atol=0)
    gradients = [torch.autograd.grad(y, (columns, centres), given) for y in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-6)
    torch.testing.assert_close(neuron.sorted_sum_in_parts(columns, centres, weights[weights > 2**-28]), expected)


def test_the_gradient_of_sorted_sums(neuron):
    columns, centres = doubles(6, 4).requires_grad_(), doubles(3, 6, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda *given: neuron.sorted_sum(*given, 0.5), (columns, centres))


@pytest.mark.parametrize("rho", [0.3, 0.8])
def test_the_greatest_of_what_is_kept_has_the_sorted_sum_as_its_mean(neuron, rho):
    column, centres, draws = doubles(6, 1), doubles(2, 6, seed=1), 40_000
    kept = torch.rand(6, draws, generator=generator()) >= rho
    found = distance(column.expand(6, draws), centres, math.inf, kept)
    deviation = found.std(1) / draws**0.5
    assert ((found.mean(1) - neuron.sorted_sum(column, centres, rho)[:, 0]).abs() < 4 * deviation).all()


def test_what_is_dropped_neither_counts_nor_gets_a_gradient():
    columns, centres = doubles(5, 70), doubles(3, 5, seed=1)
    kept = torch.rand(5, 70, generator=generator()) >= 0.5
    kept[:, 0] = False
    gap = (columns - centres[..., None]).abs() * kept
    for p, expected in ((8, (gap**8).sum(1) ** (1 / 8)), (math.inf, gap.amax(1))):
        given = columns.clone().requires_grad_()
        found = distance(given, centres, p, kept)
        torch.testing.assert_close(found, expected)
        found.sum().backward()
        assert not given.grad[~kept].any()
        assert given.grad.isfinite().all()
    torch.testing.assert_close(distances_in_parts(columns, centres, 8, kept.double()), (gap**8).sum(1) ** (1 / 8))


def test_the_gradient_of_what_is_kept():
    columns, centres = doubles(5, 70).requires_grad_(), doubles(3, 5, seed=1).requires_grad_()
    kept = torch.rand(5, 70, generator=generator()) >= 0.3
    assert torch.autograd.gradcheck(lambda x, a: distance(x, a, 8, kept), (columns, centres))
    y, given = distance(columns, centres, 8, kept), doubles(3, 70, seed=2)
    found = torch.autograd.grad(y, (columns, centres), given)
    expected = gradients_in_parts(columns, centres, 8, kept.double(), y, given)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other.detach())


@pytest.mark.parametrize(("name", "variant"), BY_MARGIN)
def test_the_constant_is_1_in_pixels_and_no_change_moves_a_score_further(loaded, name, variant):
    plugin, params, _ = loaded(name, variant)
    network = in_evaluation(plugin, params)
    assert CENTRING * lipschitz_constant(network) == 1
    x = torch.rand(32, 1, 12, 10, generator=generator(1), dtype=torch.float64)
    for size in (1e-3, 0.1):
        change = size * doubles(*x.shape, seed=2).sign()
        moved = (network(2 * (x + change) - 1) - network(2 * x - 1)).abs().amax()
        assert 0 < moved <= size + 1e-12


def test_images_too_small_for_whole_windows(loaded):
    for name in ("linf-distance", "sortnet", "ibp-cnn"):
        plugin, params, _ = loaded(name, "radius-tenth" if name == "ibp-cnn" else "convolutional")
        network = built(plugin, params, Task("classification", (2, 5, 6), 3)).eval()
        assert network(torch.randn(4, 2, 5, 6)).shape == (4, 3)


@pytest.mark.parametrize("unit", [0.0, torch.finfo(torch.float64).eps])
def test_interval_bounds_hold_the_scores_of_all_images_in_the_box(loaded, unit):
    plugin, params, _ = loaded("ibp-cnn", "radius-tenth")
    network = in_evaluation(plugin, params)
    x = torch.rand(8, 1, 12, 10, generator=generator(1), dtype=torch.float64)
    truth, slack = torch.arange(8) % 3, 1e-12 if unit == 0 else 0.0
    bounds = network.greatest_gains(x, truth, 0.05, unit)
    reached = torch.full_like(bounds, -torch.inf)
    for seed in range(30):
        change = 2 * torch.rand(x.shape, generator=generator(seed), dtype=torch.float64) - 1
        for within in (change, change.sign()):
            scores = network(2 * (x + 0.05 * within).clamp(0, 1) - 1)
            reached = reached.maximum(scores - scores.gather(1, truth[:, None]))
    assert (reached <= bounds + slack).all()
    assert (
        network.greatest_gains(x, truth, 0.0, unit)
        - (network(2 * x - 1) - network(2 * x - 1).gather(1, truth[:, None]))
    ).abs().amax() < 1e-12


def test_bounds_of_one_affine_layer_are_reached_at_corners(loaded):
    bounds = loaded("ibp-cnn", "radius-tenth")[2]("bounds")
    layer = torch.nn.Linear(4, 3).double()
    centre, radius = doubles(1, 4), doubles(1, 4, seed=1).abs()
    corners = torch.cat([centre + radius * torch.tensor(signs) for signs in itertools.product((-1.0, 1.0), repeat=4)])
    box = bounds.through(layer, bounds.Box(centre, radius))
    torch.testing.assert_close(box.centre + box.radius, layer(corners).amax(0, keepdim=True))
    torch.testing.assert_close(box.centre - box.radius, layer(corners).amin(0, keepdim=True))


@pytest.mark.parametrize(("name", "variant"), ALL)
def test_training_moves_all_parameters_and_certificates_are_of_right_predictions(loaded, tmp_path, name, variant):
    plugin, params, _ = loaded(name, variant)
    before = built(plugin, params).state_dict()
    network, _ = trained(plugin, params, tmp_path)
    unused = {"log_scale"} if params.get("loss") == "hinge" else set()
    still = {key for key, value in network.named_parameters() if torch.equal(value, before[key])}
    assert still == unused
    network.double().eval()
    x, labels = torch.from_numpy(toy().images).double(), torch.from_numpy(toy().labels)
    x = torch.cat([x, torch.rand(40, 1, 12, 10, generator=generator(), dtype=torch.float64)])
    labels = torch.cat([labels, torch.arange(40) % 3])
    right = network(2 * x - 1).argmax(1) == labels
    before = right
    for epsilon in (0.0, 0.01, 0.05, 0.1, 0.3):
        proven = plugin.certified(network, x, labels, epsilon)
        assert not (proven & ~before).any()
        before = proven
    assert plugin.certified(network, x, labels, 1e-6).any()
    assert not plugin.certified(network, x, labels, 1.0).any()


def test_p_rises_from_8_to_1000_and_ends_infinite():
    values = [p_at(step / 100, 0.1, 0.9) for step in range(100)]
    assert values == sorted(values)
    assert (values[10], values[50], values[89], values[90]) == (8, 89, 941, math.inf)


@pytest.mark.parametrize(("name", "variant"), ALL)
def test_the_last_weights_are_kept(loaded, tmp_path, name, variant):
    plugin, params, _ = loaded(name, variant)
    _, run = trained(plugin, params, tmp_path, epochs=3)
    assert run.best_epoch == 3
