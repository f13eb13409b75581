"""Variational morphology on graphs: features of nodes, structuring by edges; see `varmorph.jax.operators.graph` for their form."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import stop_gradient

from varmorph.adjoints import Adjoint
from varmorph.arguments import check_joint_penalty
from varmorph.jax.arguments import (
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
from varmorph.jax.backend.choice import compute_dtype
from varmorph.jax.energy.energy import Edges, Energy, Ridge
from varmorph.jax.energy.incidence import GraphDataEdges, GraphEdges
from varmorph.jax.energy.minimisation import Solution, minimise_parts
from varmorph.jax.energy.penalties import named_penalty
from varmorph.jax.energy.solvers import Solver
from varmorph.jax.operators.coupled import IMPLICIT, NEWTON
from varmorph.jax.operators.graph import Structure, structure_of
from varmorph.jax.operators.nodes import known, minimise_each_node
from varmorph.jax.separable.expectile import sides_of
from varmorph.jax.shapes import (
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


def _signals(x: jax.Array) -> jax.Array:
    """Bring features to the form of problems: (B, F, nodes)."""
    return (x if x.ndim == 3 else x[None]).astype(compute_dtype(x)).swapaxes(1, 2)


def _features(signals: jax.Array, x: jax.Array) -> jax.Array:
    """Undo `_signals`."""
    return signals.swapaxes(1, 2).astype(x.dtype).reshape(x.shape)


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
        As `graph_dilation` and `variational_dilation`; ValueError too where `jit` traces the edges
        and the penalty is no expectile, since the shapes of arrays depend on them.

    Notes
    -----
    L. Najman, J.-C. Pesquet, H. Talbot (ISMM 2015, doi 10.1007/978-3-319-18720-4_40) for the idea.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> path = jnp.array([[0, 1, 2], [1, 2, 3]])
    >>> x = jnp.array([[3.0], [0.0], [1.0], [2.0]])
    >>> variational_graph_dilation(x, path, None, 0.0).flatten()
    Array([3. , 1.5, 0.5, 1.5], dtype=float32)
    >>> variational_graph_dilation(x, path, None, 9.0).flatten().round(2)
    Array([3., 3., 1., 2.], dtype=float32)
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
    >>> import jax.numpy as jnp
    >>> path = jnp.array([[0, 1, 2], [1, 2, 3]])
    >>> x = jnp.array([[3.0], [0.0], [1.0], [2.0]])
    >>> variational_graph_erosion(x, path, None, 9.0).flatten().round(2)
    Array([0., 0., 1., 2.], dtype=float32)
    """
    x = check_features(x)
    structure = structure_of(x, edges, bias, weight, self_edge).reversed()
    level = -check_level(logit_level, x.shape[-1], x)
    return _node_by_node(x, structure, level, penalty, smoothing)


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
        As `variational_graph_dilation` and `regularised_dilation`; ValueError too where `jit` traces
        the edges and no lateral edges are given, since the shapes of arrays depend on them.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> path = jnp.array([[0, 1, 2], [1, 2, 3]])
    >>> x = jnp.array([[3.0], [0.0], [1.0], [2.0]])
    >>> regularised_graph_dilation(x, path, None, 0.0, 100.0).value.flatten().round(1)
    Array([1.4, 1.4, 1.4, 1.4], dtype=float32)
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
    >>> import jax.numpy as jnp
    >>> path = jnp.array([[0, 1, 2], [1, 2, 3]])
    >>> x = jnp.array([[3.0], [0.0], [1.0], [2.0]])
    >>> regularised_graph_erosion(x, path, None, 9.0, 0.0).value.flatten().round(2)
    Array([0., 0., 1., 2.], dtype=float32)
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


def _node_by_node(
    x: jax.Array, structure: Structure, level: jax.Array, penalty: str, smoothing: PerFeature | None
) -> jax.Array:
    """Solve each node exactly."""
    dtype = compute_dtype(x)
    mu = check_smoothing(penalty, smoothing, x.shape[-1], x)
    mu = None if mu is None else mu.astype(dtype)
    pulls = _pulls(_signals(x), structure, penalty, sides_of(level.astype(dtype)), mu)
    return _features(minimise_each_node(pulls, penalty), x)


def _lateral(x: jax.Array, edges: jax.Array, lateral: jax.Array | None) -> jax.Array | np.ndarray:
    if lateral is not None:
        return check_edges("lateral_edges", lateral, x.shape[-2])
    low, high = np.sort(known("edges without lateral_edges", edges).astype(np.int64), 0)
    pairs = np.unique((low * x.shape[-2] + high)[low < high])  # one number for each pair
    return np.stack(np.divmod(pairs, x.shape[-2])).astype(np.int32)


def _regularised(
    x: jax.Array,
    structure: Structure,
    level: jax.Array,
    coupling: PerFeature,
    lateral: jax.Array | np.ndarray,
    ridge: PerFeature,
    options: dict,
    start: jax.Array | None,
    solver: Solver,
    adjoint: Adjoint,
) -> Solution:
    features, dtype = x.shape[-1], compute_dtype(x)
    numbers = (
        check_smoothing(options["penalty"], options["smoothing"], features, x),
        check_edge_smoothing(options["edge_penalty"], options["edge_smoothing"], features, x),
        check_ridge(ridge, features, x),
    )
    strength = check_nonnegative("coupling", coupling, features, x).astype(dtype)
    mu, nu, kappa = (None if number is None else number.astype(dtype) for number in numbers)
    signals, sides = _signals(x), sides_of(level.astype(dtype))
    pulls = _pulls(signals, structure, options["penalty"], sides, mu)
    endpoints = GraphEdges(lateral[0], lateral[1], signals.shape[-1])
    between = named_penalty(options["edge_penalty"], None, nu, 1)
    families = (pulls, Edges(endpoints, jnp.zeros((), dtype), strength[:, None], between))
    anchor = None if kappa is None else Ridge(kappa[:, None], signals)
    energy = Energy(families, jnp.zeros_like(signals), anchor)
    start = jnp.nan_to_num(minimise_each_node(pulls, "expectile"), nan=0.0) if start is None else start
    solution = minimise_parts(energy, start, solver, adjoint, x.shape[:-2])
    return solution._replace(value=_features(solution.value, x))


def _pulls(
    signals: jax.Array,
    structure: Structure,
    penalty: str,
    sides: tuple[jax.Array, jax.Array],
    mu: jax.Array | None,
) -> Edges:
    """Edges from known features to unknowns."""
    absent = jnp.isneginf(structure.bias)
    values = signals[..., structure.source] + jnp.where(absent, 0.0, structure.bias)
    weight = jnp.where(absent, 0.0, structure.weight)
    endpoints = GraphDataEdges(structure.target, signals.shape[-1])
    return Edges(endpoints, jnp.where(absent, 0.0, values), weight, named_penalty(penalty, sides, mu, 1))


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
    >>> import jax.numpy as jnp
    >>> path = jnp.array([[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]])
    >>> x = jnp.array([[0.0], [3.0], [0.0], [2.0]])
    >>> abs(joint_graph_opening(x, path, None, (-9.0, 9.0), 1e-3).value.flatten().round(2))
    Array([0., 0., 0., 0.], dtype=float32)
    """
    return _joint(x, edges, bias, weight, logit_levels, eta, -1, penalty, smoothing, self_edge, start, solver, adjoint)


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
    >>> import jax.numpy as jnp
    >>> path = jnp.array([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> x = jnp.array([[3.0], [0.0], [3.0]])
    >>> joint_graph_closing(x, path, None, (9.0, -9.0), 1e-3).value.flatten().round(1)
    Array([3., 3., 3.], dtype=float32)
    """
    return _joint(x, edges, bias, weight, logit_levels, eta, 1, penalty, smoothing, self_edge, start, solver, adjoint)


def _joint(
    x: jax.Array,
    edges: jax.Array,
    bias: PerEdge | None,
    weight: PerEdge | None,
    logit_levels: jax.Array | Sequence[float],
    eta: PerFeature,
    first: int,
    penalty: str,
    smoothing: PerFeature | None,
    self_edge: bool,
    start: jax.Array | None,
    solver: Solver,
    adjoint: Adjoint,
) -> Solution:
    check_joint_penalty(penalty)
    x = check_features(x)
    features, dtype = x.shape[-1], compute_dtype(x)
    forward = structure_of(x, edges, bias, weight, self_edge)
    one, two = (forward if side > 0 else forward.reversed() for side in (first, -first))
    levels = [check_level(level, features, x, "logit_levels").astype(dtype) for level in two_levels(logit_levels)]
    sides = [sides_of(level) for level in levels]
    mu = check_smoothing(penalty, smoothing, features, x)
    mu = None if mu is None else mu.astype(dtype)
    strength = check_positive("eta", eta, features, x).astype(dtype)
    signals = _signals(x)
    alone = _pulls(signals, one, penalty, sides[0], mu)
    nodes = signals.shape[-1]
    pulls = Edges(GraphDataEdges(one.target, nodes, 0, 2), alone.offset, alone.weight, alone.penalty)
    absent = jnp.isneginf(two.bias)
    factor = jnp.where(absent, 0.0, two.weight * strength[:, None])
    endpoints = GraphEdges(two.source, two.target, nodes, 0, 1, 2)
    offset = jnp.where(absent, 0.0, two.bias)
    between = Edges(endpoints, offset, factor, named_penalty(penalty, sides[1], mu, 1))
    energy = Energy((pulls, between), jnp.zeros((*signals.shape[:2], 2, nodes), dtype))
    if start is None:
        u = stop_gradient(minimise_each_node(alone, "expectile"))
        y = minimise_each_node(_pulls(u, two, penalty, sides[1], mu), "expectile")
        start = jnp.nan_to_num(jnp.stack((u, y), 2), nan=0.0)
    solution = minimise_parts(energy, start, solver, adjoint, x.shape[:-2])
    return solution._replace(value=_features(solution.value[:, :, 1], x))
