"""Energies in PyTorch: `varmorph.formulas.energy`, and what compiled code needs to know of their edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from varmorph.formulas.energy import Edges, EnergyFormulas, Evaluation, Extent, Ridge
from varmorph.formulas.incidence import IncidenceAlgebra
from varmorph.torch.energy.laplacian import Laplacian
from varmorph.torch.energy.namespace import xp
from varmorph.torch.energy.penalties import Penalty
from varmorph.torch.shapes import Unknowns

__all__ = ["Edges", "Energy", "Evaluation", "Extent", "Ridge"]


class Connections(NamedTuple):
    """Which unknowns edges of positive weight join to a known value, and which to anything; both of the shape of z."""

    reaches_known: Tensor
    joined: Tensor


@dataclass(frozen=True, eq=False)
class Energy(EnergyFormulas):
    """A sum of families of edges, and optionally a ridge.

    Parameters
    ----------
    edges : sequence of Edges
        The families. The energy has one minimiser where every unknown is joined to a known one by edges whose penalty
        is curved.
    zeros : Tensor
        Zeros of the shape of z, (N, C, ...), dtype and device of the computation.
    ridge : Ridge, optional
        Pull of each unknown to a point.
    compiled : bool
        Whether sums over edges run in compiled code where nothing is recorded for automatic differentiation; `minimise`
        decides that.
    """

    xp = xp
    edges: Sequence[Edges]
    zeros: Unknowns
    ridge: Ridge | None = None
    compiled: bool = False

    def _matrix(self, families: Sequence[tuple[IncidenceAlgebra, Tensor]], ridge: Tensor) -> Laplacian:
        if not self.compiled:
            return Laplacian(families, ridge)
        both = zip(self.edges, self.endpoints, strict=True)
        return Laplacian(families, ridge, [endpoints for edges, endpoints in both if not edges.incidence.grounded])

    @property
    def wide(self) -> torch.dtype:
        return torch.float64 if self.zeros.device.type != "mps" else self.zeros.dtype

    def numbers(self, number: float | bool, dtype: torch.dtype | None = None) -> Tensor:
        return torch.full(self.zeros.shape[:2], number, dtype=dtype or self.zeros.dtype, device=self.zeros.device)

    @cached_property
    def shapes(self) -> list[torch.Size]:
        found = []
        for edges in self.edges:
            first = edges.incidence.leading
            one = torch.broadcast_shapes(edges.offset.shape, edges.incidence.difference(self.zeros[:1, :1]).shape)
            found.append(torch.Size((*one[:first], *self.zeros.shape[:2], *one[first + 2 :])))
        return found

    def extent(self) -> Extent:
        return self._extent

    @cached_property
    def _extent(self) -> Extent:
        return super().extent()

    def curvature_bound(self) -> Tensor:
        return self._curvature_bound

    @cached_property
    def _curvature_bound(self) -> Tensor:
        return super().curvature_bound()

    def evaluate(self, z: Tensor) -> Evaluation:
        if self.compiled and not torch.is_grad_enabled():
            from varmorph.torch.backend.ops import edges as launcher  # numba is loaded by the first kernel that runs

            return launcher.evaluate(z, self.families, self.shapes, self.ridge)
        return super().evaluate(z)

    def parameters(self) -> list[Tensor | None]:
        """What the energy is made of: for each family offset, weight, tau, 1 - tau and smoothing; then the ridge's two tensors."""
        found: list[Tensor | None] = []
        for edges in self.edges:
            penalty = edges.penalty
            found += [edges.offset, edges.weight, penalty.tau, penalty.cotau, penalty.smoothing]
        return [*found, *([] if self.ridge is None else self.ridge)]

    def with_parameters(self, parameters: Sequence[Tensor | None]) -> Energy:
        """Return the same energy made of other tensors, in the order of `parameters`; in tensor code."""
        left = iter(parameters)
        families = []
        for edges in self.edges:
            offset, weight, *sides = (next(left) for _ in range(5))
            families.append(Edges(edges.incidence, offset, weight, Penalty(edges.penalty.h, *sides)))
        return Energy(families, self.zeros, None if self.ridge is None else Ridge(*left))

    def endpoints_given(self) -> list[Tensor]:
        """The tensors that say what the edges join."""
        return [part for edges in self.edges for part in vars(edges.incidence).values() if isinstance(part, Tensor)]

    @cached_property
    def connections(self) -> Connections:
        """Which unknowns are joined at all: two masks, for which the Laplacian of the weights need not be kept."""
        weights = [edges.weight.detach().expand(shape) for edges, shape in zip(self.edges, self.shapes, strict=True)]
        laplacian = self.laplacian(weights)
        return Connections(laplacian.reaches_known(), laplacian.diagonal > 0)

    @property
    def has_uniform_penalties(self) -> bool:
        """Whether all edges of a family that belong to one problem have the same penalty."""
        for edges, shape in zip(self.edges, self.shapes, strict=True):
            problem = range(edges.incidence.leading, edges.incidence.leading + 2)
            for number in (edges.penalty.tau, edges.penalty.cotau, edges.penalty.smoothing):
                lengths = () if number is None else number.shape
                if any(n > 1 and len(shape) - len(lengths) + d not in problem for d, n in enumerate(lengths)):
                    return False
        return True

    @cached_property
    def endpoints(self) -> list[tuple[Tensor, Tensor]]:
        """Source and target of each edge of one problem, (slots, positions), or one row where it is that of all slots.

        They count the unknowns of a problem in memory order; the number after the last one stands for what is known.
        """
        nodes = self.zeros.shape[2:].numel()
        numbers = torch.arange(1, nodes + 1, dtype=torch.float64).view(1, 1, *self.zeros.shape[2:])
        found = []
        for edges in self.edges:
            source, target = (
                (e if edges.incidence.leading else e[None]).flatten(1).int() - 1
                for e in (edges.incidence.at_source(numbers), edges.incidence.at_target(numbers))
            )
            found.append((source.masked_fill(source < 0, nodes), target))
        return found

    @cached_property
    def families(self) -> list[Any]:
        """The edges as the kernels take them."""
        from varmorph.torch.backend.ops.edges import family

        described = zip(self.edges, self.endpoints, self.shapes, strict=True)
        return [
            family(edges, *endpoints, self.zeros.new_empty(()).expand(shape)) for edges, endpoints, shape in described
        ]
