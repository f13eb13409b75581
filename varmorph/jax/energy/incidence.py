"""How the edges of an energy join its unknowns: linear maps with entries -1, 0 and 1, applied by gathering and adding.

What follows from reading and adding at the ends is in `varmorph.formulas.incidence`.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from varmorph.formulas.incidence import GroundedAlgebra, IncidenceAlgebra, part_of
from varmorph.jax.energy.namespace import xp
from varmorph.jax.separable.neighbours import add_at_sources, edge_values
from varmorph.windows import Window

__all__ = ["DataEdges", "GraphDataEdges", "GraphEdges", "GridEdges", "Incidence", "WindowEdges"]


class Incidence(IncidenceAlgebra, eqx.Module):
    """The ends of the edges of one family; see `IncidenceAlgebra`."""

    xp = xp


class _Grounded(GroundedAlgebra, Incidence):
    """Edges whose sources are known."""


def _into_part(e: jax.Array, part: int | None, parts: int) -> jax.Array:
    """Place numbers at one part of the unknowns, 0 at the others."""
    if part is None:
        return e
    return jnp.stack([e if other == part else jnp.zeros_like(e) for other in range(parts)], 2)


class DataEdges(_Grounded):
    """Edges from known values to each unknown, listed slot by slot: (T, N, C, ...).

    With `part`, the unknowns are (N, C, parts, ...) and only that part is pulled.
    """

    part: int | None = eqx.field(static=True, default=None)
    parts: int = eqx.field(static=True, default=1)
    leading = 1

    def at_target(self, z: jax.Array) -> jax.Array:
        return part_of(z, self.part)[None]

    def add_at_target(self, e: jax.Array) -> jax.Array:
        return _into_part(e.sum(0), self.part, self.parts)


class WindowEdges(Incidence):
    """Edges between two parts of the unknowns (N, C, parts, H, W), as a window sees them: (T, N, C, H, W).

    A source outside the image is known; its value is part of the offset.
    """

    window: Window = eqx.field(static=True)
    image: tuple[int, int] = eqx.field(static=True)
    source: int = eqx.field(static=True)
    target: int = eqx.field(static=True)
    parts: int = eqx.field(static=True)
    leading = 1

    def at_target(self, z: jax.Array) -> jax.Array:
        return part_of(z, self.target)[None]

    def add_at_target(self, e: jax.Array) -> jax.Array:
        return _into_part(e.sum(0), self.target, self.parts)

    def at_source(self, z: jax.Array) -> jax.Array:
        return edge_values(part_of(z, self.source), self.window, 0.0)

    def add_at_source(self, e: jax.Array) -> jax.Array:
        every = jnp.broadcast_to(e, (len(self.window.elements), *e.shape[1:]))
        return _into_part(add_at_sources(every, self.window, self.image), self.source, self.parts)


def _along(dim: int, e: jax.Array, before: int, after: int) -> jax.Array:
    """Add zeros before and behind a dimension."""
    widths = [(0, 0)] * e.ndim
    widths[dim] = (before, after)
    return jnp.pad(e, widths)


class GridEdges(Incidence):
    """Edges from each pixel to the next one along a dimension of the image: -2 to the pixel below, -1 to the right."""

    dim: int = eqx.field(static=True)

    def at_target(self, z: jax.Array) -> jax.Array:
        return jax.lax.slice_in_dim(z, 1, None, axis=self.dim)

    def add_at_target(self, e: jax.Array) -> jax.Array:
        return _along(self.dim, e, 1, 0)

    def at_source(self, z: jax.Array) -> jax.Array:
        return jax.lax.slice_in_dim(z, 0, -1, axis=self.dim)

    def add_at_source(self, e: jax.Array) -> jax.Array:
        return _along(self.dim, e, 0, 1)


def _add(e: jax.Array, nodes: jax.Array | np.ndarray, count: int) -> jax.Array:
    return jnp.zeros((*e.shape[:-1], count), e.dtype).at[..., nodes].add(e)


class GraphDataEdges(_Grounded):
    """Edges from known values to the listed nodes of a graph: (N, C, E)."""

    targets: jax.Array | np.ndarray
    nodes: int = eqx.field(static=True)
    part: int | None = eqx.field(static=True, default=None)
    parts: int = eqx.field(static=True, default=1)

    def at_target(self, z: jax.Array) -> jax.Array:
        return part_of(z, self.part)[..., self.targets]

    def add_at_target(self, e: jax.Array) -> jax.Array:
        return _into_part(_add(e, self.targets, self.nodes), self.part, self.parts)


class GraphEdges(Incidence):
    """Edges between listed nodes of a graph, or from nodes of one part of the unknowns to nodes of another: (N, C, E)."""

    sources: jax.Array | np.ndarray
    targets: jax.Array | np.ndarray
    nodes: int = eqx.field(static=True)
    source: int | None = eqx.field(static=True, default=None)
    target: int | None = eqx.field(static=True, default=None)
    parts: int = eqx.field(static=True, default=1)

    def at_target(self, z: jax.Array) -> jax.Array:
        return part_of(z, self.target)[..., self.targets]

    def add_at_target(self, e: jax.Array) -> jax.Array:
        return _into_part(_add(e, self.targets, self.nodes), self.target, self.parts)

    def at_source(self, z: jax.Array) -> jax.Array:
        return part_of(z, self.source)[..., self.sources]

    def add_at_source(self, e: jax.Array) -> jax.Array:
        return _into_part(_add(e, self.sources, self.nodes), self.source, self.parts)
