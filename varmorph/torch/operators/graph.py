"""Max-plus morphology on graphs: features of nodes, structuring by edges.

Features x are (nodes, F), or (B, nodes, F) for several signals on one graph. Edges are (2, E) integers, source -> target.
Every node has an edge to itself besides (bias 0, weight 1), listed last, unless `self_edge` is False.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from varmorph.torch.arguments import check_edges, check_features, check_per_edge
from varmorph.torch.backend.choice import compute_dtype, implementation
from varmorph.torch.backend.ops import graph as ops
from varmorph.torch.backend.ops.calls import call, differentiable_as
from varmorph.torch.separable.neighbours import negative_offsets
from varmorph.torch.shapes import EdgeList, Features, PerEdge

__all__ = [
    "Structure",
    "features_of",
    "graph_closing",
    "graph_dilation",
    "graph_erosion",
    "graph_opening",
    "signals_of",
    "structure_of",
]


def _supremum_backward(
    grad_y: Tensor, chosen: Tensor, bias: Tensor, source: Tensor, target: Tensor, sign: int
) -> tuple[Tensor, ...]:
    """Give the gradient of y to the source and the bias of the chosen edge, in tensor code."""
    number = chosen.long()
    exists = (number >= 0) & (number < source.numel())
    number = number.where(exists, 0)

    def selected(x: Tensor, bias: Tensor) -> Tensor:
        offsets = (sign * bias).expand(-1, x.shape[-1]) if source.numel() else bias.new_zeros(1, x.shape[-1])
        ends = source[number] if source.numel() else number
        return (x.gather(1, ends) + offsets.expand(len(x), -1, -1).gather(1, number)) * exists

    pull = torch.func.vjp(selected, torch.zeros_like(grad_y), torch.zeros_like(bias))[1]
    return tuple(pull(grad_y))


differentiable_as(ops.supremum_backward, _supremum_backward)


class Structure(NamedTuple):
    """The edges with those of the nodes to themselves, and what they carry: `bias` and `weight` are (F or 1, E)."""

    source: Tensor
    target: Tensor
    bias: Tensor
    weight: Tensor

    def reversed(self) -> Structure:
        """The edges of the erosion: ends swapped, offsets with the other sign."""
        return Structure(self.target, self.source, negative_offsets(self.bias), self.weight)


def structure_of(x: Tensor, edges: Tensor, bias: PerEdge | None, weight: PerEdge | None, self_edge: bool) -> Structure:
    """Check edges, offsets and weights, and add the edges of the nodes to themselves."""
    nodes, features = x.shape[-2:]
    pairs = check_edges("edges", edges, nodes, x.device)
    offsets = check_per_edge("bias", bias, pairs.shape[1], features, x, 0.0)
    weights = check_per_edge("weight", weight, pairs.shape[1], features, x, 1.0)
    if self_edge:
        own = torch.arange(nodes, device=x.device)
        pairs = torch.cat((pairs, own.expand(2, nodes)), 1)
        offsets = torch.cat((offsets, offsets.new_zeros(offsets.shape[0], nodes)), 1)
        weights = torch.cat((weights, weights.new_ones(weights.shape[0], nodes)), 1)
    return Structure(pairs[0], pairs[1], offsets, weights)


def signals_of(x: Tensor) -> Tensor:
    """Bring features to the form of problems: (B, F, nodes)."""
    batch = x if x.ndim == 3 else x[None]
    return batch.to(compute_dtype(x)).transpose(1, 2)


def features_of(signals: Tensor, x: Tensor) -> Tensor:
    """Undo `signals_of`."""
    result = signals.transpose(1, 2).to(x.dtype)
    return result if x.ndim == 3 else result[0]


def _supremum(signals: Tensor, structure: Structure) -> Tensor:
    """Greatest x_s + b over the edges into each node; the first such edge takes the gradient; -inf without edges."""
    batch, features, nodes = signals.shape
    count = structure.target.numel()
    nothing = signals.new_full((batch, features, nodes), -torch.inf)
    if count == 0:
        return signals.masked_fill(torch.ones_like(signals, dtype=torch.bool), -torch.inf)
    offset = structure.bias.to(signals.dtype)
    absent = torch.isneginf(offset)
    values = signals.index_select(-1, structure.source) + offset.masked_fill(absent, 0.0)
    values = values.masked_fill(absent, -torch.inf)
    target = structure.target.expand(values.shape)
    with torch.no_grad():
        greatest = nothing.scatter_reduce(-1, target, values.detach(), "amax").gather(-1, target)
        attains = (values == greatest) | values.isnan()
        number = torch.arange(count, device=signals.device).expand(values.shape)
        first = torch.full(nothing.shape, count, device=signals.device)
        first = first.scatter_reduce(-1, target, number.where(attains, count), "amin").clamp(max=count - 1)
    found = values.gather(-1, first)
    present = (
        torch.zeros(nodes, device=signals.device).index_add(
            0, structure.target, torch.ones(count, device=signals.device)
        )
        > 0
    )
    return found.masked_fill(~present | torch.isneginf(found), -torch.inf)


def _dilate(x: Tensor, structure: Structure, sign: int) -> Tensor:
    """Compute sign * max(sign * x_s + b) over the edges s -> t into each node."""
    if implementation("this graph operator", x.device) == "cpu":
        batch = (x if x.ndim == 3 else x[None]).to(compute_dtype(x))
        y, _ = call(ops.supremum, batch, structure.bias.t().to(batch.dtype), structure.source, structure.target, sign)
        return y.view(x.shape).to(x.dtype)
    if sign > 0:
        return features_of(_supremum(signals_of(x), structure), x)
    return features_of(0.0 - _supremum(-signals_of(x), structure), x)


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
    >>> import torch
    >>> path = torch.tensor([[0, 1, 2], [1, 2, 3]])
    >>> graph_dilation(torch.tensor([[3.0], [0.0], [1.0], [2.0]]), path, -0.5).flatten()
    tensor([3.0000, 2.5000, 1.0000, 2.0000])
    """
    x = check_features(x)
    return _dilate(x, structure_of(x, edges, bias, None, self_edge), 1)


def graph_erosion(x: Features, edges: EdgeList, bias: PerEdge | None = None, *, self_edge: bool = True) -> Features:
    """Max-plus erosion on a graph, the adjoint of `graph_dilation`: y_s is the least x_t - b over the edges s -> t.

    Arguments and errors are those of `graph_dilation`; a node that no edge leaves is +inf.

    Examples
    --------
    >>> import torch
    >>> path = torch.tensor([[0, 1, 2], [1, 2, 3]])
    >>> graph_erosion(torch.tensor([[3.0], [0.0], [1.0], [2.0]]), path).flatten()
    tensor([0., 0., 1., 2.])
    """
    x = check_features(x)
    structure = structure_of(x, edges, bias, None, self_edge)
    turned = structure._replace(source=structure.target, target=structure.source)
    return _dilate(x, turned, -1)


def graph_opening(x: Features, edges: EdgeList, bias: PerEdge | None = None, *, self_edge: bool = True) -> Features:
    """Opening on a graph: dilation of the erosion. Arguments and errors are those of `graph_dilation`.

    Examples
    --------
    >>> import torch
    >>> ring = torch.tensor([[0, 1, 2, 3, 1, 2, 3, 0], [1, 2, 3, 0, 0, 1, 2, 3]])
    >>> graph_opening(torch.tensor([[3.0], [0.0], [0.0], [0.0]]), ring).flatten()
    tensor([0., 0., 0., 0.])
    """
    return graph_dilation(graph_erosion(x, edges, bias, self_edge=self_edge), edges, bias, self_edge=self_edge)


def graph_closing(x: Features, edges: EdgeList, bias: PerEdge | None = None, *, self_edge: bool = True) -> Features:
    """Closing on a graph: erosion of the dilation. Arguments and errors are those of `graph_dilation`.

    Examples
    --------
    >>> import torch
    >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> graph_closing(torch.tensor([[3.0], [0.0], [3.0]]), path).flatten()
    tensor([3., 3., 3.])
    """
    return graph_erosion(graph_dilation(x, edges, bias, self_edge=self_edge), edges, bias, self_edge=self_edge)
