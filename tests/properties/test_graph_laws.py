"""The laws of the operators on graphs: any edges, isolated nodes, loops and repeated edges included."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from padding import pixel_at

from varmorph.torch import (
    Implicit,
    Newton,
    closing,
    dilation,
    erosion,
    graph_closing,
    graph_dilation,
    graph_erosion,
    graph_opening,
    joint_closing,
    joint_graph_closing,
    joint_graph_opening,
    joint_opening,
    opening,
    regularised_dilation,
    regularised_graph_dilation,
    regularised_graph_erosion,
    variational_dilation,
    variational_erosion,
    variational_graph_dilation,
    variational_graph_erosion,
)

EXACTLY = {"solver": Newton(tolerance=1e-12), "adjoint": Implicit(tolerance=1e-12)}
WITH_COUPLING = {
    variational_graph_dilation: regularised_graph_dilation,
    variational_graph_erosion: regularised_graph_erosion,
}
SMALL = 1e-9


def sup(tensor):
    """Greatest absolute value; nodes without a value are NaN, and are left out."""
    return tensor.nan_to_num(nan=0.0).abs().max().item()


def negated(bias):
    """Offsets with the other sign; what is left out stays left out."""
    return torch.where(torch.isneginf(bias), bias, -bias)


def reversed_edges(edges):
    return edges.flip(0)


# --- max-plus -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Graph:
    """Edges between nodes, which may meet anywhere, or nowhere, and integers on them, so that comparisons are exact."""

    seed: int
    nodes: int
    count: int
    features: int
    self_edge: bool

    @cached_property
    def rng(self):
        return np.random.default_rng(self.seed)

    def integers(self, low, high, *shape):
        return torch.from_numpy(self.rng.integers(low, high, shape)).double()

    def tensor(self, *shape):
        return torch.from_numpy(self.rng.standard_normal(shape))

    def positive(self, *shape):
        return self.tensor(*shape).exp()

    def some(self, share, *shape):
        return torch.from_numpy(self.rng.random(shape) < share)

    def pairs(self, count):
        return torch.from_numpy(self.rng.integers(0, self.nodes, (2, count)))

    @cached_property
    def edges(self):
        return self.pairs(self.count)

    @cached_property
    def x(self):
        return self.integers(-3, 4, 2, self.nodes, self.features)

    @cached_property
    def bias(self):
        left_out = self.some(0.2, self.count, self.features)
        return self.integers(-2, 3, self.count, self.features).masked_fill(left_out, -torch.inf)

    def apply(self, operator, x=None, edges=None):
        edges = self.edges if edges is None else edges
        return operator(self.x if x is None else x, edges, self.bias, self_edge=self.self_edge)


graphs = st.builds(
    Graph,
    seed=st.integers(0, 2**32 - 1),
    nodes=st.integers(1, 7),
    count=st.integers(0, 14),
    features=st.integers(1, 2),
    self_edge=st.booleans(),
)


@given(graphs, st.integers(-1, 1))
def test_erosion_and_dilation_are_an_adjunction(graph, slack):
    dilated = graph.apply(graph_dilation)
    # Near the dilation, where either answer is likely; each signal and each feature is a graph of its own.
    least = dilated.where(dilated.isfinite(), -5.0)
    y = least + graph.integers(0, 2, *graph.x.shape) + slack * (graph.integers(0, 4, *graph.x.shape) == 0)
    below = (dilated <= y).all(1)
    above = (graph.x <= graph.apply(graph_erosion, y)).all(1)
    assert torch.equal(below, above)


@given(graphs)
def test_opening_is_anti_extensive_and_closing_extensive(graph):
    assert (graph.apply(graph_opening) <= graph.x).all()
    assert (graph.apply(graph_closing) >= graph.x).all()


@given(graphs)
def test_opening_and_closing_are_idempotent(graph):
    for operator in (graph_opening, graph_closing):
        once = graph.apply(operator)
        assert torch.equal(graph.apply(operator, once), once)


@given(graphs)
def test_the_erosion_is_dual_to_the_dilation_along_the_reversed_edges(graph):
    dual = -graph.apply(graph_dilation, -graph.x, reversed_edges(graph.edges))
    assert torch.equal(graph.apply(graph_erosion), dual)
    dual = -graph.apply(graph_opening, -graph.x, reversed_edges(graph.edges))
    assert torch.equal(graph.apply(graph_closing), dual)


@given(graphs)
def test_the_operators_are_increasing(graph):
    higher = graph.x + graph.integers(0, 3, *graph.x.shape)
    for operator in (graph_dilation, graph_erosion, graph_opening, graph_closing):
        assert (graph.apply(operator, higher) >= graph.apply(operator)).all()


@given(graphs)
def test_dilation_distributes_over_the_supremum_and_erosion_over_the_infimum(graph):
    other = graph.integers(-3, 4, *graph.x.shape)
    for operator, join in ((graph_dilation, torch.maximum), (graph_erosion, torch.minimum)):
        together = graph.apply(operator, join(graph.x, other))
        assert torch.equal(together, join(graph.apply(operator), graph.apply(operator, other)))


@given(graphs)
def test_the_dilation_is_the_greatest_value_over_the_edges_and_its_gradient_goes_to_the_first_that_attains_it(graph):
    assume(graph.count > 0 or graph.self_edge)
    x, bias = graph.x.clone().requires_grad_(), graph.bias.clone().requires_grad_()
    y = graph_dilation(x, graph.edges, bias, self_edge=graph.self_edge)
    sent = graph.integers(1, 5, *y.shape)
    (y.where(y.isfinite(), 0.0) * sent).sum().backward()
    to_x, to_bias, value = torch.zeros_like(x), torch.zeros_like(bias), torch.full_like(y, -torch.inf)
    for b, f in np.ndindex(2, graph.features):
        for node in range(graph.nodes):
            into = [(int(s), e) for e, (s, t) in enumerate(graph.edges.T) if t == node]
            pulls = [(graph.x[b, s, f] + graph.bias[e, f], s, e) for s, e in into]
            pulls += [(graph.x[b, node, f], node, None)] if graph.self_edge else []
            greatest, source, edge = max(pulls, key=lambda pull: pull[0], default=(-torch.inf, None, None))
            value[b, node, f] = greatest
            if greatest > -torch.inf:
                to_x[b, source, f] += sent[b, node, f]
                if edge is not None:
                    to_bias[edge, f] += sent[b, node, f]
    assert torch.equal(y, value)
    assert torch.equal(x.grad, to_x)
    assert torch.equal(bias.grad, to_bias)


@given(graphs)
def test_numbering_the_nodes_otherwise_numbers_the_output_so(graph):
    order = torch.from_numpy(graph.rng.permutation(graph.nodes))
    number = order.argsort()
    for operator in (graph_dilation, graph_erosion, graph_opening, graph_closing):
        assert torch.equal(
            graph.apply(operator, graph.x[:, order], number[graph.edges]), graph.apply(operator)[:, order]
        )


# --- variational ----------------------------------------------------------------------------------------------------


JOINT = (joint_graph_opening, joint_graph_closing)


@dataclass(frozen=True)
class Draw:
    """What a problem is made from."""

    graph: Graph
    penalty: str
    edge_penalty: str
    ridge: float
    lateral: bool

    def smoothing(self, penalty):
        return 0.5 * self.graph.positive(self.graph.features) if penalty == "huber" else None


def draws(penalty=("expectile", "huber")):
    return st.builds(
        Draw,
        graph=graphs,
        penalty=st.sampled_from(penalty),
        edge_penalty=st.sampled_from(("quadratic", "huber")),
        ridge=st.sampled_from((0.0, 0.3)),
        lateral=st.booleans(),
    )


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Arguments of a variational operator; a node that nothing pulls has no value."""

    operator: object
    graph: Graph
    x: torch.Tensor
    edges: torch.Tensor
    bias: torch.Tensor
    weight: torch.Tensor
    level: torch.Tensor
    eta: torch.Tensor | None
    options: dict

    @classmethod
    def of(cls, operator, drawn):
        graph, joint = drawn.graph, operator in JOINT
        shape = (graph.count, graph.features)
        options = {"penalty": drawn.penalty, "smoothing": drawn.smoothing(drawn.penalty), "self_edge": graph.self_edge}
        if operator in WITH_COUPLING.values():
            options["coupling"] = graph.positive(graph.features)
            options["edge_penalty"] = drawn.edge_penalty
            options["edge_smoothing"] = drawn.smoothing(drawn.edge_penalty)
            options["ridge"] = drawn.ridge
            if drawn.lateral:
                options["lateral_edges"] = graph.pairs(graph.nodes)
        problem = cls(
            operator=operator,
            graph=graph,
            x=graph.tensor(graph.nodes, graph.features),
            edges=graph.edges,
            bias=graph.tensor(*shape).masked_fill(graph.some(0.1, *shape), -torch.inf),
            weight=graph.positive(*shape) * ~graph.some(0.1, *shape),
            level=2 * graph.tensor(*(2,) * joint, graph.features),
            eta=graph.positive(graph.features) if joint else None,
            options=options,
        )
        # A problem in which nothing at all is known has no scale, and counts as not converged.
        assume(graph.self_edge or options.get("ridge", 0.0) > 0 or bool(problem.present.any(0).all()))
        return problem

    @property
    def present(self):
        return (self.weight > 0) & ~torch.isneginf(self.bias)

    def values(self, *signals):
        """Output for several features on the graph, as a batch."""
        return self.solve(torch.stack(signals)).unbind()

    def arguments(self, x):
        eta = {} if self.eta is None else {"eta": self.eta}
        level = {"logit_levels" if eta else "logit_level": self.level}
        return {"x": x, "edges": self.edges, "bias": self.bias, "weight": self.weight, **level, **eta, **self.options}

    def solve(self, x):
        separable = self.operator in WITH_COUPLING
        return self.operator(**self.arguments(x)) if separable else self.operator(**self.arguments(x), **EXACTLY).value

    @cached_property
    def solution(self):
        if self.operator in WITH_COUPLING:
            return WITH_COUPLING[self.operator](**self.arguments(self.x), coupling=0.0, **EXACTLY)
        return self.operator(**self.arguments(self.x), **EXACTLY)

    @cached_property
    def value(self):
        return self.solve(self.x)

    def is_unique(self):
        return bool(self.solution.certificate.forward.unique)


every_operator = pytest.mark.parametrize(
    "operator", [*WITH_COUPLING, *WITH_COUPLING.values(), *JOINT], ids=lambda operator: operator.__name__
)
some = settings(max_examples=7)


@every_operator
@some
@given(drawn=draws(), constant=st.floats(-5, 5))
def test_adding_a_constant_to_the_features_adds_it_to_the_output(operator, drawn, constant):
    problem = Problem.of(operator, drawn)
    assume(problem.is_unique())
    value, shifted = problem.values(problem.x, problem.x + constant)
    assert sup(shifted - value - constant) <= SMALL


@every_operator
@some
@given(drawn=draws())
def test_the_operator_is_increasing(operator, drawn):
    problem = Problem.of(operator, drawn)
    assume(problem.is_unique())
    value, higher = problem.values(problem.x, problem.x + problem.graph.integers(0, 3, *problem.x.shape))
    assert (higher - value).nan_to_num(nan=0.0).min() >= -SMALL


@every_operator
@some
@given(drawn=draws())
def test_the_operator_is_1_lipschitz_in_the_sup_norm(operator, drawn):
    problem = Problem.of(operator, drawn)
    assume(problem.is_unique())
    change = problem.graph.tensor(*problem.x.shape)
    value, other = problem.values(problem.x, problem.x + change)
    assert sup(other - value) <= sup(change) + SMALL


@every_operator
@some
@given(drawn=draws())
def test_the_operator_is_self_dual(operator, drawn):
    problem = Problem.of(operator, drawn)
    assume(problem.is_unique())
    dual = replace(problem, x=-problem.x, bias=negated(problem.bias), level=-problem.level)
    assert torch.equal(dual.value.isnan(), problem.value.isnan())
    assert sup(dual.value + problem.value) <= SMALL


@every_operator
@some
@given(drawn=draws())
def test_numbering_the_nodes_otherwise_numbers_the_variational_output_so(operator, drawn):
    problem = Problem.of(operator, drawn)
    assume(problem.is_unique())
    order = torch.from_numpy(problem.graph.rng.permutation(problem.graph.nodes))
    number = order.argsort()
    options = dict(problem.options)
    if "lateral_edges" in options:
        options["lateral_edges"] = number[options["lateral_edges"]]
    renumbered = replace(problem, x=problem.x[order], edges=number[problem.edges], options=options)
    torch.testing.assert_close(renumbered.value, problem.value[order], rtol=0, atol=SMALL, equal_nan=True)


@every_operator
@some
@given(drawn=draws())
def test_a_node_has_no_value_exactly_where_no_path_of_edges_joins_it_to_one_that_is_known(operator, drawn):
    problem = Problem.of(operator, drawn)
    present = problem.present.numpy()
    own = [(node, node) for node in range(problem.graph.nodes)] if problem.graph.self_edge else []
    for f in range(problem.graph.features):
        edges = [tuple(pair) for pair, kept in zip(problem.edges.T.tolist(), present[:, f], strict=True) if kept] + own
        torch.testing.assert_close(
            problem.value[:, f].isfinite(),
            torch.tensor([node in valued(problem, edges) for node in range(problem.graph.nodes)]),
        )


def valued(problem, edges):
    """Nodes of the output that are joined to a known value."""
    forward, backward = [(t, s) for s, t in edges], edges
    if problem.operator in JOINT:
        first, second = (backward, forward) if problem.operator is joint_graph_opening else (forward, backward)
        # u has a value where an edge of the first family ends, or where it is joined to such a node through y.
        lower, upper = {end for end, _ in first}, set()
        for _ in range(2 * problem.graph.nodes):
            upper |= {end for end, start in second if start in lower}
            lower |= {start for end, start in second if end in upper}
        return upper
    ends = forward if problem.operator.__name__.endswith("dilation") else backward
    reached = {end for end, _ in ends}
    if problem.options.get("ridge", 0.0) > 0:
        return set(range(problem.graph.nodes))
    if "coupling" in problem.options:
        lateral = problem.options.get("lateral_edges", problem.edges).T.tolist()
        for _ in range(problem.graph.nodes):
            reached |= {t for s, t in lateral if s in reached} | {s for s, t in lateral if t in reached}
    return reached


both = pytest.mark.parametrize("operator", WITH_COUPLING, ids=lambda operator: operator.__name__)


@both
@some
@given(drawn=draws())
def test_without_coupling_the_exact_solution_is_the_one_of_newton(operator, drawn):
    problem = Problem.of(operator, drawn)
    assume(problem.is_unique())
    torch.testing.assert_close(problem.value, problem.solution.value, rtol=0, atol=SMALL, equal_nan=True)


@both
@some
@given(drawn=draws(("expectile", "huber", "quantile")))
def test_the_level_leads_from_the_least_to_the_greatest_value_over_the_edges(operator, drawn):
    problem = Problem.of(operator, drawn)
    problem = replace(problem, weight=problem.weight + 0.1)
    there, back = (problem.edges, problem.bias), (reversed_edges(problem.edges), negated(problem.bias))
    upwards, downwards = graph_dilation, graph_erosion
    if operator is variational_graph_erosion:
        upwards, downwards = graph_erosion, graph_dilation
    for level, exact, edges in ((40.0, upwards, there), (-40.0, downwards, back)):
        limit = exact(problem.x, *edges, self_edge=problem.graph.self_edge)
        found = replace(problem, level=torch.full_like(problem.level, level)).value
        defined = limit.masked_fill(~limit.isfinite(), torch.nan)
        torch.testing.assert_close(found, defined, rtol=0, atol=SMALL, equal_nan=True)


# --- grids ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Grid:
    """An image and a window, and the same as a graph: one node a pixel, one edge for each pixel that a window sees."""

    seed: int
    channels: int
    image: tuple[int, int]
    size: tuple[int, int]
    padding: str

    @cached_property
    def rng(self):
        return np.random.default_rng(self.seed)

    def tensor(self, *shape):
        return torch.from_numpy(self.rng.standard_normal(shape))

    def positive(self):
        return self.tensor(self.channels).exp()

    @cached_property
    def x(self):
        return self.tensor(2, self.channels, *self.image)

    @cached_property
    def bias(self):
        left_out = torch.from_numpy(self.rng.random((self.channels, *self.size)) < 0.2)
        left_out[:, self.size[0] // 2, self.size[1] // 2] = False
        return self.tensor(self.channels, *self.size).masked_fill(left_out, -torch.inf)

    @cached_property
    def weight(self):
        return self.tensor(self.channels, *self.size).exp()

    def penalty(self, name):
        return {"penalty": name, "smoothing": self.positive() if name == "huber" else None}

    def edge_penalty(self, name):
        return {"edge_penalty": name, "edge_smoothing": 0.5 * self.positive() if name == "huber" else None}

    @cached_property
    def edges_and_elements(self):
        edges, elements = [], []
        for i, j in np.ndindex(*self.image):
            for k, m in np.ndindex(*self.size):
                row = pixel_at(i + k - self.size[0] // 2, self.image[0], self.padding)
                column = pixel_at(j + m - self.size[1] // 2, self.image[1], self.padding)
                if row is not None and column is not None:
                    edges.append((row * self.image[1] + column, i * self.image[1] + j))
                    elements.append(k * self.size[1] + m)
        return torch.tensor(edges).T, torch.tensor(elements)

    @property
    def sides(self):
        """Pairs of pixels, one above and below or left and right of the other."""
        number = torch.arange(self.x[0, 0].numel()).view(self.image)
        down, right = (number[:-1], number[1:]), (number[:, :-1], number[:, 1:])
        return torch.stack([torch.cat((down[end].flatten(), right[end].flatten())) for end in (0, 1)])

    def on_graph(self, weighted=True):
        """Arguments on the graph: features, edges and what they carry."""
        edges, elements = self.edges_and_elements
        bias, weight = (parameter.flatten(1)[:, elements].mT for parameter in (self.bias, self.weight))
        carried = {"bias": bias, "weight": weight} if weighted else {"bias": bias}
        return {"x": self.x.flatten(2).mT, "edges": edges, "self_edge": False, **carried}

    def as_image(self, features):
        return features.mT.unflatten(2, self.image)


grids = st.builds(
    Grid,
    seed=st.integers(0, 2**32 - 1),
    channels=st.integers(1, 2),
    image=st.tuples(st.integers(1, 4), st.integers(1, 5)),
    size=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.sampled_from(("geodesic", "replicate", "circular")),
)
penalties = st.sampled_from(("expectile", "huber"))
edge_penalties = st.sampled_from(("quadratic", "huber"))


@given(grids)
def test_on_a_grid_the_max_plus_operators_are_those_of_images(grid):
    for on_graph, on_image in (
        (graph_dilation, dilation),
        (graph_erosion, erosion),
        (graph_opening, opening),
        (graph_closing, closing),
    ):
        found = grid.as_image(on_graph(**grid.on_graph(weighted=False)))
        assert torch.equal(found, on_image(grid.x, grid.bias, padding=grid.padding))


@some
@given(grids, st.sampled_from(("expectile", "huber", "quantile")))
def test_on_a_grid_the_variational_operators_are_those_of_images(grid, penalty):
    level, options = 2 * grid.tensor(grid.channels), grid.penalty(penalty)
    for on_graph, on_image in (
        (variational_graph_dilation, variational_dilation),
        (variational_graph_erosion, variational_erosion),
    ):
        found = on_graph(**grid.on_graph(), logit_level=level, **options)
        expected = on_image(grid.x, grid.bias, level, weight=grid.weight, padding=grid.padding, **options)
        torch.testing.assert_close(grid.as_image(found), expected, rtol=0, atol=SMALL)


@some
@given(grids, penalties, edge_penalties, st.sampled_from((0.0, 0.3)))
def test_on_a_grid_the_regularised_dilation_is_that_of_images(grid, penalty, edge_penalty, ridge):
    level, coupling = 2 * grid.tensor(grid.channels), grid.positive()
    options = {"ridge": ridge, **grid.penalty(penalty), **grid.edge_penalty(edge_penalty), **EXACTLY}
    further = {"logit_level": level, "coupling": coupling, "lateral_edges": grid.sides}
    found = regularised_graph_dilation(**grid.on_graph(), **further, **options)
    assume(bool(found.certificate.forward.unique.all()))
    expected = regularised_dilation(
        grid.x, grid.bias, level, coupling, weight=grid.weight, padding=grid.padding, **options
    ).value
    torch.testing.assert_close(grid.as_image(found.value), expected, rtol=0, atol=SMALL)


@some
@given(grids, penalties)
def test_on_a_grid_the_joint_operators_are_those_of_images(grid, penalty):
    levels, eta = 2 * grid.tensor(2, grid.channels), grid.positive()
    options = {**grid.penalty(penalty), **EXACTLY}
    for on_graph, on_image in ((joint_graph_opening, joint_opening), (joint_graph_closing, joint_closing)):
        found = on_graph(**grid.on_graph(), logit_levels=levels, eta=eta, **options)
        assume(bool(found.certificate.forward.unique.all()))
        expected = on_image(grid.x, grid.bias, levels, eta, weight=grid.weight, padding=grid.padding, **options).value
        torch.testing.assert_close(grid.as_image(found.value), expected, rtol=0, atol=SMALL)
