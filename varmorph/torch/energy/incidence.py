"""How the edges of an energy join its unknowns: linear maps with entries -1, 0 and 1, applied by gathering and adding.

What follows from reading and adding at the ends is in `varmorph.formulas.incidence`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from varmorph.formulas.incidence import GroundedAlgebra, IncidenceAlgebra, part_of
from varmorph.torch.energy.namespace import xp
from varmorph.torch.separable.neighbours import add_at_sources, edge_values
from varmorph.windows import Window

__all__ = ["DataEdges", "GraphDataEdges", "GraphEdges", "GridEdges", "Incidence", "WindowEdges"]


class Incidence(IncidenceAlgebra):
    """The ends of the edges of one family; see `IncidenceAlgebra`."""

    xp = xp


class _Grounded(GroundedAlgebra, Incidence):
    """Edges whose sources are known."""


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
        return part_of(z, self.part)[None]

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
        return part_of(z, self.target)[None]

    def add_at_target(self, e: Tensor) -> Tensor:
        return _into_part(e.sum(0), self.target, self.parts)

    def at_source(self, z: Tensor) -> Tensor:
        return edge_values(part_of(z, self.source), self.window, 0.0)

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
        return part_of(z, self.part).index_select(-1, self.targets)

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
        return part_of(z, self.target).index_select(-1, self.targets)

    def add_at_target(self, e: Tensor) -> Tensor:
        return _into_part(_add(e, self.targets, self.nodes), self.target, self.parts)

    def at_source(self, z: Tensor) -> Tensor:
        return part_of(z, self.source).index_select(-1, self.sources)

    def add_at_source(self, e: Tensor) -> Tensor:
        return _into_part(_add(e, self.sources, self.nodes), self.source, self.parts)
