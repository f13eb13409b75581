"""Energies on a graph (mathematics.md section 1): E(z) = sum_e w_e rho(r_e), r_e = z_s + b_e - z_t, plus a ridge.

Everything that a solver or an adjoint asks of an energy is here; none of them knows what the edges join. All numbers
that a solver compares are taken problem by problem: z is (N, C, ...), and each of the N x C problems stands alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

from varmorph.formulas.incidence import IncidenceAlgebra
from varmorph.formulas.penalties import PenaltyFormulas
from varmorph.formulas.per_problem import flat, spread_over

__all__ = ["Edges", "EnergyFormulas", "Evaluation", "Extent", "Ridge"]

Array = Any  # of the framework whose namespace is `xp`


class Edges(NamedTuple):
    """One family of edges.

    Parameters
    ----------
    incidence : Incidence
        What the edges join.
    offset : array
        b, for known sources x + b: the part of the residual that does not depend on z. Broadcastable to the edges.
    weight : array
        w >= 0, broadcastable to the edges; 0 where an edge is absent.
    penalty : Penalty
        rho.
    """

    incidence: IncidenceAlgebra
    offset: Array
    weight: Array
    penalty: PenaltyFormulas

    def residual(self, z: Array) -> Array:
        """R = z_s + b - z_t on every edge."""
        return self.offset + self.incidence.difference(z)


class Ridge(NamedTuple):
    """The term weight / 2 |z - anchor|^2: weight >= 0, broadcastable to z, and the point it pulls to."""

    weight: Array
    anchor: Array

    def gradient(self, z: Array) -> Array:
        """Derivative in z."""
        return self.weight * (z - self.anchor)


class Evaluation(NamedTuple):
    """An energy at one point.

    `gradient` and `diagonal` have the shape of z; the diagonal is that of the reweighted least squares matrix, which is
    the Hessian's for square penalties and positive for all. `residuals` holds r for each family of edges, `stiffnesses`
    the weight of each edge in that matrix, w rho'(r) / r. `value` is the energy (N, C) where it is known already.
    """

    z: Array
    residuals: tuple[Array, ...]
    stiffnesses: tuple[Array, ...]
    gradient: Array
    diagonal: Array
    value: Array | None = None


class Extent(NamedTuple):
    """How far the known values of each problem (N, C) reach: what residuals are measured by.

    `least` and `greatest` known value: the minimiser lies between, if no offsets come on top. `spread` is their range, and
    that of offsets between unknowns; NaN where not finite. `rounding` is what unknowns may differ by through rounding alone.
    """

    least: Array
    greatest: Array
    spread: Array
    rounding: Array


class EnergyFormulas(ABC):
    """What is asked of a sum of families of edges, and optionally a ridge; a framework adds the constructor and its matrices."""

    xp: ClassVar[Any]
    edges: Sequence[Edges]
    zeros: Array
    ridge: Ridge | None

    @abstractmethod
    def _matrix(self, families: Sequence[tuple[IncidenceAlgebra, Array]], ridge: Array) -> Any:
        """Make a Laplacian of the framework."""

    @property
    @abstractmethod
    def shapes(self) -> Sequence[tuple[int, ...]]:
        """Shape of the edges of each family."""

    @property
    @abstractmethod
    def wide(self) -> Any:
        """The type in which energies are summed."""

    @abstractmethod
    def numbers(self, number: float | bool, dtype: Any = None) -> Array:
        """The same number for every problem (N, C)."""

    @property
    def has_corner(self) -> bool:
        """Whether a penalty has no derivative somewhere, so that the energy has no gradient."""
        return any(edges.penalty.h == "absolute" for edges in self.edges)

    def evaluate(self, z: Array) -> Evaluation:
        """Residuals, gradient and diagonal at z."""
        residuals = tuple(edges.residual(z) for edges in self.edges)
        gradient, diagonal = self.xp.zeros_like(z), self.xp.zeros_like(z)
        if self.ridge is not None:
            gradient, diagonal = self.ridge.gradient(z), diagonal + self.ridge.weight
        stiffnesses = []
        for edges, r in zip(self.edges, residuals, strict=True):
            stiffness = edges.weight * edges.penalty.stiffness(r)
            force = stiffness * r if edges.penalty.h == "square" else edges.weight * edges.penalty.slope(r)
            gradient = gradient + edges.incidence.divergence(force)
            diagonal = diagonal + edges.incidence.degree(self.xp.detach(stiffness))
            stiffnesses.append(stiffness)
        return Evaluation(z, residuals, tuple(stiffnesses), gradient, diagonal)

    def gradient(self, z: Array) -> Array:
        """Gradient of E in z; differentiable in every parameter of the energy."""
        gradient = self.xp.zeros_like(z) if self.ridge is None else self.ridge.gradient(z)
        for edges in self.edges:
            gradient = gradient + edges.incidence.divergence(edges.weight * edges.penalty.slope(edges.residual(z)))
        return gradient

    def value(self, at: Evaluation) -> Array:
        """E of each problem (N, C), summed in float64 where there is such a type."""
        if at.value is not None:
            return at.value
        total = self.numbers(0.0, self.wide)
        for edges, r, stiffness in zip(self.edges, at.residuals, at.stiffnesses, strict=True):
            square = edges.penalty.h == "square"
            energy = stiffness * r * r / 2 if square else edges.weight * edges.penalty.energy(r)
            total = total + edges.incidence.total(energy, self.wide)
        if self.ridge is not None:
            pulled = self.ridge.weight / 2 * (at.z - self.ridge.anchor) ** 2
            total = total + flat(pulled).sum(-1, dtype=self.wide)
        return total

    def laplacian(self, conductances: Sequence[Array]) -> Any:
        """The graph Laplacian of conductances of the edges, for each family, and the ridge."""
        zero = self.xp.zeros_like(self.zeros)
        families = [(edges.incidence, c) for edges, c in zip(self.edges, conductances, strict=True)]
        return self._matrix(families, zero if self.ridge is None else zero + self.ridge.weight)

    def hessian(self, residuals: Sequence[Array]) -> Any:
        """The generalised Hessian, with the selection of section 5 at kinks."""
        families = zip(self.edges, residuals, strict=True)
        return self.laplacian([edges.weight * edges.penalty.curvature(r) for edges, r in families])

    def forces(self, residuals: Sequence[Array]) -> tuple[Array, ...]:
        """Forces on the edges, w rho'(r), for each family."""
        return tuple(edges.weight * edges.penalty.slope(r) for edges, r in zip(self.edges, residuals, strict=True))

    def _known(self, grounded: bool) -> Iterator[tuple[Array, Array]]:
        """Yield offsets, and which of them count, of the families that start at known values or at unknowns."""
        for edges, shape in zip(self.edges, self.shapes, strict=True):
            if edges.incidence.grounded is grounded:
                offset = self.xp.broadcast_to(self.xp.detach(edges.offset), shape)
                offset = edges.incidence.per_problem(offset)
                present = edges.incidence.per_problem(self.xp.broadcast_to(edges.weight > 0, shape))
                if offset.shape[-1]:
                    yield offset, present

    def extent(self) -> Extent:
        """How far the known values of each problem reach."""
        xp = self.xp
        least = self.numbers(math.inf)
        greatest = -least
        for offset, present in self._known(grounded=True):
            least = xp.minimum(least, xp.amin(xp.where(present, offset, xp.inf), -1))
            greatest = xp.maximum(greatest, xp.amax(xp.where(present, offset, -xp.inf), -1))
        if self.ridge is not None:
            known = flat(xp.detach(self.ridge.anchor))
            least, greatest = xp.minimum(least, xp.amin(known, -1)), xp.maximum(greatest, xp.amax(known, -1))
        spread = xp.where(least > greatest, 0.0, greatest - least)  # nothing is known at all
        for offset, present in self._known(grounded=False):
            highest, lowest = xp.where(present, offset, -xp.inf), xp.where(present, offset, xp.inf)
            reach = xp.amax(highest, -1) - xp.amin(lowest, -1)
            spread = spread + xp.where(present.any(-1), reach, 0.0)
        number = xp.finfo(self.zeros.dtype)
        size = xp.maximum(xp.abs(least), xp.abs(greatest))
        # Squares of numbers below the root of the least one vanish, so that no solver comes nearer to 0.
        rounding = xp.maximum(4 * number.eps * size, float(number.tiny) ** 0.5)
        return Extent(least, greatest, xp.where(xp.isfinite(spread), spread, xp.nan), rounding)

    def curvature_bound(self) -> Array:
        """Bound of the row sums of |Hessian|, of the shape of z; infinite where a penalty has a corner."""
        bound = self.zeros if self.ridge is None else self.zeros + self.ridge.weight
        for edges, shape in zip(self.edges, self.shapes, strict=True):
            endpoints = 1 if edges.incidence.grounded else 2
            greatest = endpoints * edges.weight * edges.penalty.greatest_curvature()
            bound = bound + edges.incidence.degree(self.xp.broadcast_to(greatest, shape))
        return self.xp.detach(bound)

    def relative_residual(self, at: Evaluation, extent: Extent) -> Array:
        """Largest gradient over diagonal and range, of each problem (N, C): how far one local step would move.

        A move that would be lost in rounding counts as none.
        """
        xp = self.xp
        held = at.diagonal > 0
        moves = xp.amax(flat(xp.abs(xp.where(held, at.gradient / xp.where(held, at.diagonal, 1.0), 0.0))), -1)
        lost = (moves <= extent.rounding) & xp.isfinite(extent.spread)
        return xp.where(lost, 0.0, moves / xp.where(lost, 1.0, extent.spread))

    def residual_at_ties(self, at: Evaluation, extent: Extent) -> Array:
        """The relative residual, with residuals of the size of rounding on the stiffer side of their kink.

        At a level near 0 or 1 the two sides differ by orders of magnitude. An edge that rounding put on the soft side would
        count as far from its minimum, though the least movement brings it there.
        """
        diagonal = self.zeros if self.ridge is None else self.zeros + self.ridge.weight
        for edges, r in zip(self.edges, at.residuals, strict=True):
            near = edges.incidence.over_edges(4 * extent.rounding, r)
            diagonal = diagonal + edges.incidence.degree(edges.weight * edges.penalty.greatest_stiffness(r, near))
        return self.relative_residual(at._replace(diagonal=diagonal), extent)

    def pieces(self, residuals: Sequence[Array]) -> tuple[Array, ...]:
        """The active set: on which piece of its penalty each residual lies, -1 where the weight is 0."""
        return tuple(
            self.xp.where(edges.weight <= 0, -1, edges.penalty.piece(r))
            for edges, r in zip(self.edges, residuals, strict=True)
        )

    def differ(self, pieces: Sequence[Array], others: Sequence[Array]) -> Array:
        """Tell for which problems (N, C) two active sets differ."""
        changed = self.numbers(False, self.xp.bool)
        for edges, piece, other in zip(self.edges, pieces, others, strict=True):
            changed = changed | (edges.incidence.total(piece != other) > 0)
        return changed

    def margin(self, residuals: Sequence[Array], extent: Extent) -> Array:
        """Distance of the residuals to the nearest kink, relative to the range, of each problem (N, C)."""
        xp, least = self.xp, self.numbers(math.inf)
        for edges, r in zip(self.edges, residuals, strict=True):
            distance = xp.where(edges.weight <= 0, xp.inf, edges.penalty.distance_to_kink(r))
            if math.prod(distance.shape):
                least = xp.minimum(least, xp.amin(edges.incidence.per_problem(distance), -1))
        wide = extent.spread != 0
        return xp.where(wide, least / xp.where(wide, extent.spread, 1.0), 0.0)

    def weighted_mean(self) -> Array:
        """One step of reweighted least squares without the edges between unknowns, for those that are pulled."""
        pulls, total = self.zeros, self.zeros
        for edges in self.edges:
            if edges.incidence.grounded:
                shape = self.xp.broadcast_shapes(edges.weight.shape, edges.offset.shape)
                weight = self.xp.broadcast_to(edges.weight, shape)
                pulls = pulls + edges.incidence.add_at_target(weight * edges.offset)
                total = total + edges.incidence.add_at_target(weight)
        extent, pulled = self.extent(), total > 0
        middle = spread_over((extent.least + extent.greatest) / 2, self.zeros)
        return self.xp.where(pulled, pulls / self.xp.where(pulled, total, 1.0), middle)
