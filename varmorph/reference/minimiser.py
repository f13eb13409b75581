"""The minimiser of the energy of one plane: semismooth Newton steps with sparse direct solves (mathematics.md, section 4)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from varmorph.reference import scalar
from varmorph.reference.edges import Array
from varmorph.reference.energy import (
    EdgeList,
    curvature,
    energy,
    falls_apart,
    held,
    incidence_matrix,
    laplacian,
    residuals,
    secant,
    side,
    slope,
    solve_symmetric,
    spread_of,
)

SHARPEST = 9  # decades between the range of the known values and the last smoothing that stands for a quantile
MOST_STEPS = 2000
MOST_IDLE = 8  # steps that change the energy by rounding only, without a smaller residual


def _one_by_one(edges: EdgeList, unknowns: int) -> Array:
    """Solve an energy that falls apart exactly; only there the middle of several minimisers is known."""
    order = np.argsort(edges.target, kind="stable")
    target = edges.target[order]
    place = np.arange(target.size) - np.searchsorted(target, target)
    values, weight = np.zeros((2, unknowns, place.max() + 1))
    values[target, place] = (edges.value + edges.offset)[order]
    weight[target, place] = edges.weight[order]
    above, below, mu = (column[:1, None, None] for column in (edges.above, edges.below, edges.smoothing))
    problem = scalar.Problem(values[None, None], weight[None], above, below)
    penalty = "quantile" if mu == 0 else "huber"
    return scalar.minimise(problem, penalty, mu.ravel())[0, 0]


def minimise(edges: EdgeList, unknowns: int) -> Array:
    """Find the z of least energy.

    Quantile terms that are coupled are approached by huber terms, down to a smoothing of 1e-9 of the range, so they are
    accurate to about 1e-8 of it.

    Raises
    ------
    ValueError
        If some unknown is connected to no known value, or a known value is not finite.
    RuntimeError
        If the gradient of the energy stays above 1e-10 of its scale.
    """
    if not np.isfinite(edges.value).all():
        raise ValueError("x must be finite: a coupled minimiser would be NaN everywhere")
    if not held(edges, edges.weight * np.minimum(edges.above, edges.below), unknowns).all():
        raise ValueError("not well-posed: some output is connected to no known value by edges of positive weight")
    used = EdgeList(*(column[edges.weight > 0] for column in edges))
    if falls_apart(used) and np.isfinite(used.smoothing[0]):
        return _one_by_one(used, unknowns)
    z, residual, spread = _least_squares(used, unknowns), 0.0, spread_of(used)
    sharp, finest = used.smoothing == 0, np.inf
    for decade in range(SHARPEST + 1 if sharp.any() else 1) if spread > 0 else ():
        mu = np.where(sharp, spread * 10.0**-decade, used.smoothing)
        z, residual = _newton(used._replace(smoothing=mu), z)
        finest = mu.min()
    rounding = 1e-12 * np.abs(z).max() / finest  # what one rounded residual changes in a slope
    if residual > 1e-10 + rounding:
        raise RuntimeError(f"the gradient of the energy is still {residual:.1e} of its scale")
    return z


def _least_squares(edges: EdgeList, unknowns: int) -> Array:
    """Minimise with h = r^2 / 2 and the mean of the two factors on every edge."""
    incidence, conductance = incidence_matrix(edges, unknowns), edges.weight * (edges.above + edges.below) / 2
    return solve_symmetric(
        laplacian(edges, conductance, unknowns), -incidence.T @ (conductance * (edges.value + edges.offset))
    )


class _Point(NamedTuple):
    """A point on the way to the minimiser."""

    z: Array
    r: Array
    energy: float
    gradient: Array
    residual: float  # largest derivative relative to the sum of the greatest slopes of its terms


def _newton(edges: EdgeList, z: Array) -> tuple[Array, float]:
    """Go on until nothing improves; return the best point and its residual.

    Newton's matrix is singular where no edge is curved, and its steps can go far astray. A share of the reweighted matrix
    is added, which grows while steps fail and shrinks while they succeed.
    """
    into, spread = sparse.csr_array(incidence_matrix(edges, z.size).T), spread_of(edges)
    terms = abs(into)

    def point(z: Array) -> _Point:
        r = residuals(edges, z)
        gradient = into @ slope(edges, r)
        scale = terms @ (edges.weight * side(edges, r) * np.where(np.isinf(edges.smoothing), spread, 1.0))
        return _Point(z, r, energy(edges, z), gradient, np.max(np.abs(gradient) / scale))

    here = best = point(z)
    share, idle = 1.0, 0
    for _ in range(MOST_STEPS):
        if best.residual <= 1e-15 or idle > MOST_IDLE or share > 1e10:
            break
        matrix = laplacian(edges, curvature(edges, here.r) + share * secant(edges, here.r), z.size)
        try:
            direction = solve_symmetric(matrix, -here.gradient)
        except ValueError:
            share *= 10
            continue
        tried = (point(here.z + part * direction) for part in (1.0, 0.5, 0.25, 0.125))
        there = next((there for there in tried if _is_lower(there, here, direction)), None)
        if there is None:
            share *= 10
            continue
        share = max(share / 10, 1e-9)
        sure = here.energy - there.energy > 1e-13 * here.energy
        idle = 0 if sure or there.residual < best.residual else idle + 1
        best = min(best, there, key=lambda point: point.residual)
        here = there
    return best.z, best.residual


def _is_lower(there: _Point, here: _Point, direction: Array) -> bool:
    """Tell whether a step lowers the energy: surely, or by its derivative along the step where energies are rounded."""
    before, behind = here.gradient @ direction, there.gradient @ direction
    if here.energy - there.energy > 1e-13 * here.energy:
        return True
    flatter = abs(behind) <= 0.5 * abs(before) and there.energy <= here.energy * (1 + 1e-13)
    return bool(behind <= 0 or flatter)
