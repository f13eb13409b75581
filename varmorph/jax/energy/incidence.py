"""How the edges of an energy join its unknowns: linear maps with entries -1, 0 and 1, applied by gathering and adding.

An edge leads from a source to a target. Unknowns are z (N, C, ...): everything behind the first two dimensions is one
problem. Each kind of edge reads z at its ends, and adds numbers on edges up at their ends; the difference of the two
reads is the discrete gradient of the edges, and its adjoint their divergence.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from varmorph.jax.separable.neighbours import add_at_sources, edge_values
from varmorph.windows import Window

__all__ = ["DataEdges", "GraphDataEdges", "GraphEdges", "GridEdges", "Incidence", "WindowEdges"]


class Incidence(eqx.Module):
    """The ends of the edges of one family.

    `grounded` tells that all sources are known: their values are part of the offset of an edge, and z at a source
    counts as 0. `leading` counts the dimensions of the edges before N.
    """

    grounded: ClassVar[bool] = False
    leading: ClassVar[int] = 0

    @abstractmethod
    def at_target(self, z: jax.Array) -> jax.Array:
        """Read the unknown at the target of each edge."""

    @abstractmethod
    def add_at_target(self, e: jax.Array) -> jax.Array:
        """Sum over the edges that end at each unknown."""

    @abstractmethod
    def at_source(self, z: jax.Array) -> jax.Array:
        """Read the unknown at the source of each edge."""

    @abstractmethod
    def add_at_source(self, e: jax.Array) -> jax.Array:
        """Sum over the edges that start at each unknown."""

    def per_problem(self, e: jax.Array) -> jax.Array:
        """Bring the edges of each problem to the last dimension: (N, C, edges)."""
        e = jnp.moveaxis(e, 0, 2) if self.leading else e
        return e.reshape(*e.shape[:2], -1)

    def total(self, e: jax.Array, dtype: Any = None) -> jax.Array:
        """Sum over the edges of each problem: (N, C)."""
        e = e.sum(0) if self.leading else e
        return e.sum(tuple(range(2, e.ndim)), dtype=dtype)

    def over_edges(self, numbers: jax.Array, e: jax.Array) -> jax.Array:
        """Give numbers of problems (N, C) the dimensions of the edges e."""
        return numbers.reshape(*numbers.shape, *(1,) * (e.ndim - 2 - self.leading))

    def difference(self, z: jax.Array) -> jax.Array:
        """Source minus target."""
        return self.at_source(z) - self.at_target(z)

    def divergence(self, e: jax.Array) -> jax.Array:
        """The adjoint of `difference`."""
        return self.add_at_source(e) - self.add_at_target(e)

    def degree(self, e: jax.Array) -> jax.Array:
        """Sum over all edges at each unknown."""
        return self.add_at_source(e) + self.add_at_target(e)


class _Grounded(Incidence):
    """Edges whose sources are known: z counts as 0 there."""

    grounded = True

    def at_source(self, z: jax.Array) -> jax.Array:
        return jnp.zeros_like(self.at_target(z))

    def add_at_source(self, e: jax.Array) -> jax.Array:
        return jnp.zeros_like(self.add_at_target(e))

    def difference(self, z: jax.Array) -> jax.Array:
        return -self.at_target(z)

    def divergence(self, e: jax.Array) -> jax.Array:
        return -self.add_at_target(e)

    def degree(self, e: jax.Array) -> jax.Array:
        return self.add_at_target(e)


def _part_of(z: jax.Array, part: int | None) -> jax.Array:
    return z if part is None else z[:, :, part]


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
        return _part_of(z, self.part)[None]

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
        return _part_of(z, self.target)[None]

    def add_at_target(self, e: jax.Array) -> jax.Array:
        return _into_part(e.sum(0), self.target, self.parts)

    def at_source(self, z: jax.Array) -> jax.Array:
        return edge_values(_part_of(z, self.source), self.window, 0.0)

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
        return _part_of(z, self.part)[..., self.targets]

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
        return _part_of(z, self.target)[..., self.targets]

    def add_at_target(self, e: jax.Array) -> jax.Array:
        return _into_part(_add(e, self.targets, self.nodes), self.target, self.parts)

    def at_source(self, z: jax.Array) -> jax.Array:
        return _part_of(z, self.source)[..., self.sources]

    def add_at_source(self, e: jax.Array) -> jax.Array:
        return _into_part(_add(e, self.sources, self.nodes), self.source, self.parts)
