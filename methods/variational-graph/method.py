"""Networks of morphological operations on graphs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from morphobench.contract import InvalidPlugin, Task

from .operations import KINDS, halves


def build(task: Task, params: Mapping[str, Any]) -> nn.Module:
    """Return blocks of operations between a linear map of the features and linear scores."""
    if params["kind"] not in KINDS:
        raise InvalidPlugin(f"variational-graph: key 'kind': found {params['kind']!r}, expected {', '.join(KINDS)}")
    return MorphologicalGraphNetwork(task.input_shape[0], task.outputs, params)


class Block(nn.Module):
    """Operations on each channel, then the mixing of the channels of each node: linear, ReLU.

    Parameters
    ----------
    channels : int
        Number of channels, at least 2.
    params : mapping
        See method.yaml.
    """

    def __init__(self, channels: int, params: Mapping[str, Any]):
        super().__init__()
        self.operations = halves(params["kind"], channels, params)
        self.mixing = nn.Linear(channels, channels)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Map (nodes, channels) to the same shape."""
        return self.mixing(self.operations(x, edges)).relu()


class MorphologicalGraphNetwork(nn.Module):
    """Linear map of the features, blocks, linear scores.

    Parameters
    ----------
    features, outputs : int
        Numbers of features and of scores of a node.
    params : mapping
        See method.yaml.
    """

    def __init__(self, features: int, outputs: int, params: Mapping[str, Any]):
        super().__init__()
        hidden = params["hidden"]
        self.stem = nn.Linear(features, hidden)
        self.blocks = nn.ModuleList([Block(hidden, params) for _ in range(params["blocks"])])
        self.normalise = params["normalise"]
        self.dropout = nn.Dropout(params["dropout"])
        self.scores = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        """Map features (nodes, features) and edges (2, E) to scores (nodes, outputs)."""
        y = self.stem(x)
        for block in self.blocks:
            y = block(y, edges)
        if self.normalise:
            y = F.normalize(y, dim=-1)
        return self.scores(self.dropout(y))
