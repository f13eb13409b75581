"""The backbones of both frameworks: the same layers, names, first weights, outputs, statistics and gradients."""

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="jax is not installed")
torch = pytest.importorskip("torch", reason="torch is not installed")
eqx = pytest.importorskip("equinox", reason="equinox is not installed")
pytest.importorskip("optax", reason="optax is not installed")

from morphobench.contract import Task  # noqa: E402
from morphobench.training.jax import backbones as jax_backbones  # noqa: E402
from morphobench.training.jax import layers as jax_layers  # noqa: E402
from morphobench.training.jax import learner as jax_training  # noqa: E402
from morphobench.training.jax.initial_weights import InitialWeights  # noqa: E402
from morphobench.training.torch import backbones  # noqa: E402

TASKS = {
    "classification": Task("classification", (2, 13, 9), 3),
    "segmentation": Task("segmentation", (1, 13, 9), 3),
}
PARAMS = {"kernel_size": 3, "width": 4, "blocks": (1, 2)}
SEED = 3


def depthwise(channels, kernel_size, params):
    return torch.nn.Conv2d(channels, channels, kernel_size, padding="same", groups=channels)


def jax_depthwise(channels, kernel_size, params):
    return jax_layers.Conv2d(channels, channels, kernel_size, groups=channels, stream=params["stream"])


def pair(kind):
    """Return the backbone of a task in both frameworks, each from the seed."""
    torch.manual_seed(SEED)
    model = backbones.build(TASKS[kind], depthwise, PARAMS)
    given = {**PARAMS, "stream": InitialWeights(SEED)}
    return model, jax_training.Network(jax_backbones.build(TASKS[kind], jax_depthwise, given), TASKS[kind])


def images(kind, count=5):
    return np.random.default_rng(1).standard_normal((count, *TASKS[kind].input_shape)).astype(np.float32)


def apply(network, x, inference):
    """Return scores and the next state."""
    compiled = jax.jit(lambda weights, state, x: network.apply(weights, state, x, inference))
    return compiled(network.weights, network.state, x)


@pytest.fixture(params=TASKS)
def kind(request):
    return request.param


def test_weights_have_the_same_names_and_start_equal_bit_by_bit(kind):
    model, network = pair(kind)
    expected, found = model.state_dict(), network.named_arrays()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value.numpy(), err_msg=name)


def test_as_many_parameters_are_counted(kind):
    from morphobench.training.torch import learner as training

    model, network = pair(kind)
    assert jax_training.count_parameters(network) == training.count_parameters(model)


def test_training_mode_gives_the_same_scores_and_running_statistics(kind):
    model, network = pair(kind)
    x = images(kind)
    expected = model.train()(torch.from_numpy(x)).detach().numpy()
    scores, network.state = apply(network, x, inference=False)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
    for name, value in model.named_buffers():
        np.testing.assert_allclose(network.named_arrays()[name], value.numpy(), rtol=1e-5, atol=1e-6, err_msg=name)


def test_evaluation_mode_gives_the_same_scores_and_changes_no_statistics(kind):
    model, network = pair(kind)
    x = images(kind)
    model.train()(torch.from_numpy(x))
    _, network.state = apply(network, x, inference=False)
    before = network.named_arrays()
    scores, network.state = apply(network, 2 * x, inference=True)
    expected = model.eval()(torch.from_numpy(2 * x)).detach().numpy()
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
    assert all(np.array_equal(before[name], value) for name, value in network.named_arrays().items())


def test_gradients_are_the_same(kind):
    model, network = pair(kind)
    x = images(kind)
    (model.train()(torch.from_numpy(x)) ** 2).mean().backward()

    def energy(weights, state):
        return (network.apply(weights, state, x, inference=False)[0] ** 2).mean()

    network.weights = jax.jit(jax.grad(energy))(network.weights, network.state)
    found = network.named_arrays()
    for name, value in model.named_parameters():
        np.testing.assert_allclose(found[name], value.grad.numpy(), rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 1), (2, 3)])
def test_halving_and_doubling_are_the_same(size):
    x = np.random.default_rng(0).standard_normal((2, 3, *size)).astype(np.float32)
    half = backbones.halve(torch.from_numpy(x))
    np.testing.assert_allclose(jax_backbones.halve(x), half.numpy(), rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(jax_backbones.double(half.numpy(), size), backbones.double(half, size).numpy())


@pytest.mark.parametrize(("groups", "side", "bias"), [(1, 1, True), (1, 3, False), (4, 5, True), (2, 3, True)])
def test_convolutions_are_the_same(groups, side, bias):
    torch.manual_seed(SEED)
    theirs = torch.nn.Conv2d(4, 4, side, padding="same", groups=groups, bias=bias)
    ours = jax_layers.Conv2d(4, 4, side, groups=groups, bias=bias, stream=InitialWeights(SEED))
    x = np.random.default_rng(0).standard_normal((2, 4, 7, 6)).astype(np.float32)
    np.testing.assert_allclose(ours(x), theirs(torch.from_numpy(x)).detach(), rtol=1e-4, atol=1e-5)


def test_description_is_the_same():
    from varmorph import jax as varmorph_jax
    from varmorph import torch as varmorph_torch

    task = TASKS["segmentation"]
    model = backbones.build(task, lambda c, k, p: varmorph_torch.VariationalOpening2d(c, k), PARAMS)
    given = {**PARAMS, "stream": InitialWeights(SEED)}
    module = jax_backbones.build(task, lambda c, k, p: varmorph_jax.VariationalOpening2d(c, k), given)
    expected, found = backbones.describe(model), jax_backbones.describe(module)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, err_msg=name)
    convolutions = pair("classification")
    assert jax_backbones.describe(convolutions[1].module).keys() == backbones.describe(convolutions[0]).keys()
