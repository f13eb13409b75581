"""Graph Laplacians (mathematics.md section 4): the matrices of an energy, with a conductance on each edge."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from varmorph.formulas.incidence import IncidenceAlgebra

__all__ = ["LaplacianFormulas", "families_by_ends"]

Array = Any  # of the framework whose namespace is `xp`
Families = tuple[tuple[IncidenceAlgebra, Array], ...]


def families_by_ends(families: Iterable[tuple[IncidenceAlgebra, Array]], ridge: Array) -> tuple[Families, Array, Array]:
    """Sort families of edges, each with its conductances, by what they join.

    ridge : weights of the ridge, of the shape of z. Returns the families between unknowns; and the diagonal of the other
    edges and the ridge, and that of all of them, both of the shape of z.
    """
    families = tuple(families)
    coupled = tuple((incidence, c) for incidence, c in families if not incidence.grounded)
    grounded = sum((incidence.degree(c) for incidence, c in families if incidence.grounded), start=ridge)
    return coupled, grounded, sum((incidence.degree(c) for incidence, c in coupled), start=grounded)


class LaplacianFormulas:
    """The graph Laplacian of conductances c_e, plus the ridge: v -> sum_e c_e (A_e v) A_e + kappa v."""

    xp: ClassVar[Any]
    coupled: Families
    grounded: Array
    diagonal: Array

    def __call__(self, v: Array) -> Array:
        """Apply it to v, which has the shape of z."""
        result = self.grounded * v
        for incidence, c in self.coupled:
            result = result + incidence.divergence(c * incidence.difference(v))
        return result

    def _with_neighbours(self, reached: Array) -> Array:
        """Unknowns that are reached, and their neighbours along conductances > 0; of the shape of z."""
        around = self.xp.astype(reached, self.grounded.dtype)
        for incidence, c in self.coupled:
            joined = self.xp.astype(c > 0, around.dtype)
            around = around + incidence.add_at_target(joined * incidence.at_source(around))
            around = around + incidence.add_at_source(joined * incidence.at_target(around))
        return around > 0
