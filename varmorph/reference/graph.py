"""Morphology on any directed graph: max-plus, variational and joint operators on node features.

Features are (n, F), or (B, n, F) for a batch on one graph. `edges` is (2, E): row 0 the sources, row 1 the targets. Every
node has an edge to itself besides, with bias 0 and weight 1, unless `self_edge` is False. `bias` and `weight` are None, a
scalar, (E,) or (E, F); -inf in `bias` leaves an edge out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from varmorph.reference.coupled import CLOSING, OPENING, edge_smoothing_name, joint_families, smoothing_name
from varmorph.reference.edges import Array
from varmorph.reference.families import Family, Instance, Spread, instance, solve, solve_gradient
from varmorph.reference.gradients import Gradients


def _pairs(edges: ArrayLike, nodes: int, name: str = "edges") -> Array:
    pairs = np.asarray(edges)
    if pairs.ndim != 2 or len(pairs) != 2 or (pairs.size and pairs.dtype.kind not in "iu"):
        raise ValueError(f"{name} must be (2, E) whole numbers, found {pairs.shape} of {pairs.dtype}")
    if pairs.size and not 0 <= pairs.min() <= pairs.max() < nodes:
        raise ValueError(f"{name} must be nodes 0 to {nodes - 1}, found {pairs.min()} to {pairs.max()}")
    return pairs.astype(int)


def _per_edge(value: Array, edges: int, channels: int) -> Array:
    """Give a scalar, (E,) or (E, F) as (E, F)."""
    return np.broadcast_to(value[:, None] if value.ndim == 1 else value, (edges, channels))


# --- max-plus -------------------------------------------------------------------------------------------------------


def graph_dilation(x: ArrayLike, edges: ArrayLike, bias: ArrayLike | None = None, *, self_edge: bool = True) -> Array:
    """y_t = max over the edges (s, t) of x_s + b_e; -inf where no edge ends.

    >>> graph_dilation([[5.0], [0.0], [1.0]], [[0, 1], [1, 2]], -1.0).T
    array([[5., 4., 1.]])
    """
    x = np.asarray(x, dtype=np.float64)
    (sources, targets), channels = _pairs(edges, x.shape[-2]), x.shape[-1]
    offsets = _per_edge(np.asarray(0.0 if bias is None else bias, dtype=np.float64), sources.size, channels)
    y = x.copy() if self_edge else np.full_like(x, -np.inf)
    for s, t, offset in zip(sources, targets, offsets, strict=True):
        present = offset > -np.inf
        y[..., t, present] = np.maximum(y[..., t, present], x[..., s, present] + offset[present])
    return y


def graph_erosion(x: ArrayLike, edges: ArrayLike, bias: ArrayLike | None = None, *, self_edge: bool = True) -> Array:
    """y_s = min over the same edges (s, t), reversed, of x_t - b_e; inf where no edge starts.

    >>> graph_erosion([[5.0], [0.0], [1.0]], [[0, 1], [1, 2]], -1.0).T
    array([[1., 0., 1.]])
    """
    reverse = _pairs(edges, np.shape(x)[-2])[::-1]
    return 0.0 - graph_dilation(-np.asarray(x, dtype=np.float64), reverse, bias, self_edge=self_edge)


def graph_opening(x: ArrayLike, edges: ArrayLike, bias: ArrayLike | None = None, *, self_edge: bool = True) -> Array:
    """Dilation of the erosion."""
    return graph_dilation(graph_erosion(x, edges, bias, self_edge=self_edge), edges, bias, self_edge=self_edge)


def graph_closing(x: ArrayLike, edges: ArrayLike, bias: ArrayLike | None = None, *, self_edge: bool = True) -> Array:
    """Erosion of the dilation."""
    return graph_erosion(graph_dilation(x, edges, bias, self_edge=self_edge), edges, bias, self_edge=self_edge)


# --- variational ----------------------------------------------------------------------------------------------------


def _spreads(shape: tuple[int, ...], edges: int) -> dict[str, Spread]:
    """Say which numbers of each argument belong to channel f of graph b."""
    nodes, channels = shape[-2:]

    def per_edge(value: Array) -> Array:
        return _per_edge(value, edges, channels).T[None]

    def per_channel(value: Array) -> Array:
        return np.broadcast_to(value, (1, channels))[..., None]

    return {
        "x": lambda value: value.reshape(-1, nodes, channels).swapaxes(1, 2),
        "bias": per_edge,
        "weight": per_edge,
        "logit_levels": lambda value: np.broadcast_to(value.reshape(2, -1).T, (1, channels, 2)),
        **dict.fromkeys(("logit_level", "coupling", "smoothing", "edge_smoothing", "ridge", "eta"), per_channel),
    }


def _output(problem: Instance, shape: tuple[int, ...]) -> Array:
    return solve(problem).swapaxes(1, 2).reshape(shape)


def _families(pairs: Array, bias: ArrayLike | None, direction: int, nodes: int, self_edge: bool) -> list[Family]:
    """List the given edges, with direction -1 reversed and with offset -b, and those of each node to itself."""
    source, target = pairs[::direction]
    name, node = None if bias is None else "bias", np.arange(nodes)
    given = Family(source, target, np.arange(source.size), direction=direction, bias=name)
    return [given, Family(node, node, node)] if self_edge else [given]


def each_pair_once(edges: ArrayLike) -> Array:
    """Leave out the edges from a node to itself, repeated ones, and one of each two that are the reverse of each other.

    >>> each_pair_once([[0, 1, 1, 2, 1], [1, 0, 2, 2, 2]])
    array([[0, 1],
           [1, 2]])
    """
    low, high = np.sort(np.asarray(edges), axis=0)
    return np.unique(np.stack([low, high])[:, low < high], axis=1)


def _separable(
    direction: int,
    pairs: Array,
    bias: ArrayLike | None,
    weight: ArrayLike | None,
    nodes: int,
    self_edge: bool,
    mu: str | float,
) -> list[Family]:
    """List the edges from known features to unknowns."""
    families = [
        family._replace(level=("logit_level", 0, direction), smoothing=mu)
        for family in _families(pairs, bias, direction, nodes, self_edge)
    ]
    families[0] = families[0]._replace(weight=None if weight is None else "weight")
    return families


def _variational(
    direction: int,
    x: ArrayLike,
    edges: ArrayLike,
    bias: ArrayLike | None,
    weight: ArrayLike | None,
    logit_level: ArrayLike,
    *,
    penalty: str = "expectile",
    smoothing: ArrayLike | None = None,
    self_edge: bool = True,
) -> Instance:
    nodes = np.shape(x)[-2]
    pairs, mu = _pairs(edges, nodes), smoothing_name(penalty, smoothing)
    families = _separable(direction, pairs, bias, weight, nodes, self_edge, mu)
    arguments = {"x": x, "bias": bias, "weight": weight, "logit_level": logit_level, "smoothing": smoothing}
    return instance(families, 1, arguments, _spreads(np.shape(x), pairs.shape[1]))


def _regularised(
    direction: int,
    x: ArrayLike,
    edges: ArrayLike,
    bias: ArrayLike | None,
    weight: ArrayLike | None,
    logit_level: ArrayLike,
    coupling: ArrayLike,
    *,
    lateral_edges: ArrayLike | None = None,
    penalty: str = "expectile",
    smoothing: ArrayLike | None = None,
    edge_penalty: str = "quadratic",
    edge_smoothing: ArrayLike | None = None,
    ridge: ArrayLike = 0.0,
    self_edge: bool = True,
) -> Instance:
    nodes = np.shape(x)[-2]
    pairs, node = _pairs(edges, nodes), np.arange(nodes)
    families = _separable(direction, pairs, bias, weight, nodes, self_edge, smoothing_name(penalty, smoothing))
    families.append(Family(node, node, node, factor="ridge"))
    lateral = each_pair_once(pairs) if lateral_edges is None else _pairs(lateral_edges, nodes, "lateral_edges")
    (source, target), nu = lateral, edge_smoothing_name(edge_penalty, edge_smoothing)
    number = np.arange(source.size)
    families.append(Family(source, target, number, from_image=False, factor="coupling", smoothing=nu))
    arguments = {
        "x": x,
        "bias": bias,
        "weight": weight,
        "logit_level": logit_level,
        "coupling": coupling,
        "smoothing": smoothing,
        "edge_smoothing": edge_smoothing,
        "ridge": ridge,
    }
    return instance(families, 1, arguments, _spreads(np.shape(x), pairs.shape[1]))


def variational_graph_dilation(
    x: ArrayLike,
    edges: ArrayLike,
    bias: ArrayLike | None,
    logit_level: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    **options: Any,
) -> Array:
    """Give the y that minimises sum_e w_e rho_tau(x_s + b_e - y_t); the middle of several minimisers is taken.

    Options: penalty, smoothing, self_edge.

    >>> variational_graph_dilation([[0.0], [1.0], [5.0]], [[0, 1], [1, 2]], None, 0.0).T
    array([[0. , 0.5, 3. ]])
    """
    return _output(_variational(1, x, edges, bias, weight, logit_level, **options), np.shape(x))


def variational_graph_erosion(
    x: ArrayLike,
    edges: ArrayLike,
    bias: ArrayLike | None,
    logit_level: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    **options: Any,
) -> Array:
    """The reversed edges, with offsets -b and edge level -logit_level; the rest as in `variational_graph_dilation`."""
    return _output(_variational(-1, x, edges, bias, weight, logit_level, **options), np.shape(x))


def regularised_graph_dilation(
    x: ArrayLike,
    edges: ArrayLike,
    bias: ArrayLike | None,
    logit_level: ArrayLike,
    coupling: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    **options: Any,
) -> Array:
    """Add coupling * sum h(y_s - y_t) over lateral edges and ridge / 2 |y - x|^2 to the energy of `variational_graph_dilation`.

    The sum is over `lateral_edges` (2, L), each pair once; by default these are the pairs that `edges` connects. Options:
    lateral_edges, penalty, smoothing, edge_penalty, edge_smoothing, ridge, self_edge.

    >>> regularised_graph_dilation([[0.0], [1.0], [5.0]], [[0, 1], [1, 2]], None, 0.0, 1e4).T.round(2)
    array([[1.4, 1.4, 1.4]])
    """
    return _output(_regularised(1, x, edges, bias, weight, logit_level, coupling, **options), np.shape(x))


def regularised_graph_erosion(
    x: ArrayLike,
    edges: ArrayLike,
    bias: ArrayLike | None,
    logit_level: ArrayLike,
    coupling: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    **options: Any,
) -> Array:
    """The reversed edges, with offsets -b and edge level -logit_level; the rest as in `regularised_graph_dilation`."""
    return _output(_regularised(-1, x, edges, bias, weight, logit_level, coupling, **options), np.shape(x))


def variational_graph_dilation_gradient(
    x: ArrayLike,
    edges: ArrayLike,
    bias: ArrayLike | None,
    logit_level: ArrayLike,
    cotangent: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    **options: Any,
) -> Gradients:
    """Differentiate sum(cotangent * variational_graph_dilation(...)) with respect to every argument."""
    return solve_gradient(_variational(1, x, edges, bias, weight, logit_level, **options), cotangent)


def variational_graph_erosion_gradient(
    x: ArrayLike,
    edges: ArrayLike,
    bias: ArrayLike | None,
    logit_level: ArrayLike,
    cotangent: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    **options: Any,
) -> Gradients:
    """Differentiate sum(cotangent * variational_graph_erosion(...)) with respect to every argument."""
    return solve_gradient(_variational(-1, x, edges, bias, weight, logit_level, **options), cotangent)


def regularised_graph_dilation_gradient(
    x: ArrayLike,
    edges: ArrayLike,
    bias: ArrayLike | None,
    logit_level: ArrayLike,
    coupling: ArrayLike,
    cotangent: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    **options: Any,
) -> Gradients:
    """Differentiate sum(cotangent * regularised_graph_dilation(...)) with respect to every argument."""
    return solve_gradient(_regularised(1, x, edges, bias, weight, logit_level, coupling, **options), cotangent)


def regularised_graph_erosion_gradient(
    x: ArrayLike,
    edges: ArrayLike,
    bias: ArrayLike | None,
    logit_level: ArrayLike,
    coupling: ArrayLike,
    cotangent: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    **options: Any,
) -> Gradients:
    """Differentiate sum(cotangent * regularised_graph_erosion(...)) with respect to every argument."""
    return solve_gradient(_regularised(-1, x, edges, bias, weight, logit_level, coupling, **options), cotangent)


# --- joint ----------------------------------------------------------------------------------------------------------


def _joint(
    directions: tuple[int, int],
    x: ArrayLike,
    edges: ArrayLike,
    bias: ArrayLike | None,
    weight: ArrayLike | None,
    logit_levels: ArrayLike,
    eta: ArrayLike,
    *,
    penalty: str = "expectile",
    smoothing: ArrayLike | None = None,
    self_edge: bool = True,
) -> Instance:
    nodes = np.shape(x)[-2]
    pairs, mu = _pairs(edges, nodes), smoothing_name(penalty, smoothing)
    first, second = (_families(pairs, bias, direction, nodes, self_edge) for direction in directions)
    families = joint_families(first[0], second[0], nodes, weight is not None, mu)
    if self_edge:
        families += joint_families(first[1], second[1], nodes, False, mu)
    arguments = {
        "x": x,
        "bias": bias,
        "weight": weight,
        "logit_levels": logit_levels,
        "eta": eta,
        "smoothing": smoothing,
    }
    return instance(families, 2, arguments, _spreads(np.shape(x), pairs.shape[1]))


def joint_graph_opening(
    x: ArrayLike,
    edges: ArrayLike,
    bias: ArrayLike | None,
    logit_levels: ArrayLike,
    eta: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    **options: Any,
) -> Array:
    """Minimise over u and y together: erosion edges x -> u at edge level logit_levels[0], eta times dilation edges u -> y.

    Options: penalty, smoothing, self_edge.
    """
    return _output(_joint(OPENING, x, edges, bias, weight, logit_levels, eta, **options), np.shape(x))


def joint_graph_closing(
    x: ArrayLike,
    edges: ArrayLike,
    bias: ArrayLike | None,
    logit_levels: ArrayLike,
    eta: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    **options: Any,
) -> Array:
    """Minimise over u and y together: dilation edges x -> u at edge level logit_levels[0], eta times erosion edges u -> y.

    Options: penalty, smoothing, self_edge.
    """
    return _output(_joint(CLOSING, x, edges, bias, weight, logit_levels, eta, **options), np.shape(x))


def joint_graph_opening_gradient(
    x: ArrayLike,
    edges: ArrayLike,
    bias: ArrayLike | None,
    logit_levels: ArrayLike,
    eta: ArrayLike,
    cotangent: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    **options: Any,
) -> Gradients:
    """Differentiate sum(cotangent * joint_graph_opening(...)) with respect to every argument."""
    return solve_gradient(_joint(OPENING, x, edges, bias, weight, logit_levels, eta, **options), cotangent)


def joint_graph_closing_gradient(
    x: ArrayLike,
    edges: ArrayLike,
    bias: ArrayLike | None,
    logit_levels: ArrayLike,
    eta: ArrayLike,
    cotangent: ArrayLike,
    *,
    weight: ArrayLike | None = None,
    **options: Any,
) -> Gradients:
    """Differentiate sum(cotangent * joint_graph_closing(...)) with respect to every argument."""
    return solve_gradient(_joint(CLOSING, x, edges, bias, weight, logit_levels, eta, **options), cotangent)
