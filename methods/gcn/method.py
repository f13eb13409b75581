"""The graph convolutional network of Kipf and Welling (2017), by index_add instead of a sparse product."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from morphobench.contract import Task


def build(task: Task, params: Mapping[str, Any]) -> nn.Module:
    """Return two graph convolutions with a ReLU in between."""
    return GraphConvolutionalNetwork(task.input_shape[0], task.outputs, params)


class GraphConvolutionalNetwork(nn.Module):
    """Scores P relu(P x W1) W2 of nodes, P being the normalised propagation (equation 9 of the paper)."""

    def __init__(self, features: int, outputs: int, params: Mapping[str, Any]):
        super().__init__()
        self.first = GraphConvolution(features, params["hidden"])
        self.second = GraphConvolution(params["hidden"], outputs)
        self.dropout, self.symmetric = params["dropout"], params["symmetric"]
        penalise(self.first.weight, params["weight_decay"])

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Map features (nodes, F) and edges (2, E) to scores (nodes, K)."""
        edges, weights = propagation(edges, len(x), symmetric=self.symmetric)
        x = F.dropout(x, self.dropout, self.training)
        x = F.relu(self.first(x, edges, weights))
        x = F.dropout(x, self.dropout, self.training)
        return self.second(x, edges, weights)


class GraphConvolution(nn.Module):
    """A linear map of the features, their propagation, and a bias; first weights as in the reference code."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(inputs, outputs)))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, edges: Tensor, weights: Tensor) -> Tensor:
        """Map features (nodes, inputs) to (nodes, outputs)."""
        return propagate(x @ self.weight, edges, weights) + self.bias


def penalise(weight: nn.Parameter, decay: float) -> None:
    """Add the gradient of ``decay / 2`` times the sum of squares to that of the loss, as Adam's own weight decay does."""
    weight.register_hook(lambda gradient: gradient + decay * weight.detach())


def propagation(edges: Tensor, nodes: int, *, symmetric: bool) -> tuple[Tensor, Tensor]:
    """Return the edges with self-loops, and their weights 1 / sqrt(d_out(source) d_in(target)), loops counted.

    Parameters
    ----------
    edges : Tensor
        (2, E), source to target, without self-loops.
    symmetric : bool
        Whether each edge counts in both directions, once where both are given: then the weights are those of
        D^-1/2 (A + I) D^-1/2 (section 2 of the paper). Otherwise the edges are taken as they are.
    """
    if symmetric:
        numbers = torch.unique(torch.cat([edges[0] * nodes + edges[1], edges[1] * nodes + edges[0]]))
        edges = torch.stack([numbers // nodes, numbers % nodes])
    loops = torch.arange(nodes, device=edges.device).expand(2, nodes)
    edges = torch.cat([edges, loops], dim=1)
    leaving, arriving = (torch.bincount(endpoints, minlength=nodes).float() for endpoints in edges)
    return edges, (leaving[edges[0]] * arriving[edges[1]]).rsqrt()


def propagate(x: Tensor, edges: Tensor, weights: Tensor) -> Tensor:
    """Sum at each target the weighted features (nodes, F) of the sources of its edges."""
    return torch.zeros_like(x).index_add(0, edges[1], weights[:, None].to(x.dtype) * x.index_select(0, edges[0]))
