"""The nodes of a graph minimised each alone, over the edges into it."""

from __future__ import annotations

import torch
from torch import Tensor

from varmorph.torch.energy.energy import Edges
from varmorph.torch.energy.incidence import GraphDataEdges
from varmorph.torch.separable.minimisation import minimise_each

__all__ = ["minimise_each_node"]


def minimise_each_node(pulls: Edges, level: Tensor, penalty: str, mu: Tensor | None) -> Tensor:
    """Minimise over each node alone: (B, F, nodes); nodes of similar degree are gathered into one array of slots."""
    endpoints = pulls.incidence
    assert isinstance(endpoints, GraphDataEdges)
    if pulls.offset.device.type == "meta":
        return pulls.offset.new_empty(*pulls.offset.shape[:2], endpoints.nodes)
    values, weights = pulls.offset, pulls.weight.expand(1, *pulls.offset.shape[1:])
    degree = torch.bincount(endpoints.targets, minlength=endpoints.nodes)
    order = endpoints.targets.argsort(stable=True)
    first = degree.cumsum(0) - degree
    size = torch.where(degree > 0, (2 ** degree.clamp(min=1).double().log2().ceil()).long(), 0)
    solved, nodes = [], []
    for slots in size.unique().tolist():
        members = (size == slots).nonzero().flatten()
        nodes.append(members)
        if slots == 0:
            solved.append(values.new_full((*values.shape[:2], members.numel()), torch.nan))
            continue
        place = torch.arange(slots, device=values.device)[:, None]
        present = place < degree[members]
        edge = order[(first[members] + place).clamp(max=order.numel() - 1)]
        gathered = [
            e.index_select(-1, edge.flatten()).unflatten(-1, edge.shape).movedim(-2, 0) for e in (values, weights)
        ]
        missing = ~present[:, None, None]
        solved.append(
            minimise_each(
                gathered[0].masked_fill(missing, 0.0), gathered[1].masked_fill(missing, 0.0), level, penalty, mu
            )
        )
    back = torch.cat(nodes).argsort()
    return torch.cat(solved, -1).index_select(-1, back)
