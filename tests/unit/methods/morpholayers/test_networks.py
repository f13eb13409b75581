"""The networks of methods/morpholayers."""

import numpy as np
import pytest
import torch

from morphobench.contract import InvalidPlugin, Task
from morphobench.plugins.discovery import discover_methods
from morphobench.plugins.loading import load_method
from morphobench.training.torch.learner import count_parameters

PARAMS = {"kernel_size": 3, "width": 4, "blocks": [1], "initialiser": "zeros"}


def task(*shape, kind="classification", outputs=4):
    return Task(kind, shape or (1, 12, 12), outputs)


@pytest.fixture
def build(plugin):
    return lambda kind, where=None, **params: plugin("method").build(
        where or task(), {**PARAMS, "kind": kind, **params}
    )


def test_the_h_maxima_block_has_the_published_number_of_parameters(plugin, build):
    assert count_parameters(plugin("networks").HMaximaBlock()) == 231
    assert count_parameters(build("h-maxima")) - count_parameters(build("classifier")) == 231


def test_the_h_maxima_block_cuts_each_channel_by_a_height_of_its_own(plugin):
    torch.manual_seed(0)
    block, x = plugin("networks").HMaximaBlock(), torch.rand(2, 3, 10, 10)
    heights = block.height(x)
    assert heights.shape == (2, 3, 1, 1)
    assert 0 < heights.min() < heights.max() < 1
    torch.testing.assert_close(block(x), plugin("geodesic").h_maxima(x, heights))
    torch.testing.assert_close(block(x)[1:, :1], block(x[1:, :1]))
    block(x).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in block.parameters())


def test_the_invariant_network_ignores_added_constants(build):
    torch.manual_seed(0)
    network, x = build("invariant").double().eval(), torch.rand(2, 1, 12, 12, dtype=torch.float64)
    torch.testing.assert_close(network(x), network(x + 0.3))


def test_dilations_start_as_max_pooling(build):
    torch.manual_seed(0)
    pooled, plain = build("pooling").eval(), build("classifier").eval()
    plain.load_state_dict({name: value for name, value in pooled.state_dict().items() if "kernel" not in name})
    x = torch.rand(2, 1, 12, 12)
    torch.testing.assert_close(pooled(x), plain(x))


def test_the_gradient_network_keeps_its_functions_on_a_disk(plugin, build):
    torch.manual_seed(0)
    network = build("gradient")
    optimiser = torch.optim.SGD(network.parameters(), lr=5.0)
    network(torch.rand(8, 1, 12, 12)).square().sum().backward()
    optimiser.step()
    (bias,) = plugin("method").describe(network).values()
    corners = bias[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert bias.shape == (9, 5, 5)
    assert (corners == -1).all()
    assert len(np.unique(bias)) > 2


@pytest.mark.parametrize("kind", ["gradient", "pooling", "invariant", "lenet", "classifier", "h-maxima"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 28, 28)])
def test_networks_fit_small_and_coloured_images(build, kind, shape):
    network = build(kind, task(*shape)).eval()
    assert network(torch.rand(2, *shape)).shape == (2, 4)


def test_wrong_parameters_and_small_images_are_refused(build):
    with pytest.raises(InvalidPlugin, match="key 'kind': found 'median', expected depthwise, sum-merged"):
        build("median")
    with pytest.raises(InvalidPlugin, match="key 'initialiser': found 'ones', expected zeros"):
        build("depthwise", initialiser="ones")
    with pytest.raises(InvalidPlugin, match="at least 8x8 pixels, found 4x4"):
        build("pooling", task(1, 4, 4))


def test_networks_are_for_classification_and_operators_for_all(project):
    info = discover_methods(project.methods)["morpholayers"]
    assert "segmentation" in info.tasks_of("depthwise")
    assert "segmentation" not in info.tasks_of("h-maxima")
    with pytest.raises(InvalidPlugin, match="does not do segmentation; it does classification"):
        load_method(info, "h-maxima").build(task(kind="segmentation"))
