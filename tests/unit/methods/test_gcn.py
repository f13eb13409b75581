"""methods/gcn: the propagation of Kipf and Welling, and its weight decay."""

import numpy as np
import pytest
import torch

from morphobench.contract import Task
from morphobench.plugins.discovery import discover_methods
from morphobench.plugins.loading import load_method

DIRECTED = torch.tensor([[0, 1, 2, 0], [1, 2, 0, 3]])
NODES = 4


@pytest.fixture
def gcn(project):
    return load_method(discover_methods(project.methods)["gcn"], "default")


def dense(edges, weights):
    matrix = np.zeros((NODES, NODES))
    matrix[edges[1], edges[0]] = weights
    return matrix


@pytest.mark.parametrize("both", [False, True])
def test_symmetric_propagation_is_that_of_the_paper(gcn, both):
    """D^-1/2 (A + I) D^-1/2, whether the edges are given in one direction or in both."""
    edges = torch.cat([DIRECTED, DIRECTED.flip(0)], dim=1) if both else DIRECTED
    a = np.eye(NODES)
    a[DIRECTED[0], DIRECTED[1]] = a[DIRECTED[1], DIRECTED[0]] = 1
    scale = a.sum(axis=1) ** -0.5
    found = dense(*gcn.module.propagation(edges, NODES, symmetric=True))
    np.testing.assert_allclose(found, scale[:, None] * a * scale, rtol=1e-6)


def test_directed_propagation_goes_along_the_edges_alone(gcn):
    a = np.eye(NODES)
    a[DIRECTED[1], DIRECTED[0]] = 1  # target, source
    expected = a / np.sqrt(np.outer(a.sum(axis=1), a.sum(axis=0)))
    edges, weights = gcn.module.propagation(DIRECTED, NODES, symmetric=False)
    np.testing.assert_allclose(dense(edges, weights), expected, rtol=1e-6)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((NODES, 3)))
    np.testing.assert_allclose(gcn.module.propagate(x, edges, weights), expected @ x.numpy(), rtol=1e-6)


def test_weight_decay_adds_to_the_gradient_of_the_first_weights_alone(gcn):
    task, x = Task("node_classification", (3,), 2, ("a", "b")), torch.randn(NODES, 3, generator=torch.manual_seed(0))

    def gradients(decay):
        torch.manual_seed(1)
        net = gcn.module.build(task, {**gcn.params, "weight_decay": decay, "dropout": 0.0})
        net(x, DIRECTED).square().sum().backward()
        return net, {name: value.grad for name, value in net.named_parameters()}

    net, with_decay = gradients(0.5)
    _, without = gradients(0.0)
    assert torch.allclose(with_decay["first.weight"], without["first.weight"] + 0.5 * net.first.weight)
    assert all(torch.equal(with_decay[name], without[name]) for name in without if name != "first.weight")
