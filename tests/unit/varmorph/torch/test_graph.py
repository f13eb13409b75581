"""Graph operators: max-plus against the specification, ties, nodes without edges, and what wrong input is told."""

import numpy as np
import pytest
import torch
from coupled_instances import drawn

import varmorph.torch
from varmorph import reference
from varmorph.torch import (
    graph_dilation,
    graph_erosion,
    joint_graph_opening,
    regularised_graph_dilation,
    variational_graph_dilation,
)

EXACT = ["graph_dilation", "graph_erosion", "graph_opening", "graph_closing"]


def random_graph(seed, nodes=8, count=14):
    """Edges with loops and repetitions, biases with one edge left out; the last node has no edge."""
    rng = np.random.default_rng(seed)
    edges = torch.from_numpy(rng.integers(0, nodes - 1, (2, count)))
    bias = drawn(seed, count, 3)
    bias[0] = -torch.inf
    return drawn(seed + 1, 2, nodes, 3), edges, bias


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", EXACT)
def test_max_plus_operators_are_those_of_the_specification(name, seed):
    x, edges, bias = random_graph(seed)
    for b in (None, 0.3, bias[:, 0].contiguous(), bias):
        for self_edge in (True, False):
            found = getattr(varmorph.torch, name)(x, edges, b, self_edge=self_edge)
            array = b.numpy() if isinstance(b, torch.Tensor) else b
            expected = getattr(reference, name)(x.numpy(), edges.numpy(), array, self_edge=self_edge)
            np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("name", EXACT)
def test_gradients_of_max_plus_operators(name):
    x, edges, bias = random_graph(3)
    bias = bias.nan_to_num(neginf=-0.5)
    leaves = (x.requires_grad_(), bias.requires_grad_())
    assert torch.autograd.gradcheck(lambda x, b: getattr(varmorph.torch, name)(x, edges, b), leaves)


def test_the_first_edge_of_the_list_takes_a_tie():
    x = torch.zeros(3, 1, requires_grad=True)
    edges = torch.tensor([[2, 0, 1], [1, 1, 1]])
    (by_dilation,) = torch.autograd.grad(graph_dilation(x, edges)[1].sum(), x)
    assert by_dilation.flatten().tolist() == [0, 0, 1]
    # A node's edge to itself comes last.
    (by_erosion,) = torch.autograd.grad(graph_erosion(x, edges)[2].sum(), x)
    assert by_erosion.flatten().tolist() == [0, 1, 0]


def test_a_node_that_no_edge_leads_to():
    x, edges = torch.ones(2, 1, requires_grad=True), torch.tensor([[0], [1]])
    y = graph_dilation(x, edges, self_edge=False)
    assert y.flatten().tolist() == [-torch.inf, 1]
    assert torch.autograd.grad(y[1].sum(), x)[0].flatten().tolist() == [1, 0]
    assert graph_erosion(x, edges, self_edge=False).flatten().tolist() == [1, torch.inf]
    value = variational_graph_dilation(x, edges, None, 1.0, self_edge=False)
    assert value[0].isnan().all()
    assert value[1].item() == 1
    none = torch.zeros(2, 0, dtype=torch.long)
    assert graph_dilation(x, none, self_edge=False).isneginf().all()
    graph_dilation(x, none, self_edge=False).sum().backward()
    assert x.grad.flatten().tolist() == [0, 0]
    assert variational_graph_dilation(x, none, None, 1.0, self_edge=False).isnan().all()
    assert torch.equal(graph_dilation(x, none), x)


def test_nan_goes_where_edges_lead_and_nowhere_else():
    x, edges = torch.tensor([[torch.nan], [1.0], [2.0]]), torch.tensor([[0, 1], [1, 2]])
    assert graph_dilation(x, edges).isnan().flatten().tolist() == [True, True, False]
    assert variational_graph_dilation(x, edges, None, 1.0).isnan().flatten().tolist() == [True, True, False]


def test_information_travels_along_a_chain_as_far_as_coupling_carries_it():
    chain = torch.arange(40).unfold(0, 2, 1).T
    x = torch.zeros(40, 1, dtype=torch.float64)
    x[0] = 1.0
    reach = []
    for coupling in (0.1, 10.0, 1000.0):
        value = regularised_graph_dilation(x, chain, None, 0.0, coupling).value
        assert (value.diff(dim=0) <= 1e-12).all()
        reach.append(int((value > 1e-3 * value.max()).sum()))
    assert reach == sorted(reach)
    assert reach[0] < 10
    assert reach[-1] == 40


def test_a_long_list_of_edges_needs_no_dense_matrix():
    nodes = 20_000
    rng = np.random.default_rng(0)
    edges = torch.from_numpy(rng.integers(0, nodes, (2, 4 * nodes)))
    edges[1, : nodes // 2] = 0  # a hub
    x = torch.from_numpy(rng.standard_normal((nodes, 1))).float()
    value = variational_graph_dilation(x, edges, None, 2.0)
    assert (value <= graph_dilation(x, edges) + 1e-5).all()
    assert regularised_graph_dilation(x, edges, None, 2.0, 0.1).certificate.forward.converged.item()


X, EDGES = torch.zeros(4, 2), torch.tensor([[0, 1], [1, 2]])

WRONG = [
    (
        lambda: graph_dilation(X[0], EDGES),
        ValueError,
        r"x must have shape \(nodes, F\) or \(B, nodes, F\).*found \(2,\)",
    ),
    (lambda: graph_dilation(X.long(), EDGES), TypeError, "x must hold floating point numbers"),
    (lambda: graph_dilation(X, EDGES.float()), TypeError, "edges must hold integers, found dtype torch.float32"),
    (lambda: graph_dilation(X, [[0], [1]]), TypeError, "edges must be a torch.Tensor, found list"),
    (lambda: graph_dilation(X, EDGES.T[:1]), ValueError, r"edges must have shape \(2, E\), found \(1, 2\)"),
    (lambda: graph_dilation(X, EDGES + 2), ValueError, "edges must name nodes from 0 to 3, found numbers from 2 to 4"),
    (lambda: graph_erosion(X, EDGES - 1), ValueError, "edges must name nodes from 0 to 3, found numbers from -1 to 1"),
    (
        lambda: graph_dilation(X, EDGES, torch.zeros(3)),
        ValueError,
        r"bias must be a number or have shape \(2,\).*\(3,\)",
    ),
    (lambda: graph_dilation(X, EDGES, torch.inf), ValueError, r"bias must hold finite numbers or -inf"),
    (
        lambda: variational_graph_dilation(X, EDGES, None, 0.0, weight=-1.0),
        ValueError,
        "weight must hold finite numbers >= 0",
    ),
    (
        lambda: regularised_graph_dilation(X, EDGES, None, 0.0, -1.0),
        ValueError,
        r"coupling must be >= 0, found \[-1.0, -1.0\]",
    ),
    (
        lambda: regularised_graph_dilation(X, EDGES, None, 0.0, 1.0, lateral_edges=EDGES + 5),
        ValueError,
        "lateral_edges must name nodes from 0 to 3",
    ),
    (
        lambda: joint_graph_opening(X, EDGES, None, (-1.0, 1.0), 0.0),
        ValueError,
        r"eta must be positive, found \[0.0, 0.0\]",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), WRONG, ids=[message[:40] for _, _, message in WRONG])
def test_wrong_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
