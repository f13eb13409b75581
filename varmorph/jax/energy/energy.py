"""Energies in JAX: see `varmorph.formulas.energy`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from varmorph.formulas.energy import Edges, EnergyFormulas, Evaluation, Extent, Ridge
from varmorph.formulas.incidence import IncidenceAlgebra
from varmorph.jax.energy.laplacian import Laplacian
from varmorph.jax.energy.namespace import xp
from varmorph.jax.shapes import Unknowns

__all__ = ["Edges", "Energy", "Evaluation", "Extent", "Ridge", "frozen"]

Tree = TypeVar("Tree")


def frozen(tree: Tree) -> Tree:
    """Stop derivatives in all arrays of a tree."""
    return jax.tree.map(stop_gradient, tree)


class Energy(EnergyFormulas, eqx.Module):
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

    xp = xp
    edges: tuple[Edges, ...] = eqx.field(converter=tuple)
    zeros: Unknowns
    ridge: Ridge | None = None

    def _matrix(self, families: Sequence[tuple[IncidenceAlgebra, jax.Array]], ridge: jax.Array) -> Laplacian:
        return Laplacian(families, ridge)

    @property
    def wide(self) -> Any:
        return jnp.promote_types(self.zeros.dtype, jax.dtypes.canonicalize_dtype(jnp.float64))

    def numbers(self, number: float | bool, dtype: Any = None) -> jax.Array:
        return jnp.full(self.zeros.shape[:2], number, self.zeros.dtype if dtype is None else dtype)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [jax.eval_shape(edges.residual, self.zeros).shape for edges in self.edges]

    def connections(self) -> Laplacian:
        """The Laplacian of the weights: which unknowns are joined at all."""
        families = zip(self.edges, self.shapes, strict=True)
        return frozen(self.laplacian([jnp.broadcast_to(edges.weight, shape) for edges, shape in families]))
