"""The matrices of an energy: graph Laplacians with a conductance on each edge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp

from varmorph.jax.energy.incidence import Incidence

if TYPE_CHECKING:
    from varmorph.jax.energy.energy import Energy

__all__ = ["Laplacian"]


class Laplacian(eqx.Module):
    """The graph Laplacian of conductances c_e, plus the ridge: v -> sum_e c_e (A_e v) A_e + kappa v."""

    coupled: tuple[tuple[Incidence, jax.Array], ...]
    grounded: jax.Array
    diagonal: jax.Array

    def __init__(self, energy: Energy, conductances: Sequence[jax.Array]) -> None:
        families = [(edges.incidence, c) for edges, c in zip(energy.edges, conductances, strict=True)]
        self.coupled = tuple((incidence, c) for incidence, c in families if not incidence.grounded)
        grounded = [incidence.degree(c) for incidence, c in families if incidence.grounded]
        zero = jnp.zeros_like(energy.zeros)
        self.grounded = sum(grounded, start=zero if energy.ridge is None else zero + energy.ridge.weight)
        self.diagonal = sum((incidence.degree(c) for incidence, c in self.coupled), start=self.grounded)

    def __call__(self, v: jax.Array) -> jax.Array:
        """Apply it to v, which has the shape of z."""
        result = self.grounded * v
        for incidence, c in self.coupled:
            result = result + incidence.divergence(c * incidence.difference(v))
        return result

    def reaches_known(self) -> jax.Array:
        """Tell which unknowns are joined to a known one by conductances > 0, where the matrix is regular; shape of z."""

        def spread(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            reached, _ = state
            around = reached.astype(self.grounded.dtype)
            for incidence, c in self.coupled:
                joined = (c > 0).astype(around.dtype)
                around = around + incidence.add_at_target(joined * incidence.at_source(around))
                around = around + incidence.add_at_source(joined * incidence.at_target(around))
            return around > 0, ((around > 0) != reached).any()

        first = self.grounded > 0
        return jax.lax.while_loop(lambda state: state[1], spread, (first, ~first.all()))[0]
