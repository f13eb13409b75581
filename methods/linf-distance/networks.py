"""Networks of distance neurons with the geometry of the certified variational network."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from morphobench.contract import Task
from morphobench.training.torch.bounded import BoundedNetwork, bounded_network

from .layers import DistanceConv2d, DistanceLinear, Scores


def network(task: Task, params: Mapping[str, Any]) -> BoundedNetwork:
    """Return the network of a task."""
    made = (
        partial(layer, initial_spread=params["initial_spread"]) for layer in (DistanceConv2d, DistanceLinear, Scores)
    )
    return bounded_network(task, params["architecture"], params["widths"], *made)
