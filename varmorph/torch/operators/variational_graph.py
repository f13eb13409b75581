"""Variational morphology on graphs: features of nodes, structuring by edges; see `varmorph.torch.operators.graph` for their form."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from varmorph.adjoints import Adjoint
from varmorph.arguments import check_joint_penalty
from varmorph.torch.arguments import (
    check_edge_smoothing,
    check_edges,
    check_features,
    check_level,
    check_nonnegative,
    check_positive,
    check_ridge,
    check_smoothing,
    two_levels,
)
from varmorph.torch.backend.choice import compute_dtype
from varmorph.torch.energy.energy import Edges, Energy, Ridge
from varmorph.torch.energy.incidence import GraphDataEdges, GraphEdges
from varmorph.torch.energy.minimisation import Solution, minimise_parts
from varmorph.torch.energy.penalties import named_penalty
from varmorph.torch.energy.solvers import Solver
from varmorph.torch.energy.transforms import solved_under_transforms
from varmorph.torch.operators.coupled import IMPLICIT, NEWTON
from varmorph.torch.operators.graph import Structure, features_of, signals_of, structure_of
from varmorph.torch.operators.nodes import minimise_each_node
from varmorph.torch.separable.expectile import sides_of
from varmorph.torch.shapes import (
    EdgeList,
    Features,
    LateralEdges,
    LevelPairOfFeatures,
    PerEdge,
    PerFeature,
    SignalPairs,
    Signals,
)

__all__ = [
    "joint_graph_closing",
    "joint_graph_opening",
    "regularised_graph_dilation",
    "regularised_graph_erosion",
    "variational_graph_dilation",
    "variational_graph_erosion",
]


def variational_graph_dilation(
    x: Features,
    edges: EdgeList,
    bias: PerEdge | None,
    logit_level: PerFeature,
    *,
    weight: PerEdge | None = None,
    penalty: str = "expectile",
    smoothing: PerFeature | None = None,
    self_edge: bool = True,
) -> Features:
    """Variational dilation on a graph: y_t minimises sum_e weight_e rho_tau(x_s + bias_e - y_t) over the edges e = (s, t).

    Every node stands alone and is solved exactly, as every pixel is in `variational_dilation`, of which this is the graph
    form: limits, penalties, ties and gradients are those described there.

    Parameters
    ----------
    x, edges, self_edge
        As in `graph_dilation`; a node's edge to itself has weight 1.
    bias, weight : number, () or (E,) or (E, F), or None
        Offset and weight >= 0 of each edge; None for 0 and 1. An offset -inf leaves the edge out.
    logit_level : number, () or (F,)
        log(tau / (1 - tau)), finite.
    penalty, smoothing
        As in `variational_dilation`; `smoothing` is a number for all features, () or (F,).

    Returns
    -------
    Features of the shape of x. A node without an edge of positive weight into it has no minimiser: it is NaN.

    Raises
    ------
    TypeError, ValueError
        As `graph_dilation` and `variational_dilation`.

    Notes
    -----
    L. Najman, J.-C. Pesquet, H. Talbot (ISMM 2015, doi 10.1007/978-3-319-18720-4_40) for the idea.

    Examples
    --------
    >>> import torch
    >>> path = torch.tensor([[0, 1, 2], [1, 2, 3]])
    >>> x = torch.tensor([[3.0], [0.0], [1.0], [2.0]])
    >>> variational_graph_dilation(x, path, None, 0.0).flatten()
    tensor([3.0000, 1.5000, 0.5000, 1.5000])
    >>> variational_graph_dilation(x, path, None, 9.0).flatten().round(decimals=2)
    tensor([3., 3., 1., 2.])
    """
    x = check_features(x)
    structure = structure_of(x, edges, bias, weight, self_edge)
    level = check_level(logit_level, x.shape[-1], x)
    return _node_by_node(x, structure, level, penalty, smoothing)


def variational_graph_erosion(
    x: Features,
    edges: EdgeList,
    bias: PerEdge | None,
    logit_level: PerFeature,
    *,
    weight: PerEdge | None = None,
    penalty: str = "expectile",
    smoothing: PerFeature | None = None,
    self_edge: bool = True,
) -> Features:
    """Variational erosion on a graph: the edges of the dilation reversed, offsets -bias, edge level -logit_level.

    It tends to `graph_erosion` as the level grows. Arguments, result and errors are those of `variational_graph_dilation`.

    Examples
    --------
    >>> import torch
    >>> path = torch.tensor([[0, 1, 2], [1, 2, 3]])
    >>> x = torch.tensor([[3.0], [0.0], [1.0], [2.0]])
    >>> variational_graph_erosion(x, path, None, 9.0).flatten().round(decimals=2)
    tensor([0., 0., 1., 2.])
    """
    x = check_features(x)
    structure = structure_of(x, edges, bias, weight, self_edge).reversed()
    level = -check_level(logit_level, x.shape[-1], x)
    return _node_by_node(x, structure, level, penalty, smoothing)


@solved_under_transforms
def regularised_graph_dilation(
    x: Features,
    edges: EdgeList,
    bias: PerEdge | None,
    logit_level: PerFeature,
    coupling: PerFeature,
    *,
    weight: PerEdge | None = None,
    lateral_edges: LateralEdges | None = None,
    penalty: str = "expectile",
    smoothing: PerFeature | None = None,
    edge_penalty: str = "quadratic",
    edge_smoothing: PerFeature | None = None,
    ridge: PerFeature = 0.0,
    self_edge: bool = True,
    start: Signals | None = None,
    solver: Solver = NEWTON,
    adjoint: Adjoint = IMPLICIT,
) -> Solution:
    """Variational dilation on a graph whose nodes are held together along lateral edges.

    y minimises the sum of the energies of `variational_graph_dilation`, of coupling * h(y_a - y_b) over the lateral edges
    (a, b), and of (ridge / 2) (y_t - x_t)^2. It is the graph form of `regularised_dilation`.

    Parameters
    ----------
    x, edges, bias, logit_level, weight, penalty, smoothing, self_edge
        As in `variational_graph_dilation`.
    coupling : number, () or (F,)
        Strength >= 0 of the lateral edges between outputs.
    lateral_edges : (2, L), optional
        Pairs of nodes that are held together, each pair once. Default: the pairs of `edges`, whatever their direction.
    edge_penalty, edge_smoothing, ridge, solver, adjoint
        As in `regularised_dilation`, numbers for all features or (F,).
    start : (B or 1, F, nodes), optional
        Where the solver starts, such as `Solution.unknowns` of a similar problem.

    Returns
    -------
    Solution
        `value` has the shape of x. The entries of `certificate` have shape () for one graph signal, (B,) for several. A
        node that is joined to no known value by edges of positive weight is NaN.

    Raises
    ------
    TypeError, ValueError, ConvergenceError
        As `variational_graph_dilation` and `regularised_dilation`.

    Examples
    --------
    >>> import torch
    >>> path = torch.tensor([[0, 1, 2], [1, 2, 3]])
    >>> x = torch.tensor([[3.0], [0.0], [1.0], [2.0]])
    >>> regularised_graph_dilation(x, path, None, 0.0, 100.0).value.flatten().round(decimals=1)
    tensor([1.4000, 1.4000, 1.4000, 1.4000])
    """
    options = {
        "penalty": penalty,
        "smoothing": smoothing,
        "edge_penalty": edge_penalty,
        "edge_smoothing": edge_smoothing,
    }
    x = check_features(x)
    structure = structure_of(x, edges, bias, weight, self_edge)
    level = check_level(logit_level, x.shape[-1], x)
    lateral = _lateral(x, edges, lateral_edges)
    return _regularised(x, structure, level, coupling, lateral, ridge, options, start, solver, adjoint)


@solved_under_transforms
def regularised_graph_erosion(
    x: Features,
    edges: EdgeList,
    bias: PerEdge | None,
    logit_level: PerFeature,
    coupling: PerFeature,
    *,
    weight: PerEdge | None = None,
    lateral_edges: LateralEdges | None = None,
    penalty: str = "expectile",
    smoothing: PerFeature | None = None,
    edge_penalty: str = "quadratic",
    edge_smoothing: PerFeature | None = None,
    ridge: PerFeature = 0.0,
    self_edge: bool = True,
    start: Signals | None = None,
    solver: Solver = NEWTON,
    adjoint: Adjoint = IMPLICIT,
) -> Solution:
    """Variational erosion on a graph whose nodes are held together: the edges reversed, offsets -bias, edge level -logit_level.

    Arguments, result and errors are those of `regularised_graph_dilation`.

    Examples
    --------
    >>> import torch
    >>> path = torch.tensor([[0, 1, 2], [1, 2, 3]])
    >>> x = torch.tensor([[3.0], [0.0], [1.0], [2.0]])
    >>> regularised_graph_erosion(x, path, None, 9.0, 0.0).value.flatten().round(decimals=2)
    tensor([0., 0., 1., 2.])
    """
    options = {
        "penalty": penalty,
        "smoothing": smoothing,
        "edge_penalty": edge_penalty,
        "edge_smoothing": edge_smoothing,
    }
    x = check_features(x)
    structure = structure_of(x, edges, bias, weight, self_edge).reversed()
    level = -check_level(logit_level, x.shape[-1], x)
    lateral = _lateral(x, edges, lateral_edges)
    return _regularised(x, structure, level, coupling, lateral, ridge, options, start, solver, adjoint)


def _node_by_node(x: Tensor, structure: Structure, level: Tensor, penalty: str, smoothing: PerFeature | None) -> Tensor:
    """Solve each node exactly."""
    dtype = compute_dtype(x)
    mu = check_smoothing(penalty, smoothing, x.shape[-1], x)
    level, mu = level.to(dtype), None if mu is None else mu.to(dtype)
    pulls = _pulls(signals_of(x), structure, penalty, level, mu)
    return features_of(minimise_each_node(pulls, level, penalty, mu), x)


def _lateral(x: Tensor, edges: Tensor, lateral: Tensor | None) -> Tensor:
    if lateral is not None:
        return check_edges("lateral_edges", lateral, x.shape[-2], x.device)
    if edges.device.type == "meta" or x.device.type == "meta":
        return torch.empty(2, 0, dtype=torch.long, device=x.device)
    low, high = edges.to(x.device).long().sort(0).values
    pairs = (low * x.shape[-2] + high)[low < high].unique()  # one number for each pair: many times faster than columns
    return torch.stack((pairs // x.shape[-2], pairs % x.shape[-2]))


def _regularised(
    x: Tensor,
    structure: Structure,
    level: Tensor,
    coupling: PerFeature,
    lateral: Tensor,
    ridge: PerFeature,
    options: dict,
    start: Tensor | None,
    solver: Solver,
    adjoint: Adjoint,
) -> Solution:
    features, dtype = x.shape[-1], compute_dtype(x)
    mu = check_smoothing(options["penalty"], options["smoothing"], features, x)
    nu = check_edge_smoothing(options["edge_penalty"], options["edge_smoothing"], features, x)
    strength = check_nonnegative("coupling", coupling, features, x).to(dtype)
    kappa = check_ridge(ridge, features, x)
    level = level.to(dtype)
    mu, nu, kappa = (None if v is None else v.to(dtype) for v in (mu, nu, kappa))
    signals = signals_of(x)
    pulls = _pulls(signals, structure, options["penalty"], level, mu)
    endpoints = GraphEdges(lateral[0], lateral[1], signals.shape[-1])
    between = named_penalty(options["edge_penalty"], None, nu, 1)
    energy = Energy(
        [pulls, Edges(endpoints, strength.new_zeros(()), strength[:, None], between)],
        torch.zeros_like(signals),
        None if kappa is None else Ridge(kappa[:, None], signals),
    )
    if start is None:
        with torch.no_grad():
            start = minimise_each_node(pulls, level, "expectile", None).nan_to_num(nan=0.0)
    solution = minimise_parts(energy, start, solver, adjoint, x.shape[:-2])
    return solution._replace(value=features_of(solution.value, x))


def _pulls(signals: Tensor, structure: Structure, penalty: str, level: Tensor, mu: Tensor | None) -> Edges:
    """Edges from known features to unknowns."""
    offset = structure.bias.to(signals.dtype)
    absent = torch.isneginf(offset)
    values = signals.index_select(-1, structure.source) + offset.masked_fill(absent, 0.0)
    weight = structure.weight.to(signals.dtype).masked_fill(absent, 0.0)
    endpoints = GraphDataEdges(structure.target, signals.shape[-1])
    return Edges(endpoints, values.masked_fill(absent, 0.0), weight, named_penalty(penalty, sides_of(level), mu, 1))


@solved_under_transforms
def joint_graph_opening(
    x: Features,
    edges: EdgeList,
    bias: PerEdge | None,
    logit_levels: LevelPairOfFeatures,
    eta: PerFeature,
    *,
    weight: PerEdge | None = None,
    penalty: str = "expectile",
    smoothing: PerFeature | None = None,
    self_edge: bool = True,
    start: SignalPairs | None = None,
    solver: Solver = NEWTON,
    adjoint: Adjoint = IMPLICIT,
) -> Solution:
    """Joint opening on a graph: the erosion u of x and the dilation y of u minimise one energy together.

    Parameters are those of `regularised_graph_dilation` and `joint_opening`; `start` is (B or 1, F, 2, nodes).

    Examples
    --------
    >>> import torch
    >>> path = torch.tensor([[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]])
    >>> x = torch.tensor([[0.0], [3.0], [0.0], [2.0]])
    >>> joint_graph_opening(x, path, None, (-9.0, 9.0), 1e-3).value.flatten().round(decimals=2).abs()
    tensor([0., 0., 0., 0.])
    """
    return _joint(x, edges, bias, weight, logit_levels, eta, -1, penalty, smoothing, self_edge, start, solver, adjoint)


@solved_under_transforms
def joint_graph_closing(
    x: Features,
    edges: EdgeList,
    bias: PerEdge | None,
    logit_levels: LevelPairOfFeatures,
    eta: PerFeature,
    *,
    weight: PerEdge | None = None,
    penalty: str = "expectile",
    smoothing: PerFeature | None = None,
    self_edge: bool = True,
    start: SignalPairs | None = None,
    solver: Solver = NEWTON,
    adjoint: Adjoint = IMPLICIT,
) -> Solution:
    """Joint closing on a graph: the dilation u of x and the erosion y of u minimise one energy together.

    Parameters are those of `joint_graph_opening`.

    Examples
    --------
    >>> import torch
    >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> x = torch.tensor([[3.0], [0.0], [3.0]])
    >>> joint_graph_closing(x, path, None, (9.0, -9.0), 1e-3).value.flatten().round(decimals=1)
    tensor([3., 3., 3.])
    """
    return _joint(x, edges, bias, weight, logit_levels, eta, 1, penalty, smoothing, self_edge, start, solver, adjoint)


def _joint(
    x: Tensor,
    edges: Tensor,
    bias: PerEdge | None,
    weight: PerEdge | None,
    logit_levels: Tensor | Sequence[float],
    eta: PerFeature,
    first: int,
    penalty: str,
    smoothing: PerFeature | None,
    self_edge: bool,
    start: Tensor | None,
    solver: Solver,
    adjoint: Adjoint,
) -> Solution:
    check_joint_penalty(penalty)
    x = check_features(x)
    features, dtype = x.shape[-1], compute_dtype(x)
    forward = structure_of(x, edges, bias, weight, self_edge)
    one, two = (forward if side > 0 else forward.reversed() for side in (first, -first))
    levels = [check_level(level, features, x, "logit_levels").to(dtype) for level in two_levels(logit_levels)]
    mu = check_smoothing(penalty, smoothing, features, x)
    mu = None if mu is None else mu.to(dtype)
    strength = check_positive("eta", eta, features, x).to(dtype)
    signals = signals_of(x)
    alone = _pulls(signals, one, penalty, levels[0], mu)
    nodes = signals.shape[-1]
    pulls = Edges(GraphDataEdges(one.target, nodes, part=0, parts=2), alone.offset, alone.weight, alone.penalty)
    offset = two.bias.to(dtype)
    absent = torch.isneginf(offset)
    factor = (two.weight.to(dtype) * strength[:, None]).masked_fill(absent, 0.0)
    endpoints = GraphEdges(two.source, two.target, nodes, source=0, target=1, parts=2)
    between = Edges(
        endpoints, offset.masked_fill(absent, 0.0), factor, named_penalty(penalty, sides_of(levels[1]), mu, 1)
    )
    energy = Energy([pulls, between], signals.new_zeros(*signals.shape[:2], 2, nodes))
    if start is None:
        with torch.no_grad():
            u = minimise_each_node(alone, levels[0], "expectile", None)
            y = minimise_each_node(_pulls(u, two, penalty, levels[1], mu), levels[1], "expectile", None)
            start = torch.stack((u, y), 2).nan_to_num(nan=0.0)
    solution = minimise_parts(energy, start, solver, adjoint, x.shape[:-2])
    return solution._replace(value=features_of(solution.value[:, :, 1], x))
