"""The matrices of an energy: graph Laplacians with a conductance on each edge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from varmorph.torch.energy.energy import Energy

__all__ = ["Laplacian"]


class Laplacian:
    """The graph Laplacian of conductances c_e, plus the ridge: v -> sum_e c_e (A_e v) A_e + kappa v."""

    def __init__(self, energy: Energy, conductances: Sequence[Tensor]) -> None:
        self.coupled = [
            (edges.incidence, c)
            for edges, c in zip(energy.edges, conductances, strict=True)
            if not edges.incidence.grounded
        ]
        grounded = [
            edges.incidence.degree(c)
            for edges, c in zip(energy.edges, conductances, strict=True)
            if edges.incidence.grounded
        ]
        self.energy = energy
        zero = torch.zeros_like(energy.zeros)
        self.grounded = sum(grounded, start=zero if energy.ridge is None else zero + energy.ridge.weight)
        self.diagonal = sum((incidence.degree(c) for incidence, c in self.coupled), start=self.grounded)

    @property
    def endpoints(self) -> list[tuple[Tensor, Tensor]]:
        """Ends of the edges between unknowns; see `Energy.endpoints`."""
        families = zip(self.energy.edges, self.energy.endpoints, strict=True)
        return [endpoints for edges, endpoints in families if not edges.incidence.grounded]

    def __call__(self, v: Tensor) -> Tensor:
        """Apply it to v, which has the shape of z."""
        result = self.grounded * v
        for incidence, c in self.coupled:
            result = result + incidence.divergence(c * incidence.difference(v))
        return result

    def reaches_known(self) -> Tensor:
        """Tell which unknowns are joined to a known one by conductances > 0, where the matrix is regular; shape of z."""
        reached = self.grounded > 0
        while not bool(reached.all()):
            around = reached.to(self.grounded.dtype)
            for incidence, c in self.coupled:
                joined = (c > 0).to(around.dtype)
                around = around + incidence.add_at_target(joined * incidence.at_source(around))
                around = around + incidence.add_at_source(joined * incidence.at_target(around))
            if bool(((around > 0) == reached).all()):
                break
            reached = around > 0
        return reached
