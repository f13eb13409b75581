"""Max-plus morphology on graphs: features of nodes, structuring by edges.

Features x are (nodes, F), or (B, nodes, F) for several signals on one graph. Edges are (2, E) integers, source -> target.
Every node has an edge to itself besides (bias 0, weight 1), listed last, unless `self_edge` is False.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from varmorph.jax.arguments import check_edges, check_features, check_per_edge
from varmorph.jax.backend.choice import compute_dtype, kernels_are_excluded, on_platform
from varmorph.jax.backend.ffi import call_kernel
from varmorph.jax.separable.neighbours import negative_offsets
from varmorph.jax.shapes import EdgeList, Features, PerEdge

__all__ = ["Structure", "graph_closing", "graph_dilation", "graph_erosion", "graph_opening", "structure_of"]


class Structure(NamedTuple):
    """The edges with those of the nodes to themselves, and what they carry: `bias` and `weight` are (F or 1, E)."""

    source: jax.Array | np.ndarray
    target: jax.Array | np.ndarray
    bias: jax.Array
    weight: jax.Array

    def reversed(self) -> Structure:
        """The edges of the erosion: ends swapped, offsets with the other sign."""
        return Structure(self.target, self.source, negative_offsets(self.bias), self.weight)


def structure_of(
    x: jax.Array, edges: jax.Array, bias: PerEdge | None, weight: PerEdge | None, self_edge: bool
) -> Structure:
    """Check edges, offsets and weights, and add the edges of the nodes to themselves."""
    nodes, features = x.shape[-2:]
    pairs = check_edges("edges", edges, nodes)
    dtype = compute_dtype(x)
    offsets = check_per_edge("bias", bias, pairs.shape[1], features, x, 0.0).astype(dtype)
    weights = check_per_edge("weight", weight, pairs.shape[1], features, x, 1.0).astype(dtype)
    if self_edge:
        pairs = _with_own_edges(pairs, nodes)
        offsets = jnp.concatenate((offsets, jnp.zeros((offsets.shape[0], nodes), dtype)), 1)
        weights = jnp.concatenate((weights, jnp.ones((weights.shape[0], nodes), dtype)), 1)
    return Structure(pairs[0], pairs[1], offsets, weights)


def _with_own_edges(pairs: jax.Array | np.ndarray, nodes: int) -> jax.Array | np.ndarray:
    """Add an edge from each node to itself behind the others; edges that are known stay so."""
    own = np.broadcast_to(np.arange(nodes, dtype=np.int32), (2, nodes))
    return np.concatenate((pairs, own), 1) if isinstance(pairs, np.ndarray) else jnp.concatenate((pairs, own), 1)


def _dilate(x: jax.Array, structure: Structure, sign: int) -> jax.Array:
    """Compute sign * max(sign * x_s + b) over the edges s -> t into each node."""
    batch = (x if x.ndim == 3 else x[None]).astype(compute_dtype(x))
    source, target = jnp.asarray(structure.source), jnp.asarray(structure.target)
    bias = structure.bias.T
    if source.size == 0:
        y = jnp.full_like(batch, -sign * jnp.inf)
    elif kernels_are_excluded():
        chosen = jax.lax.stop_gradient(_first_edges(batch, bias, source, target, sign))
        y = _at_edges(batch, bias, source, chosen, sign)
    else:
        y = _supremum(batch, bias, source, target, sign)
    return y.reshape(x.shape).astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _supremum(x: jax.Array, bias: jax.Array, source: jax.Array, target: jax.Array, sign: int) -> jax.Array:
    return _forward(x, bias, source, target, sign)[0]


def _forward(
    x: jax.Array, bias: jax.Array, source: jax.Array, target: jax.Array, sign: int
) -> tuple[jax.Array, tuple[Any, ...]]:
    results = jax.ShapeDtypeStruct(x.shape, x.dtype), jax.ShapeDtypeStruct(x.shape, jnp.int32)

    def by_kernel(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        return call_kernel("graph_maxplus.supremum", results, *arrays, options=(sign,))

    def by_xla(x: jax.Array, bias: jax.Array, source: jax.Array, target: jax.Array) -> tuple[jax.Array, ...]:
        chosen = _first_edges(x, bias, source, target, sign)
        return _at_edges(x, bias, source, chosen, sign), chosen

    y, chosen = on_platform(by_kernel, by_xla, x, bias, source, target)
    return y, (chosen, bias, source, target)


def _backward(sign: int, kept: tuple[Any, ...], grad_y: jax.Array) -> tuple[Any, ...]:
    results = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in (grad_y, kept[1])]

    def by_kernel(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        return call_kernel("graph_maxplus.supremum_backward", results, *arrays, options=(sign,))

    def by_xla(
        grad_y: jax.Array, chosen: jax.Array, bias: jax.Array, source: jax.Array, target: jax.Array
    ) -> tuple[jax.Array, ...]:
        at_edges = partial(_at_edges, source=source, chosen=chosen, sign=sign)
        return jax.vjp(lambda x, bias: at_edges(x, bias), jnp.zeros_like(grad_y), bias)[1](grad_y)

    grad_x, grad_bias = on_platform(by_kernel, by_xla, grad_y, *kept)
    return grad_x, grad_bias, None, None


_supremum.defvjp(_forward, _backward)


def _first_edges(x: jax.Array, bias: jax.Array, source: jax.Array, target: jax.Array, sign: int) -> jax.Array:
    """Find the first edge that attains the maximum at each node, the number of edges where all are -inf."""
    nodes, edges = x.shape[1], source.size
    values = jnp.moveaxis(sign * x[:, source], 1, 0)  # (E, B, F)
    values = jnp.where(
        jnp.isneginf(bias)[:, None], -jnp.inf, values + jnp.where(jnp.isneginf(bias), 0.0, bias)[:, None]
    )
    greatest = jax.ops.segment_max(values, target, nodes)
    attains = (values == greatest[target]) | jnp.isnan(values)
    number = jnp.arange(edges, dtype=jnp.int32)[:, None, None]
    first = jax.ops.segment_min(jnp.where(attains, number, edges), target, nodes)
    return jnp.moveaxis(jnp.where(jnp.isneginf(greatest), edges, jnp.minimum(first, edges)), 0, 1).astype(jnp.int32)


def _at_edges(x: jax.Array, bias: jax.Array, source: jax.Array, chosen: jax.Array, sign: int) -> jax.Array:
    """Take the values of given edges."""
    nothing = chosen == source.size
    edge = jnp.where(nothing, 0, chosen)
    offset = bias[edge, 0] if bias.shape[1] == 1 else jnp.take_along_axis(bias[None], edge, 1)
    found = sign * jnp.take_along_axis(x, source[edge], 1) + jnp.where(nothing, 0.0, offset)
    return sign * jnp.where(nothing, -jnp.inf, found) + 0.0


def graph_dilation(x: Features, edges: EdgeList, bias: PerEdge | None = None, *, self_edge: bool = True) -> Features:
    """Max-plus dilation on a graph: y_t is the greatest x_s + b over the edges s -> t.

    Parameters
    ----------
    x : (nodes, F) or (B, nodes, F)
        Features, floating point.
    edges : (2, E)
        Sources and targets, integers in 0 ... nodes - 1.
    bias : number, () or (E,) or (E, F), optional
        Offset b of each edge; -inf leaves it out. Default: 0.
    self_edge : bool
        Whether each node sees itself as well, with offset 0.

    Returns
    -------
    Of the shape of x; -inf at a node that no edge leads to.

    Raises
    ------
    TypeError, ValueError
        If x, edges or bias has a wrong type or shape, or an edge names a node that is not there.

    Notes
    -----
    Where several edges attain the maximum, the first in the list takes the gradient; a node's edge to itself is last.
    Source: F. Meyer, J. Stawiaski (2009), Morphology on graphs and minimum spanning trees, ISMM, section 2, for flat ones.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> path = jnp.array([[0, 1, 2], [1, 2, 3]])
    >>> graph_dilation(jnp.array([[3.0], [0.0], [1.0], [2.0]]), path, -0.5).flatten()
    Array([3. , 2.5, 1. , 2. ], dtype=float32)
    """
    x = check_features(x)
    return _dilate(x, structure_of(x, edges, bias, None, self_edge), 1)


def graph_erosion(x: Features, edges: EdgeList, bias: PerEdge | None = None, *, self_edge: bool = True) -> Features:
    """Max-plus erosion on a graph, the adjoint of `graph_dilation`: y_s is the least x_t - b over the edges s -> t.

    Arguments and errors are those of `graph_dilation`; a node that no edge leaves is +inf.
    """
    x = check_features(x)
    structure = structure_of(x, edges, bias, None, self_edge)
    return _dilate(x, structure._replace(source=structure.target, target=structure.source), -1)


def graph_opening(x: Features, edges: EdgeList, bias: PerEdge | None = None, *, self_edge: bool = True) -> Features:
    """Opening on a graph: dilation of the erosion. Arguments and errors are those of `graph_dilation`."""
    return graph_dilation(graph_erosion(x, edges, bias, self_edge=self_edge), edges, bias, self_edge=self_edge)


def graph_closing(x: Features, edges: EdgeList, bias: PerEdge | None = None, *, self_edge: bool = True) -> Features:
    """Closing on a graph: erosion of the dilation. Arguments and errors are those of `graph_dilation`."""
    return graph_erosion(graph_dilation(x, edges, bias, self_edge=self_edge), edges, bias, self_edge=self_edge)
