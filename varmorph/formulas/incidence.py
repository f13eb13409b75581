"""The algebra of incidences (mathematics.md section 1): what follows from reading at the ends of edges, and adding there.

An edge leads from a source to a target. Unknowns are z (N, C, ...): everything behind the first two dimensions is one
problem. Each kind of edge reads z at its ends, and adds numbers on edges up at their ends; the difference of the two
reads is the discrete gradient of the edges, and its adjoint their divergence.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from varmorph.formulas.per_problem import flat

__all__ = ["GroundedAlgebra", "IncidenceAlgebra", "part_of"]

Array = Any  # of the framework whose namespace is `xp`


def part_of(z: Array, part: int | None) -> Array:
    """One part of unknowns (N, C, parts, ...), or all of them."""
    return z if part is None else z[:, :, part]


class IncidenceAlgebra(ABC):
    """The ends of the edges of one family.

    `grounded` tells that all sources are known: their values are part of the offset of an edge, and z at a source
    counts as 0. `leading` counts the dimensions of the edges before N.
    """

    xp: ClassVar[Any]
    grounded: ClassVar[bool] = False
    leading: ClassVar[int] = 0

    @abstractmethod
    def at_target(self, z: Array) -> Array:
        """Read the unknown at the target of each edge."""

    @abstractmethod
    def add_at_target(self, e: Array) -> Array:
        """Sum over the edges that end at each unknown."""

    @abstractmethod
    def at_source(self, z: Array) -> Array:
        """Read the unknown at the source of each edge."""

    @abstractmethod
    def add_at_source(self, e: Array) -> Array:
        """Sum over the edges that start at each unknown."""

    def per_problem(self, e: Array) -> Array:
        """Bring the edges of each problem to the last dimension: (N, C, edges)."""
        e = self.xp.moveaxis(e, 0, 2) if self.leading else e
        return flat(e)

    def total(self, e: Array, dtype: Any = None) -> Array:
        """Sum over the edges of each problem: (N, C)."""
        e = e.sum(0) if self.leading else e
        return flat(e).sum(-1, dtype=dtype)

    def over_edges(self, numbers: Array, e: Array) -> Array:
        """Give numbers of problems (N, C) the dimensions of the edges e."""
        return numbers.reshape(*numbers.shape, *(1,) * (e.ndim - 2 - self.leading))

    def difference(self, z: Array) -> Array:
        """Source minus target."""
        return self.at_source(z) - self.at_target(z)

    def divergence(self, e: Array) -> Array:
        """The adjoint of `difference`."""
        return self.add_at_source(e) - self.add_at_target(e)

    def degree(self, e: Array) -> Array:
        """Sum over all edges at each unknown."""
        return self.add_at_source(e) + self.add_at_target(e)


class GroundedAlgebra(IncidenceAlgebra):
    """Edges whose sources are known: z counts as 0 there."""

    grounded = True

    def at_source(self, z: Array) -> Array:
        return self.xp.zeros_like(self.at_target(z))

    def add_at_source(self, e: Array) -> Array:
        return self.xp.zeros_like(self.add_at_target(e))

    def difference(self, z: Array) -> Array:
        return -self.at_target(z)

    def divergence(self, e: Array) -> Array:
        return -self.add_at_target(e)

    def degree(self, e: Array) -> Array:
        return self.add_at_target(e)
