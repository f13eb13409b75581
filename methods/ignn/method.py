"""Implicit graph neural network: the state of every node is an equilibrium with those of its neighbours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from morphobench.contract import InvalidPlugin, Task

from .adjacency import Adjacency, perron_frobenius
from .implicit_graph import Convergence, Limits, equilibrium
from .well_posedness import project_rows, scale_rows

CONSTRAINTS = ("projection", "parametrisation")
INPUTS = ("own", "gathered")


def build(task: Task, params: Mapping[str, Any]) -> nn.Module:
    """Return one implicit layer and linear scores of its states."""
    if params["well_posedness"] not in CONSTRAINTS:
        raise InvalidPlugin(
            f"ignn: key 'well_posedness': found {params['well_posedness']!r}, expected {' or '.join(CONSTRAINTS)}"
        )
    if params["input"] not in INPUTS:
        raise InvalidPlugin(f"ignn: key 'input': found {params['input']!r}, expected {' or '.join(INPUTS)}")
    layer = ImplicitGraph(
        task.input_shape[0],
        params["hidden"],
        kappa=params["kappa"],
        well_posedness=params["well_posedness"],
        gathered=params["input"] == "gathered",
        limits=Limits(params["tolerance"], params["max_steps"]),
    )
    return ImplicitGraphNetwork(layer, task.outputs, params["dropout"], params["normalise"])


class ImplicitGraph(nn.Module):
    """The equilibrium X = relu(W X A + Omega U), or X = relu(W X A + Omega U (A + 1)), with ||W||_inf lambda_PF(A) <= kappa.

    Parameters
    ----------
    features, hidden : int
        Numbers of features and of states of a node.
    kappa : float
        In (0, 1): the iteration contracts at least as fast.
    well_posedness : str
        ``"projection"``: W is projected before each call (in evaluation mode a copy of it, since evaluation changes nothing);
        ``"parametrisation"``: rows that are too long are scaled, and the gradient goes through the scaling.
    gathered : bool
        Whether the input of a node is that of its neighbours too, the second of the two equations.
    limits : Limits
        Of the iterations.

    Attributes
    ----------
    weight : (hidden, hidden)
        W, or what it is made of.
    omega : (hidden, features)
        Omega.
    convergence : Convergence
        Of the last call.
    """

    def __init__(
        self, features: int, hidden: int, *, kappa: float, well_posedness: str, gathered: bool, limits: Limits
    ):
        super().__init__()
        self.gathered = gathered
        self.kappa, self.well_posedness, self.limits = kappa, well_posedness, limits
        deviation = 1 / math.sqrt(hidden)
        self.weight = nn.Parameter(torch.empty(hidden, hidden).uniform_(-deviation, deviation))
        self.omega = nn.Parameter(torch.empty(hidden, features).uniform_(-deviation, deviation))
        self.convergence = Convergence()
        self.graph: Adjacency | None = None  # of the last call: training asks for the same graph again and again
        self.radius = math.nan

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Map features (nodes, features) and edges (2, E) to states (nodes, hidden)."""
        inputs = x @ self.omega.T
        if self.graph is None or not self.graph.fits(edges, inputs):
            self.graph = Adjacency(edges, len(x), inputs)
            self.radius = self.kappa / perron_frobenius(self.graph)
        if self.gathered:
            inputs = inputs + self.graph.gather(inputs)
        self.convergence = Convergence()
        return equilibrium(self.well_posed_weight(), inputs, self.graph, self.limits, self.convergence)

    def well_posed_weight(self) -> Tensor:
        """Return W."""
        if self.well_posedness == "parametrisation":
            return scale_rows(self.weight, self.radius)
        if not self.training:
            return project_rows(self.weight, self.radius)
        with torch.no_grad():  # the second half of a projected gradient step
            self.weight.copy_(project_rows(self.weight, self.radius))
        return self.weight


class ImplicitGraphNetwork(nn.Module):
    """An implicit layer between two dropouts, states scaled to length 1 if asked for, linear scores.

    Parameters
    ----------
    layer : ImplicitGraph
        The layer.
    outputs : int
        Number of scores.
    dropout : float
        Share of the features, and of the states, that training leaves out.
    normalise : bool
        Whether to scale the states of each node to length 1, as the authors' program does for chains: states fade by at
        least 1 - kappa from node to node.
    """

    def __init__(self, layer: ImplicitGraph, outputs: int, dropout: float, normalise: bool):
        super().__init__()
        self.layer, self.normalise = layer, normalise
        self.dropout = nn.Dropout(dropout)
        self.scores = nn.Linear(layer.weight.shape[0], outputs)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Map features (nodes, features) and edges (2, E) to scores (nodes, outputs)."""
        states = self.layer(self.dropout(x), edges)
        if self.normalise:
            states = F.normalize(states, dim=-1)
        return self.scores(self.dropout(states))
