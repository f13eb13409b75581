"""methods/ignn: the equilibrium, its gradient on directed and symmetric graphs, and what keeps it well-posed."""

import importlib
import warnings

import numpy as np
import pytest
import torch

import varmorph.torch
from morphobench.contract import Task
from morphobench.plugins.discovery import discover_methods
from morphobench.plugins.loading import load_method
from varmorph.convergence import ConvergenceWarning

HIDDEN, FEATURES = 4, 3
TIGHT = {"tolerance": 1e-15, "max_steps": 3000}


def directed_chain(length):
    return torch.stack((torch.arange(length - 1), torch.arange(1, length)))


def random_edges(nodes, count, seed):
    pairs = np.random.default_rng(seed).permutation(nodes * (nodes - 1))[:count]
    source, place = pairs // (nodes - 1), pairs % (nodes - 1)
    return torch.tensor(np.stack((source, place + (place >= source))))


def symmetric(edges):
    return torch.cat((edges, edges.flip(0)), 1).unique(dim=1)


GRAPHS = {
    "directed chain": (7, directed_chain(7)),
    "directed": (8, random_edges(8, 20, 1)),
    "symmetric": (8, symmetric(random_edges(8, 9, 2))),
}


@pytest.fixture(scope="module")
def plugin(project):
    info = discover_methods(project.methods)["ignn"]
    load_method(info, "projection")
    name = "morphobench_method_ignn"
    return {
        part: importlib.import_module(f"{name}.{part}") for part in ("adjacency", "implicit_graph", "well_posedness")
    }


def network(project, variant="projection", **overrides):
    """Return the float64 network of a variant, with tight tolerances and no dropout."""
    method = load_method(discover_methods(project.methods)["ignn"], variant)
    torch.manual_seed(0)
    task = Task("node_classification", (FEATURES,), 2, ("a", "b"))
    params = {**method.params, **TIGHT, "dropout": 0.0, "hidden": HIDDEN, **overrides}
    return method.module.build(task, params).double()


def features(nodes, seed=3):
    return torch.tensor(np.random.default_rng(seed).standard_normal((nodes, FEATURES)))


def dense(graph):
    return graph.matrix.to_dense()


@pytest.mark.parametrize("name", GRAPHS)
def test_the_states_are_an_equilibrium(project, name):
    nodes, edges = GRAPHS[name]
    layer, x = network(project).layer, features(nodes)
    state = layer(x, edges).T
    a, b = dense(layer.graph), layer.omega @ x.T
    assert torch.allclose(state, (layer.weight @ state @ a + b).relu(), rtol=0, atol=1e-14)


def test_an_edge_carries_from_its_source_to_its_target(project):
    layer, edges = network(project).layer, directed_chain(5)
    torch.nn.init.uniform_(layer.weight, 0.1, 0.2)
    torch.nn.init.uniform_(layer.omega, 0.1, 0.2)
    x = torch.zeros(5, FEATURES, dtype=torch.float64)
    x[2] = 1
    assert (layer(x, edges) > 0).any(1).tolist() == [False, False, True, True, True]


@pytest.mark.parametrize("variant", ["projection", "parametrisation", "gathered"])
@pytest.mark.parametrize("name", GRAPHS)
def test_gradients_agree_with_finite_differences(project, name, variant):
    nodes, edges = GRAPHS[name]
    net, x = network(project, variant, normalise=False), features(nodes).requires_grad_()
    # Rows inside the ball for the projection, which differences would cross; outside for the parametrisation.
    with torch.no_grad():
        net.layer.weight.mul_(2.0 if variant == "parametrisation" else 0.5)
    target = torch.tensor(np.random.default_rng(4).standard_normal((nodes, 2)))

    def loss():
        return (net(x, edges) * target).sum()

    groups = {"W": net.layer.weight, "Omega": net.layer.omega, "U": x}
    gradients = torch.autograd.grad(loss(), list(groups.values()))
    assert away_from_kinks(net.layer, x, edges)
    for (group, value), gradient in zip(groups.items(), gradients, strict=True):
        expected = central_differences(loss, value)
        assert (gradient - expected).norm() <= 1e-6 * expected.norm(), group


def away_from_kinks(layer, x, edges):
    with torch.no_grad():
        y = layer(x, edges)
        inputs = x @ layer.omega.T
        inputs = inputs + layer.graph.gather(inputs) if layer.gathered else inputs
        before = layer.graph.gather(y) @ layer.well_posed_weight().T + inputs
    return bool((before.abs() > 1e-3).all())


def central_differences(loss, value, step=1e-6):
    result = torch.zeros_like(value)
    with torch.no_grad():
        for place in np.ndindex(*value.shape):
            kept = value[place].item()
            value[place] = kept + step
            above = loss()
            value[place] = kept - step
            result[place] = (above - loss()) / (2 * step)
            value[place] = kept
    return result


def weight_gradients(project, name):
    """Return dL/dW of the plugin, and G A X^T as the public program of the authors has it, from dense matrices."""
    nodes, edges = GRAPHS[name]
    layer, x = network(project).layer, features(nodes)
    pull = torch.tensor(np.random.default_rng(4).standard_normal((HIDDEN, nodes)))
    state = layer(x, edges).T
    (found,) = torch.autograd.grad((state * pull).sum(), layer.weight)
    with torch.no_grad():
        a, w, slope = dense(layer.graph), layer.weight, (state > 0).double()
        system = torch.eye(HIDDEN * nodes) - slope.reshape(-1, 1) * torch.kron(w.T.contiguous(), a)
        g = torch.linalg.solve(system, (slope * pull).reshape(-1)).reshape(HIDDEN, nodes)
        return found, g @ (state @ a).T, g @ a @ state.T


@pytest.mark.parametrize("name", GRAPHS)
def test_the_gradient_of_w_is_that_of_the_adjoint_equation(project, name):
    found, ours, _ = weight_gradients(project, name)
    assert torch.allclose(found, ours, rtol=1e-12, atol=1e-12)


def test_the_formula_of_the_public_program_holds_on_symmetric_graphs_alone(project):
    found, _, published = weight_gradients(project, "symmetric")
    assert torch.allclose(found, published, rtol=1e-12, atol=1e-12)
    found, _, published = weight_gradients(project, "directed chain")
    assert (found - published).norm() > 0.3 * found.norm()


def test_the_matrix_of_a_directed_chain_is_that_of_zeros_and_ones(plugin):
    graph = plugin["adjacency"].Adjacency(directed_chain(4), 4, torch.zeros(()))
    assert torch.equal(dense(graph), torch.diag(torch.ones(3), 1))


def test_the_matrix_of_a_symmetric_graph_is_divided_by_the_roots_of_both_degrees(plugin):
    nodes, edges = GRAPHS["symmetric"]
    zeros = torch.zeros(nodes, nodes, dtype=torch.float64)
    plain = zeros.index_put((edges[0], edges[1]), torch.ones(edges.shape[1], dtype=torch.float64))
    scale = plain.sum(0).clamp(min=1).rsqrt()
    graph = plugin["adjacency"].Adjacency(edges, nodes, zeros)
    assert torch.allclose(dense(graph), scale[:, None] * plain * scale)


@pytest.mark.parametrize("seed", range(5))
def test_the_perron_frobenius_value_is_bounded_tightly_from_above(plugin, seed):
    graph = plugin["adjacency"].Adjacency(random_edges(9, 24, seed), 9, torch.zeros((), dtype=torch.float64))
    exact = float(torch.linalg.eigvals(dense(graph)).abs().max())
    assert 0 <= plugin["adjacency"].perron_frobenius(graph) - exact <= 1e-3


def test_a_graph_without_cycles_counts_as_1_and_one_with_a_cycle_does_not(plugin):
    adjacency, like = plugin["adjacency"], torch.zeros((), dtype=torch.float64)
    chain = directed_chain(6)
    assert adjacency.perron_frobenius(adjacency.Adjacency(chain, 6, like)) == 1.0
    bent = torch.cat((chain, torch.tensor([[2], [0]])), 1)  # a cycle of three nodes with a tail
    value = adjacency.perron_frobenius(adjacency.Adjacency(bent, 6, like))
    assert 0.5 < value < 1


def test_a_graph_without_edges_leaves_every_node_to_itself(project):
    net, x = network(project), features(3)
    layer = net.layer
    assert torch.equal(layer(x, torch.zeros(2, 0, dtype=torch.int64)), (x @ layer.omega.T).relu())


def test_the_projection_is_the_nearest_matrix(plugin):
    rng = np.random.default_rng(0)
    weight = torch.tensor(rng.standard_normal((6, 5)))
    nearest = plugin["well_posedness"].project_rows(weight, 0.7)
    assert nearest.abs().sum(1).max() <= 0.7 + 1e-12
    for _ in range(50):  # the angle to every other matrix of the ball is obtuse
        other = plugin["well_posedness"].scale_rows(torch.tensor(rng.standard_normal((6, 5))), 0.7)
        assert (((weight - nearest) * (other - nearest)).sum(1) <= 1e-12).all()


@pytest.mark.parametrize("variant", ["projection", "parametrisation", "gathered"])
@pytest.mark.parametrize("name", GRAPHS)
def test_training_steps_leave_the_layer_well_posed_and_its_iterations_bounded(project, name, variant):
    nodes, edges = GRAPHS[name]
    net, x = network(project, variant, tolerance=1e-6, max_steps=150), features(nodes)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.1)
    labels = torch.arange(nodes) % 2
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        for _ in range(20):
            net.train()
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(net(x, edges), labels).backward()
            optimiser.step()
            net.eval()
            net(x, edges)
            exact = float(torch.linalg.eigvals(dense(net.layer.graph)).abs().max())
            with torch.no_grad():
                assert float(net.layer.well_posed_weight().abs().sum(1).max()) * exact <= 0.9 + 1e-9
    assert net.layer.convergence.forward.converged


def test_evaluation_changes_no_weight(project):
    net = network(project).eval()
    with torch.no_grad():
        net.layer.weight.fill_(1.0)
    net(features(7), directed_chain(7))
    assert (net.layer.weight == 1).all()


def test_a_state_that_does_not_settle_is_reported(project):
    nodes, edges = GRAPHS["symmetric"]
    net = network(project, max_steps=2)
    with pytest.warns(ConvergenceWarning, match="the equilibrium moved by"):
        net(features(nodes), edges)
    assert not net.layer.convergence.forward.converged


def test_disconnected_graphs_are_solved_as_if_alone(project):
    (n, first), (m, second) = GRAPHS["symmetric"], (6, symmetric(directed_chain(6)))
    net, x = network(project).eval(), features(n + m)
    together = net(x, torch.cat((first, second + n), 1))
    alone = torch.cat((net(x[:n], first), net(x[n:], second)))
    assert torch.allclose(together, alone, rtol=0, atol=1e-12)


def test_scores_follow_a_new_order_of_the_nodes(project):
    nodes, edges = GRAPHS["directed"]
    net, x = network(project).eval(), features(nodes)
    order = torch.tensor(np.random.default_rng(5).permutation(nodes))
    moved = net(x[order], order.argsort()[edges])
    assert torch.allclose(moved, net(x, edges)[order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", GRAPHS)
def test_states_and_gradients_are_those_of_the_library_for_any_map(project, name):
    nodes, edges = GRAPHS[name]
    layer, x = network(project).layer, features(nodes).requires_grad_()
    pull = torch.tensor(np.random.default_rng(4).standard_normal((nodes, HIDDEN)))
    groups = (layer.weight, layer.omega, x)
    ours = layer(x, edges)
    gradients = torch.autograd.grad((ours * pull).sum(), groups)
    gather = dense(layer.graph).T
    solution = varmorph.torch.equilibrium(
        lambda y: (gather @ y @ layer.weight.T + x @ layer.omega.T).relu(),
        torch.zeros_like(ours),
        solver=varmorph.torch.FixedPoint(tolerance=1e-13, max_steps=2000),
        adjoint=varmorph.torch.Implicit(tolerance=1e-13),
        batched=False,
    )
    assert torch.allclose(ours, solution.value, rtol=0, atol=1e-10)
    for found, expected in zip(gradients, torch.autograd.grad((solution.value * pull).sum(), groups), strict=True):
        assert (found - expected).norm() <= 1e-8 * expected.norm()
