"""The energy of one plane as a list of edges, its terms and its matrices (mathematics.md, sections 1 and 4).

Every term is weight * a(r) * h(r) with r = z_source + offset - z_target. Pixels, shifts, nodes and channels do not occur
here. With the incidence matrix B, which has one row an edge, r = B z + constant, the gradient is B' slope, and every
matrix is a Laplacian B' diag(c) B of conductances c.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from varmorph.reference.edges import Array

KNOWN = -1  # the source of an edge that starts at a known value


class EdgeList(NamedTuple):
    """The terms of an energy, one number an edge in each array."""

    source: Array  # the unknown at the start, or KNOWN
    value: Array  # the known value at the start, 0 where that is an unknown
    target: Array  # the unknown at the end
    offset: Array
    weight: Array
    above: Array  # the factor a where r >= 0
    below: Array  # the factor a where r < 0
    smoothing: Array  # mu of the huber penalty; inf makes h = r^2 / 2, and 0 makes h = |r|


def concatenate(lists: list[EdgeList]) -> EdgeList:
    """Put the terms of several lists into one energy."""
    return EdgeList(*(np.concatenate(columns) for columns in zip(*lists, strict=True)))


# --- the terms ------------------------------------------------------------------------------------------------------


def residuals(edges: EdgeList, z: Array) -> Array:
    """Give r = z_source + offset - z_target of every edge."""
    start = np.where(edges.source == KNOWN, edges.value, z[edges.source])
    return start + edges.offset - z[edges.target]


def side(edges: EdgeList, r: Array) -> Array:
    """Give the factor a(r) of every edge."""
    return np.where(r >= 0, edges.above, edges.below)


def energy(edges: EdgeList, z: Array) -> float:
    """E(z) = sum of weight * a(r) * h(r), where no edge has the penalty |r|."""
    r, mu = residuals(edges, z), edges.smoothing
    h = np.where(np.isinf(mu), r**2 / 2, np.where(np.abs(r) <= mu, r**2 / (2 * mu), np.abs(r) - mu / 2))
    return float((edges.weight * side(edges, r) * h).sum())


def slope_of_h(edges: EdgeList, r: Array) -> Array:
    """Give the derivative of h in each residual."""
    return np.where(np.isinf(edges.smoothing), r, np.clip(r / edges.smoothing, -1, 1))


def slope(edges: EdgeList, r: Array) -> Array:
    """Give the derivative of each term in its residual."""
    return edges.weight * side(edges, r) * slope_of_h(edges, r)


def secant(edges: EdgeList, r: Array) -> Array:
    """Give the conductances of iteratively reweighted least squares: slope = conductance * r."""
    flat = np.where(np.isinf(edges.smoothing), 1.0, np.maximum(np.abs(r), edges.smoothing))
    return edges.weight * side(edges, r) / flat


def curvature(edges: EdgeList, r: Array) -> Array:
    """Give the conductances of Newton's method, the derivative of each slope."""
    curved = np.isinf(edges.smoothing) | (np.abs(r) <= edges.smoothing)
    return np.where(curved, secant(edges, r), 0.0)


# --- matrices -------------------------------------------------------------------------------------------------------


def incidence_matrix(edges: EdgeList, unknowns: int) -> sparse.csr_array:
    """One row an edge: 1 at an unknown source, -1 at the target."""
    inner, rows = np.flatnonzero(edges.source != KNOWN), np.arange(edges.target.size)
    signs = np.concatenate([np.ones(inner.size), -np.ones(rows.size)])
    places = np.concatenate([inner, rows]), np.concatenate([edges.source[inner], edges.target])
    return sparse.csr_array((signs, places), shape=(rows.size, unknowns))


def laplacian(edges: EdgeList, conductance: Array, unknowns: int) -> sparse.csc_array:
    """B' diag(conductance) B: each edge adds its conductance at its unknown ends and takes it off between two of them."""
    inner = edges.source != KNOWN
    source, target, c = edges.source[inner], edges.target[inner], conductance[inner]
    rows = np.concatenate([edges.target, source, source, target])
    columns = np.concatenate([edges.target, source, target, source])
    values = np.concatenate([conductance, c, -c, -c])
    return sparse.csc_array((values, (rows, columns)), shape=(unknowns, unknowns))


def solve_symmetric(matrix: sparse.csc_array, right: Array) -> Array:
    """Solve with the Laplacian of a plane, without row exchanges: it is diagonally dominant."""
    options = {"SymmetricMode": True}
    try:
        factors = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options)
    except RuntimeError as error:
        raise ValueError("the Hessian of the energy is singular to rounding") from error
    return factors.solve(right)


def held(edges: EdgeList, conductance: Array, unknowns: int) -> Array:
    """Tell which unknowns are connected to a known value by edges of positive conductance."""
    used = conductance > 0
    source = np.where(edges.source == KNOWN, unknowns, edges.source)[used]
    links = sparse.coo_array((np.ones(source.size), (source, edges.target[used])), shape=(unknowns + 1, unknowns + 1))
    _, component = connected_components(links, directed=False)
    return component[:-1] == component[-1]


def spread_of(edges: EdgeList) -> float:
    """Range of known values plus offset."""
    starts = (edges.value + edges.offset)[(edges.source == KNOWN) & (edges.weight > 0)]
    return float(np.ptp(starts))


def falls_apart(edges: EdgeList) -> bool:
    """Tell whether every unknown has a scalar problem of its own, with one level and one smoothing for all."""
    columns = (edges.above, edges.below, edges.smoothing)
    return bool((edges.source == KNOWN).all()) and all((column == column[0]).all() for column in columns)
