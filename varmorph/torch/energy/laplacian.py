"""The matrices of an energy: graph Laplacians with a conductance on each edge."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from varmorph.formulas.incidence import IncidenceAlgebra
from varmorph.formulas.laplacian import LaplacianFormulas, families_by_ends
from varmorph.torch.energy.namespace import xp

__all__ = ["Laplacian"]


class Laplacian(LaplacianFormulas):
    """The graph Laplacian of conductances c_e, plus the ridge: v -> sum_e c_e (A_e v) A_e + kappa v.

    Parameters
    ----------
    families : pairs of Incidence and Tensor
        What the edges join, and their conductances.
    ridge : Tensor
        kappa, of the shape of z.
    endpoints : list of pairs of Tensor, optional
        Source and target of each edge between unknowns, for compiled code, which then solves its systems; see `Energy.endpoints`.
    """

    xp = xp

    def __init__(
        self,
        families: Iterable[tuple[IncidenceAlgebra, Tensor]],
        ridge: Tensor,
        endpoints: list[tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        self.coupled, self.grounded, self.diagonal = families_by_ends(families, ridge)
        self.endpoints = endpoints

    def reaches_known(self) -> Tensor:
        """Tell which unknowns are joined to a known one by conductances > 0, where the matrix is regular; shape of z."""
        reached = self.grounded > 0
        while not bool(reached.all()):
            before, reached = reached, self._with_neighbours(reached)
            if torch.equal(reached, before):
                break
        return reached
