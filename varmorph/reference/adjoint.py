"""Derivatives of the minimiser by the implicit function theorem (mathematics.md, section 5)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from varmorph.reference.edges import Array
from varmorph.reference.energy import (
    EdgeList,
    falls_apart,
    held,
    incidence_matrix,
    laplacian,
    residuals,
    slope_of_h,
    solve_symmetric,
)

NEAR = 1e-12  # part of the numbers in a residual below which it counts as a tie: they are rounded


class EdgeDerivatives(NamedTuple):
    """Derivatives of a loss with respect to what each edge carries; those of `offset` hold for known values too."""

    offset: Array
    weight: Array
    above: Array
    below: Array
    smoothing: Array


def differentiate(edges: EdgeList, z: Array, cotangent: Array) -> EdgeDerivatives:
    """Differentiate sum(cotangent * z) with respect to what the edges carry: H v = cotangent, then -v' d(gradient of E).

    A residual of 0 counts as above, one of mu as curved, both up to rounding. Where every unknown has a scalar problem of
    its own, the conventions of the separable operators hold on flat pieces.

    Raises
    ------
    ValueError
        If H is singular, or the energy has coupled quantile terms.
    """
    r, mu = residuals(edges, z), edges.smoothing
    near = NEAR * (np.abs(r + z[edges.target]) + np.abs(edges.offset) + np.where(np.isinf(mu), 0.0, mu))
    above = r >= -near
    curved = np.isinf(mu) | (np.abs(r) <= mu + near)
    factor = edges.weight * np.where(above, edges.above, edges.below)
    with np.errstate(divide="ignore"):
        unit = np.where(np.isinf(mu), 1.0, 1 / mu)
        conductance = factor * np.where(curved & (mu > 0), unit, 0.0)
    flat = np.zeros(z.size, dtype=bool)
    used = EdgeList(*(column[edges.weight > 0] for column in edges))
    if falls_apart(used):
        inner = (edges.weight > 0) & (np.isinf(mu) | (np.abs(r) < mu - near))
        flat = np.bincount(edges.target[inner], minlength=z.size) == 0
    elif (mu == 0).any():
        raise ValueError("coupled quantile has no implicit gradient: use huber and a ridge")
    if not held(edges, conductance, z.size)[~flat].all():
        raise ValueError(
            "the Hessian of the energy is singular: some output is connected to no known value by curved edges"
        )
    incidence = incidence_matrix(edges, z.size)
    conductance = np.where(flat[edges.target], 0.0, conductance)
    hessian = laplacian(edges, conductance, z.size) + sparse.diags_array(flat.astype(float))
    pull = incidence @ solve_symmetric(sparse.csc_array(hessian), np.where(flat, 0.0, cotangent))
    slope = slope_of_h(edges, r) if not (mu == 0).any() else np.zeros_like(r)
    by_factor = -edges.weight * slope * pull
    with np.errstate(invalid="ignore", divide="ignore"):
        by_smoothing = np.where(curved & np.isfinite(mu) & (mu > 0), factor * r / mu**2 * pull, 0.0)
    return EdgeDerivatives(
        offset=-conductance * pull + _flat_shares(edges, r, near, flat) * cotangent[edges.target],
        weight=-np.where(above, edges.above, edges.below) * slope * pull,
        above=np.where(above, by_factor, 0.0),
        below=np.where(above, 0.0, by_factor),
        smoothing=by_smoothing,
    )


def _flat_shares(edges: EdgeList, r: Array, near: Array, flat: Array) -> Array:
    """Give 1/2 to the edge at each end of a flat piece, the first of several."""
    shares = np.zeros(r.size)
    for node in np.flatnonzero(flat):
        for side in (1, -1):
            beyond = (edges.target == node) & (edges.weight > 0) & (side * r >= edges.smoothing - near)
            into = np.flatnonzero(beyond)
            distance = side * r[into]
            shares[into[distance <= distance.min() + near[into]][0]] += 1 / 2
    return shares
