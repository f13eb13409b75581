"""Energies on a graph (mathematics.md section 1): E(z) = sum_e w_e rho(r_e), r_e = z_s + b_e - z_t, plus a ridge.

Everything that a solver or an adjoint asks of an energy is here; none of them knows what the edges join. All numbers
that a solver compares are taken problem by problem: z is (N, C, ...), and each of the N x C problems stands alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from varmorph.jax.energy.incidence import Incidence
from varmorph.jax.energy.laplacian import Laplacian
from varmorph.jax.energy.penalties import Penalty

__all__ = ["Edges", "Energy", "Evaluation", "Extent", "Ridge", "frozen"]

Tree = TypeVar("Tree")


class Edges(eqx.Module):
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

    incidence: Incidence
    offset: jax.Array
    weight: jax.Array
    penalty: Penalty

    def residual(self, z: jax.Array) -> jax.Array:
        """R = z_s + b - z_t on every edge."""
        return self.offset + self.incidence.difference(z)


class Ridge(eqx.Module):
    """The term weight / 2 |z - anchor|^2: weight >= 0, broadcastable to z, and the point it pulls to."""

    weight: jax.Array
    anchor: jax.Array

    def gradient(self, z: jax.Array) -> jax.Array:
        """Derivative in z."""
        return self.weight * (z - self.anchor)


class Evaluation(NamedTuple):
    """An energy at one point.

    `gradient` and `diagonal` have the shape of z; the diagonal is that of the reweighted least squares matrix, which is
    the Hessian's for square penalties and positive for all. `residuals` holds r for each family of edges, `stiffnesses`
    the weight of each edge in that matrix, w rho'(r) / r.
    """

    z: jax.Array
    residuals: tuple[jax.Array, ...]
    stiffnesses: tuple[jax.Array, ...]
    gradient: jax.Array
    diagonal: jax.Array


class Extent(NamedTuple):
    """How far the known values of each problem (N, C) reach: what residuals are measured by.

    `least` and `greatest` known value: the minimiser lies between, if no offsets come on top. `spread` is their range, and
    that of offsets between unknowns; NaN where not finite. `rounding` is what unknowns may differ by through rounding alone.
    """

    least: jax.Array
    greatest: jax.Array
    spread: jax.Array
    rounding: jax.Array


def frozen(tree: Tree) -> Tree:
    """Stop derivatives in all arrays of a tree."""
    return jax.tree.map(stop_gradient, tree)


class Energy(eqx.Module):
    """A sum of families of edges, and optionally a ridge.

    Parameters
    ----------
    edges : sequence of Edges
        The families. The energy has one minimiser where every unknown is joined to a known one by edges whose penalty
        is curved.
    zeros : array
        Zeros of the shape of z, (N, C, ...), and dtype of the computation.
    ridge : Ridge, optional
        Pull of each unknown to a point.
    """

    edges: tuple[Edges, ...] = eqx.field(converter=tuple)
    zeros: jax.Array
    ridge: Ridge | None = None

    @property
    def has_corner(self) -> bool:
        """Whether a penalty has no derivative somewhere, so that the energy has no gradient."""
        return any(edges.penalty.h == "absolute" for edges in self.edges)

    def evaluate(self, z: jax.Array) -> Evaluation:
        """Residuals, gradient and diagonal at z."""
        residuals = tuple(edges.residual(z) for edges in self.edges)
        gradient, diagonal = jnp.zeros_like(z), jnp.zeros_like(z)
        if self.ridge is not None:
            gradient, diagonal = self.ridge.gradient(z), diagonal + self.ridge.weight
        stiffnesses = []
        for edges, r in zip(self.edges, residuals, strict=True):
            stiffness = edges.weight * edges.penalty.stiffness(r)
            force = stiffness * r if edges.penalty.h == "square" else edges.weight * edges.penalty.slope(r)
            gradient = gradient + edges.incidence.divergence(force)
            diagonal = diagonal + edges.incidence.degree(stop_gradient(stiffness))
            stiffnesses.append(stiffness)
        return Evaluation(z, residuals, tuple(stiffnesses), gradient, diagonal)

    def gradient(self, z: jax.Array) -> jax.Array:
        """Gradient of E in z."""
        gradient = jnp.zeros_like(z) if self.ridge is None else self.ridge.gradient(z)
        for edges in self.edges:
            gradient = gradient + edges.incidence.divergence(edges.weight * edges.penalty.slope(edges.residual(z)))
        return gradient

    def value(self, at: Evaluation) -> jax.Array:
        """E of each problem (N, C), summed in float64 where JAX has it."""
        wide = jnp.promote_types(at.z.dtype, jax.dtypes.canonicalize_dtype(jnp.float64))
        total = jnp.zeros(at.z.shape[:2], wide)
        for edges, r, stiffness in zip(self.edges, at.residuals, at.stiffnesses, strict=True):
            square = edges.penalty.h == "square"
            energy = stiffness * r * r / 2 if square else edges.weight * edges.penalty.energy(r)
            total = total + edges.incidence.total(energy, wide)
        if self.ridge is not None:
            pulled = self.ridge.weight / 2 * (at.z - self.ridge.anchor) ** 2
            total = total + pulled.sum(tuple(range(2, pulled.ndim)), dtype=wide)
        return total

    def hessian(self, residuals: Sequence[jax.Array]) -> Laplacian:
        """The generalised Hessian, with the selection of section 5 at kinks."""
        return Laplacian(
            self, [edges.weight * edges.penalty.curvature(r) for edges, r in zip(self.edges, residuals, strict=True)]
        )

    def connections(self) -> Laplacian:
        """The Laplacian of the weights: which unknowns are joined at all."""
        weights = [jnp.broadcast_to(edges.weight, shape) for edges, shape in self._shapes()]
        return frozen(Laplacian(self, weights))

    def _shapes(self) -> Iterator[tuple[Edges, tuple[int, ...]]]:
        """Yield the families and the shape of the edges of each."""
        for edges in self.edges:
            yield edges, jax.eval_shape(edges.residual, self.zeros).shape

    def _known(self, grounded: bool) -> Iterator[tuple[jax.Array, jax.Array]]:
        """Yield offsets, and which of them count, of the families that start at known values or at unknowns."""
        for edges, shape in self._shapes():
            if edges.incidence.grounded is grounded:
                offset = edges.incidence.per_problem(jnp.broadcast_to(edges.offset, shape))
                present = edges.incidence.per_problem(jnp.broadcast_to(edges.weight > 0, shape))
                if offset.shape[-1]:
                    yield stop_gradient(offset), present

    def extent(self) -> Extent:
        """How far the known values of each problem reach."""
        least = jnp.full(self.zeros.shape[:2], jnp.inf, self.zeros.dtype)
        greatest = -least
        for offset, present in self._known(grounded=True):
            least = jnp.minimum(least, jnp.where(present, offset, jnp.inf).min(-1))
            greatest = jnp.maximum(greatest, jnp.where(present, offset, -jnp.inf).max(-1))
        if self.ridge is not None:
            known = stop_gradient(self.ridge.anchor).reshape(*self.zeros.shape[:2], -1)
            least, greatest = jnp.minimum(least, known.min(-1)), jnp.maximum(greatest, known.max(-1))
        spread = jnp.where(least > greatest, 0.0, greatest - least)  # nothing is known at all
        for offset, present in self._known(grounded=False):
            reach = jnp.where(present, offset, -jnp.inf).max(-1) - jnp.where(present, offset, jnp.inf).min(-1)
            spread = spread + jnp.where(present.any(-1), reach, 0.0)
        number = jnp.finfo(self.zeros.dtype)
        size = jnp.maximum(jnp.abs(least), jnp.abs(greatest))
        # Squares of numbers below the root of the least one vanish, so that no solver comes nearer to 0.
        rounding = jnp.maximum(4 * number.eps * size, float(number.tiny) ** 0.5)
        return Extent(least, greatest, jnp.where(jnp.isfinite(spread), spread, jnp.nan), rounding)

    def curvature_bound(self) -> jax.Array:
        """Bound of the row sums of |Hessian|, of the shape of z; infinite where a penalty has a corner."""
        bound = self.zeros if self.ridge is None else self.zeros + self.ridge.weight
        for edges, shape in self._shapes():
            endpoints = 1 if edges.incidence.grounded else 2
            greatest = endpoints * edges.weight * edges.penalty.greatest_curvature()
            bound = bound + edges.incidence.degree(jnp.broadcast_to(greatest, shape))
        return stop_gradient(bound)

    def forces(self, residuals: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
        """Forces on the edges, w rho'(r), for each family."""
        return tuple(edges.weight * edges.penalty.slope(r) for edges, r in zip(self.edges, residuals, strict=True))

    def relative_residual(self, at: Evaluation, extent: Extent) -> jax.Array:
        """Largest gradient over diagonal and range, of each problem (N, C): how far one local step would move.

        A move that would be lost in rounding counts as none.
        """
        moves = jnp.where(at.diagonal > 0, at.gradient / at.diagonal, 0.0)
        greatest = jnp.abs(moves).max(tuple(range(2, moves.ndim)))
        lost = (greatest <= extent.rounding) & jnp.isfinite(extent.spread)
        return jnp.where(lost, 0.0, greatest / extent.spread)

    def residual_at_ties(self, at: Evaluation, extent: Extent) -> jax.Array:
        """The relative residual, with residuals of the size of rounding on the stiffer side of their kink.

        At a level near 0 or 1 the two sides differ by orders of magnitude. An edge that rounding put on the soft side would
        count as far from its minimum, though the least movement brings it there.
        """
        diagonal = self.zeros if self.ridge is None else self.zeros + self.ridge.weight
        for edges, r in zip(self.edges, at.residuals, strict=True):
            near = edges.incidence.over_edges(4 * extent.rounding, r)
            diagonal = diagonal + edges.incidence.degree(edges.weight * edges.penalty.greatest_stiffness(r, near))
        return self.relative_residual(at._replace(diagonal=diagonal), extent)

    def pieces(self, residuals: Sequence[jax.Array]) -> tuple[jax.Array, ...]:
        """The active set: on which piece of its penalty each residual lies, -1 where the weight is 0."""
        return tuple(
            jnp.where(edges.weight <= 0, -1, edges.penalty.piece(r))
            for edges, r in zip(self.edges, residuals, strict=True)
        )

    def differ(self, pieces: Sequence[jax.Array], others: Sequence[jax.Array]) -> jax.Array:
        """Tell for which problems (N, C) two active sets differ."""
        changed = jnp.zeros(self.zeros.shape[:2], bool)
        for edges, piece, other in zip(self.edges, pieces, others, strict=True):
            changed = changed | (edges.incidence.total(piece != other) > 0)
        return changed

    def margin(self, residuals: Sequence[jax.Array], extent: Extent) -> jax.Array:
        """Distance of the residuals to the nearest kink, relative to the range, of each problem (N, C)."""
        least = jnp.full(self.zeros.shape[:2], jnp.inf, self.zeros.dtype)
        for edges, r in zip(self.edges, residuals, strict=True):
            distance = jnp.where(edges.weight <= 0, jnp.inf, edges.penalty.distance_to_kink(r))
            if distance.size:
                least = jnp.minimum(least, edges.incidence.per_problem(distance).min(-1))
        return jnp.where(extent.spread != 0, least / extent.spread, 0.0)
