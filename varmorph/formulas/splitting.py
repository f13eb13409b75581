"""Splitting methods (mathematics.md section 4): the scale of an edge's penalty, its proximal map, and the duality gap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from varmorph.formulas.energy import Edges, EnergyFormulas, Extent, Ridge
from varmorph.formulas.per_problem import flat, spread_over

__all__ = ["duality_gap", "edge_stiffness", "prox"]

Array = Any  # of the framework whose namespace is `xp`


def edge_stiffness(xp: Any, edges: Edges, r: Array, spread: Array) -> Array:
    """Scale of an edge's penalty: its mean curvature, or what replaces it where the penalty has a corner.

    Any positive number gives a convergent method; this one makes edges of different weights move alike.

    r : residuals, for their shape.  spread : range of the known values of each problem (N, C).
    """
    scale = edges.incidence.over_edges(xp.where(spread > 0, spread, 1.0), r)
    rho = edges.penalty
    side = 1.0 if rho.tau is None or rho.cotau is None else xp.sqrt(rho.tau * rho.cotau)
    width = xp.ones_like(scale) if rho.h == "square" else 0.1 * scale
    if rho.smoothing is not None:
        width = xp.maximum(rho.smoothing, width)
    return xp.broadcast_to(edges.weight * side / width, r.shape)


def prox(xp: Any, edges: Edges, r: Array, stiffness: Array) -> Array:
    """Minimise w rho(q) + stiffness / 2 (q - r)^2 over q; an edge of weight 0 leaves r alone."""
    return edges.penalty.prox(r, edges.weight / xp.where(stiffness > 0, stiffness, 1.0))


def duality_gap(
    xp: Any, energy: EnergyFormulas, z: Array, value: Array, extent: Extent, duals: Sequence[Array]
) -> Array:
    """Energy minus the dual energy of forces p on the edges, relative to the energy's scale, of each problem (N, C).

    The minimiser lies in the range [l, u] of the known values and offsets. Over that box the dual energy is finite for
    every ridge: sum_e (p_e b_e - (w rho)*(p_e)) + sum_i min over z_i in [l, u] of (A'p)_i z_i + kappa / 2 (z_i - anchor_i)^2.

    value : of the energy at z, in the type in which the gap is summed.  extent : that of the energy.
    """
    low, high = (spread_over(bound, z) for bound in (extent.least, extent.greatest))
    upwards, total, scale = xp.zeros_like(z), value, xp.zeros_like(value)
    for edges, p in zip(energy.edges, duals, strict=True):
        endpoints = edges.incidence
        inner = xp.astype(p * edges.offset, value.dtype)
        inner = inner - xp.astype(edges.penalty.conjugate(p, edges.weight), value.dtype)
        total = total - endpoints.per_problem(inner).sum(-1)
        upwards = upwards + endpoints.divergence(p)
        weights = xp.astype(edges.weight * xp.ones_like(p), value.dtype)
        scale = scale + endpoints.per_problem(weights).sum(-1) * extent.spread
    least = xp.astype(_least_over_the_box(xp, energy.ridge, z, upwards, low, high), value.dtype)
    total = total - flat(least).sum(-1)
    return xp.astype(xp.maximum(xp.where(scale > 0, total / scale, 0.0), 0), z.dtype)


def _least_over_the_box(xp: Any, ridge: Ridge | None, z: Array, upwards: Array, low: Array, high: Array) -> Array:
    """Least value of (A'p)_i z_i and the ridge over z_i in [l, u], of the shape of z."""
    if ridge is None:
        return xp.minimum(upwards * low, upwards * high)
    weight, anchor = xp.broadcast_to(ridge.weight, z.shape), ridge.anchor
    free = anchor - upwards / xp.where(weight > 0, weight, 1.0)
    best = xp.clip(xp.where(weight > 0, free, xp.where(upwards > 0, low, high)), low, high)
    return upwards * best + weight / 2 * (best - anchor) ** 2
