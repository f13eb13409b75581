"""Morphological operations on graphs as layers: one offset, weight and level for each channel, the same on all edges.

An edge i -> j lets j see i, and every node sees itself with offset 0 and weight 1, see `varmorph.torch.graph_dilation`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from varmorph import torch as morphology
from varmorph.adjoints import Implicit
from varmorph.torch import Certificate, Newton, Solution


class GraphOperation(nn.Module):
    """What the operations share: an offset and a weight of the edges for each channel, and the certificate of the last call.

    Parameters
    ----------
    channels : int
        Number of channels.
    name : str
        The operation: dilation or erosion, opening or closing.
    params : mapping
        See method.yaml.

    Attributes
    ----------
    bias, log_weight : (channels,)
        Offset, and logarithm of the weight against that of a node itself; zeros at first.
    certificates : list of Certificate
        That of the last call; none where every node is solved for itself, exactly.
    """

    def __init__(self, channels: int, name: str, params: Mapping[str, Any]):
        super().__init__()
        self.name = name
        self.methods = {
            "solver": Newton(tolerance=params["tolerance"]),
            "adjoint": Implicit(tolerance=params["tolerance"]),
        }
        self.bias = nn.Parameter(torch.zeros(channels))
        self.log_weight = nn.Parameter(torch.zeros(channels))
        self.certificates: list[Certificate] = []

    def carried(self, edges: Tensor) -> tuple[Tensor, Tensor]:
        """Return offsets and weights (E, channels)."""
        count = edges.shape[1]
        return self.bias.expand(count, -1), self.log_weight.exp().expand(count, -1)

    def keep(self, solution: Solution) -> Tensor:
        """Remember the certificate; return the value."""
        self.certificates = [solution.certificate]
        return solution.value


class Exact(GraphOperation):
    """Max-plus dilation, erosion, opening or closing; weights have no part in it."""

    def __init__(self, channels: int, name: str, params: Mapping[str, Any]):
        super().__init__(channels, name, params)
        del self.log_weight

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Apply the operation to (nodes, channels)."""
        return getattr(morphology, f"graph_{self.name}")(x, edges, self.bias.expand(edges.shape[1], -1))


class Separable(GraphOperation):
    """Variational dilation or erosion, each node for itself: what a node knows moves on by one edge."""

    def __init__(self, channels: int, name: str, params: Mapping[str, Any]):
        super().__init__(channels, name, params)
        self.logit_level = nn.Parameter(torch.full((channels,), float(params["initial_level"])))

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Apply the operation to (nodes, channels)."""
        offsets, weights = self.carried(edges)
        operation = getattr(morphology, f"variational_graph_{self.name}")
        return operation(x, edges, offsets, self.logit_level, weight=weights)


class Regularised(Separable):
    """Variational dilation or erosion whose results at the ends of each edge are held together, in both directions."""

    def __init__(self, channels: int, name: str, params: Mapping[str, Any]):
        super().__init__(channels, name, params)
        self.log_coupling = nn.Parameter(torch.full((channels,), math.log(params["initial_coupling"])))

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Apply the operation to (nodes, channels)."""
        offsets, weights = self.carried(edges)
        operation = getattr(morphology, f"regularised_graph_{self.name}")
        coupling = self.log_coupling.exp()
        solution = operation(x, edges, offsets, self.logit_level, coupling, weight=weights, **self.methods)
        return self.keep(solution)


class Composed(GraphOperation):
    """Variational opening or closing: one solve after the other, each node for itself."""

    def __init__(self, channels: int, name: str, params: Mapping[str, Any]):
        super().__init__(channels, name, params)
        self.logit_levels = nn.Parameter(torch.full((2, channels), float(params["initial_level"])))

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Apply the operation to (nodes, channels)."""
        offsets, weights = self.carried(edges)
        order = [morphology.variational_graph_erosion, morphology.variational_graph_dilation]
        for step, level in zip(order if self.name == "opening" else order[::-1], self.logit_levels, strict=True):
            x = step(x, edges, offsets, level, weight=weights)
        return x


class Joint(GraphOperation):
    """Joint opening or closing: both steps minimise one energy, which binds all nodes of a connected graph."""

    def __init__(self, channels: int, name: str, params: Mapping[str, Any]):
        super().__init__(channels, name, params)
        first = torch.tensor([-1.0, 1.0] if name == "opening" else [1.0, -1.0])
        self.logit_levels = nn.Parameter((params["initial_level"] * first[:, None]).repeat(1, channels))
        self.log_eta = nn.Parameter(torch.full((channels,), math.log(params["initial_eta"])))

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Apply the operation to (nodes, channels)."""
        offsets, weights = self.carried(edges)
        operation = getattr(morphology, f"joint_graph_{self.name}")
        eta = self.log_eta.exp()
        return self.keep(operation(x, edges, offsets, self.logit_levels, eta, weight=weights, **self.methods))


class Halves(nn.Module):
    """One operation on the first half of the channels, its dual on the others.

    Parameters
    ----------
    first, second : Module
        Operations for channels - channels // 2 and channels // 2 channels.
    """

    def __init__(self, first: GraphOperation, second: GraphOperation):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Apply both to (nodes, channels)."""
        count = len(self.first.bias)
        return torch.cat((self.first(x[:, :count], edges), self.second(x[:, count:], edges)), 1)


KINDS: dict[str, tuple[type[GraphOperation], str, str]] = {
    "dilation": (Separable, "dilation", "erosion"),
    "regularised": (Regularised, "dilation", "erosion"),
    "opening": (Composed, "opening", "closing"),
    "joint": (Joint, "opening", "closing"),
    "max-plus": (Exact, "dilation", "erosion"),
}


def halves(kind: str, channels: int, params: Mapping[str, Any]) -> Halves:
    """Return the operations of a kind for a number of channels."""
    operation, first, second = KINDS[kind]
    return Halves(
        operation(channels - channels // 2, first, params),
        operation(channels // 2, second, params),
    )
