"""Networks of sorting neurons with the geometry of the certified variational network."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from morphobench.contract import Task
from morphobench.training.torch.bounded import BoundedNetwork, bounded_network

from .layers import Scores, SortConv2d, SortLinear


def network(task: Task, params: Mapping[str, Any]) -> BoundedNetwork:
    """Return the network of a task."""
    drawn = {"rho": params["rho"], "initial_spread": params["initial_spread"]}
    made = (partial(layer, **drawn) for layer in (SortConv2d, SortLinear, Scores))
    return bounded_network(task, params["architecture"], params["widths"], *made)
