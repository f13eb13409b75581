"""The matrices of an energy: graph Laplacians with a conductance on each edge."""

from __future__ import annotations

from collections.abc import Iterable

import equinox as eqx
import jax

from varmorph.formulas.incidence import IncidenceAlgebra
from varmorph.formulas.laplacian import LaplacianFormulas, families_by_ends
from varmorph.jax.energy.namespace import xp

__all__ = ["Laplacian"]


class Laplacian(LaplacianFormulas, eqx.Module):
    """The graph Laplacian of conductances c_e, plus the ridge: v -> sum_e c_e (A_e v) A_e + kappa v.

    Parameters
    ----------
    families : pairs of Incidence and array
        What the edges join, and their conductances.
    ridge : array
        kappa, of the shape of z.
    """

    xp = xp
    coupled: tuple[tuple[IncidenceAlgebra, jax.Array], ...]
    grounded: jax.Array
    diagonal: jax.Array

    def __init__(self, families: Iterable[tuple[IncidenceAlgebra, jax.Array]], ridge: jax.Array) -> None:
        self.coupled, self.grounded, self.diagonal = families_by_ends(families, ridge)

    def reaches_known(self) -> jax.Array:
        """Tell which unknowns are joined to a known one by conductances > 0, where the matrix is regular; shape of z."""

        def spread(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            around = self._with_neighbours(state[0])
            return around, (around != state[0]).any()

        first = self.grounded > 0
        return jax.lax.while_loop(lambda state: state[1], spread, (first, ~first.all()))[0]
