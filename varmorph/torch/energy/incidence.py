"""How the edges of an energy join its unknowns: linear maps with entries -1, 0 and 1, applied by gathering and adding.

An edge leads from a source to a target. Unknowns are z (N, C, ...): everything behind the first two dimensions is one
problem. Each kind of edge reads z at its ends, and adds numbers on edges up at their ends; the difference of the two
reads is the discrete gradient of the edges, and its adjoint their divergence.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from varmorph.torch.separable.neighbours import add_at_sources, edge_values
from varmorph.windows import Window

__all__ = ["DataEdges", "GraphDataEdges", "GraphEdges", "GridEdges", "Incidence", "WindowEdges"]


class Incidence(ABC):
    """The ends of the edges of one family.

    `grounded` tells that all sources are known: their values are part of the offset of an edge, and z at a source
    counts as 0. `leading` counts the dimensions of the edges before N.
    """

    grounded: ClassVar[bool] = False
    leading: ClassVar[int] = 0

    @abstractmethod
    def at_target(self, z: Tensor) -> Tensor:
        """Read the unknown at the target of each edge."""

    @abstractmethod
    def add_at_target(self, e: Tensor) -> Tensor:
        """Sum over the edges that end at each unknown."""

    @abstractmethod
    def at_source(self, z: Tensor) -> Tensor:
        """Read the unknown at the source of each edge."""

    @abstractmethod
    def add_at_source(self, e: Tensor) -> Tensor:
        """Sum over the edges that start at each unknown."""

    def per_problem(self, e: Tensor) -> Tensor:
        """Bring the edges of each problem to the last dimension: (N, C, edges)."""
        return (e.flatten(3).movedim(0, 2) if self.leading else e).flatten(2)

    def total(self, e: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Sum over the edges of each problem: (N, C)."""
        e = e.sum(0) if self.leading else e
        return e.flatten(2).sum(-1, dtype=dtype)

    def over_edges(self, numbers: Tensor, e: Tensor) -> Tensor:
        """Give numbers of problems (N, C) the dimensions of the edges e."""
        return numbers.view(*numbers.shape, *(1,) * (e.ndim - 2 - self.leading))

    def difference(self, z: Tensor) -> Tensor:
        """Source minus target."""
        return self.at_source(z) - self.at_target(z)

    def divergence(self, e: Tensor) -> Tensor:
        """The adjoint of `difference`."""
        return self.add_at_source(e) - self.add_at_target(e)

    def degree(self, e: Tensor) -> Tensor:
        """Sum over all edges at each unknown."""
        return self.add_at_source(e) + self.add_at_target(e)


class _Grounded(Incidence):
    """Edges whose sources are known: z counts as 0 there."""

    grounded = True

    def at_source(self, z: Tensor) -> Tensor:
        return torch.zeros_like(self.at_target(z))

    def add_at_source(self, e: Tensor) -> Tensor:
        return torch.zeros_like(self.add_at_target(e))

    def difference(self, z: Tensor) -> Tensor:
        return -self.at_target(z)

    def divergence(self, e: Tensor) -> Tensor:
        return -self.add_at_target(e)

    def degree(self, e: Tensor) -> Tensor:
        return self.add_at_target(e)


def _part_of(z: Tensor, part: int | None) -> Tensor:
    return z if part is None else z[:, :, part]


def _into_part(e: Tensor, part: int | None, parts: int) -> Tensor:
    """Place numbers at one part of the unknowns, 0 at the others."""
    if part is None:
        return e
    behind = (0, 0) * (e.ndim - 2)
    return functional.pad(e.unsqueeze(2), (*behind, part, parts - 1 - part))


@dataclass(frozen=True, eq=False)
class DataEdges(_Grounded):
    """Edges from known values to each unknown, listed slot by slot: (T, N, C, ...).

    With `part`, the unknowns are (N, C, parts, ...) and only that part is pulled.
    """

    part: int | None = None
    parts: int = 1
    leading = 1

    def at_target(self, z: Tensor) -> Tensor:
        return _part_of(z, self.part)[None]

    def add_at_target(self, e: Tensor) -> Tensor:
        return _into_part(e.sum(0), self.part, self.parts)


@dataclass(frozen=True, eq=False)
class WindowEdges(Incidence):
    """Edges between two parts of the unknowns (N, C, parts, H, W), as a window sees them: (T, N, C, H, W).

    A source outside the image is known; its value is part of the offset.
    """

    window: Window
    image: tuple[int, int]
    source: int
    target: int
    parts: int
    leading = 1

    def at_target(self, z: Tensor) -> Tensor:
        return _part_of(z, self.target)[None]

    def add_at_target(self, e: Tensor) -> Tensor:
        return _into_part(e.sum(0), self.target, self.parts)

    def at_source(self, z: Tensor) -> Tensor:
        return edge_values(_part_of(z, self.source), self.window, 0.0)

    def add_at_source(self, e: Tensor) -> Tensor:
        shape = (len(self.window.elements), *e.shape[1:])
        return _into_part(add_at_sources(e.expand(shape), self.window, self.image), self.source, self.parts)


@dataclass(frozen=True, eq=False)
class GridEdges(Incidence):
    """Edges from each pixel to the next one along a dimension of the image: -2 to the pixel below, -1 to the right."""

    dim: int

    def at_target(self, z: Tensor) -> Tensor:
        return z.narrow(self.dim, 1, z.shape[self.dim] - 1)

    def add_at_target(self, e: Tensor) -> Tensor:
        return functional.pad(e, (1, 0) if self.dim == -1 else (0, 0, 1, 0))

    def at_source(self, z: Tensor) -> Tensor:
        return z.narrow(self.dim, 0, z.shape[self.dim] - 1)

    def add_at_source(self, e: Tensor) -> Tensor:
        return functional.pad(e, (0, 1) if self.dim == -1 else (0, 0, 0, 1))

    def divergence(self, e: Tensor) -> Tensor:
        # One padded copy, read at both ends: this is what conjugate gradients spend their time on.
        around = functional.pad(e, (1, 1) if self.dim == -1 else (0, 0, 1, 1))
        pixels = e.shape[self.dim] + 1
        return around.narrow(self.dim, 1, pixels) - around.narrow(self.dim, 0, pixels)


def _add(e: Tensor, nodes: Tensor, count: int) -> Tensor:
    return e.new_zeros(*e.shape[:-1], count).index_add(-1, nodes, e)


@dataclass(frozen=True, eq=False)
class GraphDataEdges(_Grounded):
    """Edges from known values to the listed nodes of a graph: (N, C, E)."""

    targets: Tensor
    nodes: int
    part: int | None = None
    parts: int = 1

    def at_target(self, z: Tensor) -> Tensor:
        return _part_of(z, self.part).index_select(-1, self.targets)

    def add_at_target(self, e: Tensor) -> Tensor:
        return _into_part(_add(e, self.targets, self.nodes), self.part, self.parts)


@dataclass(frozen=True, eq=False)
class GraphEdges(Incidence):
    """Edges between listed nodes of a graph, or from nodes of one part of the unknowns to nodes of another: (N, C, E)."""

    sources: Tensor
    targets: Tensor
    nodes: int
    source: int | None = None
    target: int | None = None
    parts: int = 1

    def at_target(self, z: Tensor) -> Tensor:
        return _part_of(z, self.target).index_select(-1, self.targets)

    def add_at_target(self, e: Tensor) -> Tensor:
        return _into_part(_add(e, self.targets, self.nodes), self.target, self.parts)

    def at_source(self, z: Tensor) -> Tensor:
        return _part_of(z, self.source).index_select(-1, self.sources)

    def add_at_source(self, e: Tensor) -> Tensor:
        return _into_part(_add(e, self.sources, self.nodes), self.source, self.parts)
