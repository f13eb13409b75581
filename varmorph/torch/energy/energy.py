"""Energies on a graph (mathematics.md section 1): E(z) = sum_e w_e rho(r_e), r_e = z_s + b_e - z_t, plus a ridge.

Everything that a solver or an adjoint asks of an energy is here; none of them knows what the edges join. All numbers
that a solver compares are taken problem by problem: z is (N, C, ...), and each of the N x C problems stands alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from varmorph.torch.energy.incidence import Incidence
from varmorph.torch.energy.laplacian import Laplacian
from varmorph.torch.energy.penalties import Penalty

__all__ = ["Edges", "Energy", "Evaluation", "Ridge", "dot"]


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product of each problem: (N, C, 1, ...), to multiply z with."""
    return (a * b).sum(tuple(range(2, a.ndim)), keepdim=True)


@dataclass(frozen=True, eq=False)
class Edges:
    """One family of edges.

    Parameters
    ----------
    incidence : Incidence
        What the edges join.
    offset : Tensor
        b, for known sources x + b: the part of the residual that does not depend on z. Broadcastable to the edges.
    weight : Tensor
        w >= 0, broadcastable to the edges; 0 where an edge is absent.
    penalty : Penalty
        rho.
    """

    incidence: Incidence
    offset: Tensor
    weight: Tensor
    penalty: Penalty

    def residual(self, z: Tensor) -> Tensor:
        """R = z_s + b - z_t on every edge."""
        return self.offset + self.incidence.difference(z)


class Ridge(NamedTuple):
    """The term weight / 2 |z - anchor|^2: weight >= 0, broadcastable to z, and the point it pulls to."""

    weight: Tensor
    anchor: Tensor

    def gradient(self, z: Tensor) -> Tensor:
        """Derivative in z."""
        return self.weight * (z - self.anchor)


class Connections(NamedTuple):
    """Which unknowns edges of positive weight join to a known value, and which to anything; both of the shape of z."""

    reaches_known: Tensor
    joined: Tensor


class Evaluation(NamedTuple):
    """An energy at one point.

    `gradient` and `diagonal` have the shape of z; the diagonal is that of the reweighted least squares matrix, which is
    the Hessian's for square penalties and positive for all. `residuals` holds r for each family of edges, `stiffnesses`
    the weight of each edge in that matrix, w rho'(r) / r. `value` is the energy (N, C) where it is known already.
    """

    z: Tensor
    residuals: tuple[Tensor, ...]
    stiffnesses: tuple[Tensor, ...]
    gradient: Tensor
    diagonal: Tensor
    value: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Energy:
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

    edges: Sequence[Edges]
    zeros: Tensor
    ridge: Ridge | None = None
    compiled: bool = False

    @property
    def has_corner(self) -> bool:
        """Whether a penalty has no derivative somewhere, so that the energy has no gradient."""
        return any(edges.penalty.h == "absolute" for edges in self.edges)

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

    def evaluate(self, z: Tensor) -> Evaluation:
        """Residuals, gradient and diagonal at z."""
        if self.compiled and not torch.is_grad_enabled():
            from varmorph.torch.backend.ops import edges as launcher  # numba is loaded by the first kernel that runs

            return launcher.evaluate(self, z)
        residuals = tuple(edges.residual(z) for edges in self.edges)
        gradient, diagonal = torch.zeros_like(z), torch.zeros_like(z)
        if self.ridge is not None:
            gradient, diagonal = self.ridge.gradient(z), diagonal + self.ridge.weight
        stiffnesses = []
        for edges, r in zip(self.edges, residuals, strict=True):
            stiffness = edges.weight * edges.penalty.stiffness(r)
            force = stiffness * r if edges.penalty.h == "square" else edges.weight * edges.penalty.slope(r)
            gradient = gradient + edges.incidence.divergence(force)
            diagonal = diagonal + edges.incidence.degree(stiffness.detach())
            stiffnesses.append(stiffness)
        return Evaluation(z, residuals, tuple(stiffnesses), gradient, diagonal)

    def gradient(self, z: Tensor) -> Tensor:
        """Gradient of E in z; differentiable in every parameter of the energy."""
        gradient = torch.zeros_like(z) if self.ridge is None else self.ridge.gradient(z)
        for edges in self.edges:
            gradient = gradient + edges.incidence.divergence(edges.weight * edges.penalty.slope(edges.residual(z)))
        return gradient

    def value(self, at: Evaluation) -> Tensor:
        """E of each problem (N, C), summed in float64 where the device has it."""
        if at.value is not None:
            return at.value
        wide = torch.float64 if at.z.device.type != "mps" else None
        total = torch.zeros(at.z.shape[:2], dtype=wide or at.z.dtype, device=at.z.device)
        for edges, r, stiffness in zip(self.edges, at.residuals, at.stiffnesses, strict=True):
            square = edges.penalty.h == "square"
            energy = stiffness * r * r / 2 if square else edges.weight * edges.penalty.energy(r)
            total = total + edges.incidence.total(energy, wide)
        if self.ridge is not None:
            total = total + (self.ridge.weight / 2 * (at.z - self.ridge.anchor) ** 2).flatten(2).sum(-1, dtype=wide)
        return total

    def hessian(self, residuals: Sequence[Tensor]) -> Laplacian:
        """The generalised Hessian, with the selection of section 5 at kinks."""
        return Laplacian(
            self, [edges.weight * edges.penalty.curvature(r) for edges, r in zip(self.edges, residuals, strict=True)]
        )

    @cached_property
    def connections(self) -> Connections:
        """Which unknowns are joined at all.

        Two masks instead of the Laplacian of the weights: it refers to this energy, and a cycle would keep every tensor of both
        until Python looks for cycles.
        """
        weights = [edges.weight.detach().expand(shape) for edges, shape in zip(self.edges, self.shapes, strict=True)]
        laplacian = Laplacian(self, weights)
        return Connections(laplacian.reaches_known(), laplacian.diagonal > 0)

    @cached_property
    def shapes(self) -> list[torch.Size]:
        """Shape of the edges of each family."""
        found = []
        for edges in self.edges:
            first = edges.incidence.leading
            one = torch.broadcast_shapes(edges.offset.shape, edges.incidence.difference(self.zeros[:1, :1]).shape)
            found.append(torch.Size((*one[:first], *self.zeros.shape[:2], *one[first + 2 :])))
        return found

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
        from varmorph.torch.backend.ops.edges import families

        return families(self)

    def _known(self, grounded: bool) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield offsets, and which of them count, of the families that start at known values or at unknowns."""
        for edges, shape in zip(self.edges, self.shapes, strict=True):
            if edges.incidence.grounded is grounded:
                offset = edges.incidence.per_problem(edges.offset.detach().expand(shape))
                present = edges.incidence.per_problem((edges.weight > 0).expand(shape))
                if offset.shape[-1]:
                    yield offset, present

    @cached_property
    def box(self) -> tuple[Tensor, Tensor]:
        """Least and greatest known value of each problem, (N, C): the minimiser lies between, if no offsets come on top."""
        least = torch.full(self.zeros.shape[:2], torch.inf, dtype=self.zeros.dtype, device=self.zeros.device)
        greatest = -least
        for offset, present in self._known(grounded=True):
            least = torch.minimum(least, offset.where(present, torch.inf).amin(-1))
            greatest = torch.maximum(greatest, offset.where(present, -torch.inf).amax(-1))
        if self.ridge is not None:
            known = self.ridge.anchor.detach().flatten(2)
            least, greatest = torch.minimum(least, known.amin(-1)), torch.maximum(greatest, known.amax(-1))
        return least, greatest

    @cached_property
    def spread(self) -> Tensor:
        """Range of the known values, and of offsets between unknowns, of each problem (N, C); NaN where not finite."""
        least, greatest = self.box
        total = (greatest - least).masked_fill(least > greatest, 0.0)  # nothing is known at all
        for offset, present in self._known(grounded=False):
            reach = offset.where(present, -torch.inf).amax(-1) - offset.where(present, torch.inf).amin(-1)
            total = total + reach.where(present.any(-1), 0.0)
        return total.where(total.isfinite(), torch.nan)

    @cached_property
    def curvature_bound(self) -> Tensor:
        """Bound of the row sums of |Hessian|, of the shape of z; infinite where a penalty has a corner."""
        bound = self.zeros if self.ridge is None else self.zeros + self.ridge.weight
        for edges, shape in zip(self.edges, self.shapes, strict=True):
            endpoints = 1 if edges.incidence.grounded else 2
            greatest = torch.as_tensor(edges.penalty.greatest_curvature())
            bound = bound + edges.incidence.degree((endpoints * edges.weight * greatest).expand(shape))
        return bound.detach()

    def forces(self, residuals: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Forces on the edges, w rho'(r), for each family."""
        return tuple(edges.weight * edges.penalty.slope(r) for edges, r in zip(self.edges, residuals, strict=True))

    def relative_residual(self, at: Evaluation) -> Tensor:
        """Largest gradient over diagonal and range, of each problem (N, C): how far one local step would move.

        A move that would be lost in rounding counts as none.
        """
        moves = (at.gradient / at.diagonal).where(at.diagonal > 0, 0.0).abs().flatten(2).amax(-1)
        lost = (moves <= self.rounding) & self.spread.isfinite()
        return (moves / self.spread).masked_fill(lost, 0.0)

    @cached_property
    def rounding(self) -> Tensor:
        """Difference of unknowns that rounding alone may make, of each problem (N, C)."""
        least, greatest = self.box
        number = torch.finfo(self.zeros.dtype)
        # Squares of numbers below the root of the least one vanish, so that no solver comes nearer to 0.
        return (4 * number.eps * torch.maximum(least.abs(), greatest.abs())).clamp(min=number.tiny**0.5)

    def residual_at_ties(self, at: Evaluation) -> Tensor:
        """The relative residual, with residuals of the size of rounding on the stiffer side of their kink.

        At a level near 0 or 1 the two sides differ by orders of magnitude. An edge that rounding put on the soft side would
        count as far from its minimum, though the least movement brings it there.
        """
        diagonal = self.zeros if self.ridge is None else self.zeros + self.ridge.weight
        for edges, r in zip(self.edges, at.residuals, strict=True):
            near = edges.incidence.over_edges(4 * self.rounding, r)
            diagonal = diagonal + edges.incidence.degree(edges.weight * edges.penalty.greatest_stiffness(r, near))
        return self.relative_residual(at._replace(diagonal=diagonal))

    def pieces(self, residuals: Sequence[Tensor]) -> list[Tensor]:
        """The active set: on which piece of its penalty each residual lies, -1 where the weight is 0."""
        return [
            edges.penalty.piece(r).masked_fill(edges.weight <= 0, -1)
            for edges, r in zip(self.edges, residuals, strict=True)
        ]

    def differ(self, pieces: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
        """Tell for which problems (N, C) two active sets differ."""
        changed = torch.zeros(self.zeros.shape[:2], dtype=torch.bool, device=self.zeros.device)
        for edges, piece, other in zip(self.edges, pieces, others, strict=True):
            changed = changed | (edges.incidence.total(piece != other) > 0)
        return changed

    def margin(self, residuals: Sequence[Tensor]) -> Tensor:
        """Distance of the residuals to the nearest kink, relative to the range, of each problem (N, C)."""
        least = torch.full(self.zeros.shape[:2], torch.inf, dtype=self.zeros.dtype, device=self.zeros.device)
        for edges, r in zip(self.edges, residuals, strict=True):
            distance = edges.penalty.distance_to_kink(r).masked_fill(edges.weight <= 0, torch.inf)
            if distance.numel():
                least = torch.minimum(least, edges.incidence.per_problem(distance).amin(-1))
        return (least / self.spread).where(self.spread != 0, 0.0)
