"""methods/variational-graph: gradients through the networks, how far an operation carries, laws of networks on graphs."""

import numpy as np
import pytest
import torch

from morphobench.contract import InvalidPlugin, Task
from morphobench.plugins.discovery import discover_methods
from morphobench.plugins.loading import load_method

FEATURES = 3
KINDS = ["regularised", "joint", "dilation", "opening", "max-plus"]
COUPLED = ["regularised", "joint"]


def directed_chain(length, copies=1):
    chain = torch.stack((torch.arange(length - 1), torch.arange(1, length)))
    return torch.cat([chain + k * length for k in range(copies)], 1)


DIRECTED = torch.tensor([[0, 1, 2, 3, 0, 4, 5], [1, 2, 0, 1, 4, 3, 0]])
GRAPHS = {"directed": DIRECTED, "symmetric": torch.cat((DIRECTED, DIRECTED.flip(0)), 1)}
NODES = 6


def network(project, variant, **overrides):
    """Return the float64 network of a variant without dropout, its parameters moved from where they start."""
    method = load_method(discover_methods(project.methods)["variational-graph"], variant)
    generator = torch.manual_seed(0)
    task = Task("node_classification", (FEATURES,), 2, ("a", "b"))
    params = {**method.params, "dropout": 0.0, "hidden": 4, "blocks": 1, "tolerance": 1e-12, "initial_level": 1.0}
    net = method.module.build(task, {**params, **overrides}).double()
    with torch.no_grad():
        for value in net.parameters():
            value.add_(0.2 * torch.randn(value.shape, generator=generator, dtype=value.dtype))
    return net


def features(nodes=NODES, seed=3):
    return torch.tensor(np.random.default_rng(seed).standard_normal((nodes, FEATURES)))


def certificates(net):
    halves = [half for block in net.blocks for half in block.operations.children()]
    return [certificate for half in halves for certificate in half.certificates]


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("variant", KINDS)
def test_gradients_agree_with_finite_differences(project, variant, graph):
    # Not normalised: with one channel alive, which is no rare thing, the scores would be constant.
    net, rng = network(project, variant, normalise=False, hidden=6), np.random.default_rng(4)
    x = features().requires_grad_()
    target = torch.tensor(rng.standard_normal((NODES, 2)))

    def loss():
        return (net(x, GRAPHS[graph]) * target).sum()

    groups = {"x": x, **dict(net.named_parameters())}
    gradients = torch.autograd.grad(loss(), list(groups.values()))
    for (name, value), gradient in zip(groups.items(), gradients, strict=True):
        direction = torch.tensor(rng.standard_normal(value.shape))
        direction /= direction.norm()
        expected = central_difference(loss, value, direction)
        assert abs(float((gradient * direction).sum()) - expected) <= 1e-6 * float(gradient.norm()), name


def central_difference(loss, value, direction, step=1e-5):
    with torch.no_grad():
        kept = value.clone()
        ends = [loss() for sign in (1, -1) if value.copy_(kept + sign * step * direction) is value]
        value.copy_(kept)
    return float(ends[0] - ends[1]) / (2 * step)


@pytest.mark.parametrize("variant", COUPLED)
def test_both_solves_of_coupled_operations_are_certified(project, variant):
    net = network(project, variant, blocks=2)
    net(features(), DIRECTED).square().sum().backward()
    found = certificates(net)
    assert len(found) == 4
    assert all(bool(certificate.forward.converged) and bool(certificate.backward.converged) for certificate in found)


def changed_nodes(net, edges, nodes):
    """Return which nodes' channels after the blocks depend on the features of node 0."""
    x = features(nodes).requires_grad_()
    y = net.stem(x)
    for block in net.blocks:
        y = block.operations(y, edges)  # without the mixing, whose ReLU may hide a node
    gradients = [torch.autograd.grad(node.sum(), x, retain_graph=True)[0][0] for node in y]
    return [bool((gradient.abs() > 1e-12).any()) for gradient in gradients]


def test_a_separable_dilation_carries_one_edge_in_its_direction(project):
    seen = changed_nodes(network(project, "dilation"), directed_chain(6).flip(1), 6)
    assert seen[:2] == [True, True]
    assert not any(seen[2:])


@pytest.mark.parametrize("variant", COUPLED)
def test_a_coupled_operation_carries_along_a_whole_chain(project, variant):
    assert all(changed_nodes(network(project, variant), directed_chain(6), 6))


def test_an_edge_lets_its_target_see_its_source(project):
    operations = network(project, "max-plus").blocks[0].operations
    with torch.no_grad():
        operations.first.bias.zero_()
    x = torch.zeros(3, 4, dtype=torch.float64)
    x[1] = 1.0
    assert operations(x, directed_chain(3))[:, 0].tolist() == [0, 1, 1]


@pytest.mark.parametrize("variant", KINDS)
def test_scores_follow_a_new_order_of_the_nodes(project, variant):
    net, x = network(project, variant), features()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    moved = net(x[order], order.argsort()[DIRECTED])
    assert torch.allclose(moved, net(x, DIRECTED)[order], rtol=0, atol=1e-9)


@pytest.mark.parametrize("variant", KINDS)
def test_disconnected_graphs_are_scored_as_if_alone(project, variant):
    net, x, chain = network(project, variant), features(NODES + 4), directed_chain(4)
    together = net(x, torch.cat((DIRECTED, chain + NODES), 1))
    alone = torch.cat((net(x[:NODES], DIRECTED), net(x[NODES:], chain)))
    assert torch.allclose(together, alone, rtol=0, atol=1e-9)


def test_a_coupled_network_learns_chains_of_five_nodes_from_labels_of_some(project):
    length, copies = 5, 8
    classes = torch.arange(copies).remainder(2).repeat_interleave(length)
    x = torch.zeros(length * copies, FEATURES, dtype=torch.float64)
    x[::length, 0], x[::length, 1] = (classes[::length] == 0).double(), (classes[::length] == 1).double()
    edges, known = directed_chain(length, copies), torch.arange(0, length * copies, 3)
    net = network(project, "regularised", tolerance=1e-6, hidden=6, initial_level=4.0)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.03)
    for _ in range(40):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(x, edges)[known], classes[known]).backward()
        optimiser.step()
    assert (net(x, edges).argmax(1) == classes).all()


def test_an_unknown_kind_is_refused(project):
    with pytest.raises(InvalidPlugin, match="key 'kind': found 'median', expected dilation, regularised"):
        network(project, "dilation", kind="median")
