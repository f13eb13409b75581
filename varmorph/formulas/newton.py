"""Primal-dual weights of Newton's method (mathematics.md section 4): conductances, and the duals of straight pieces.

T. F. Chan, G. H. Golub, P. Mulet (1999), SIAM J. Sci. Comput. 20(6), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from varmorph.formulas.energy import Edges, Evaluation

__all__ = ["Duals", "conductances", "first_duals", "next_duals"]

Array = Any  # of the framework whose namespace is `xp`
Duals = tuple[
    Array | None, ...
]  # for each family with Huber's penalty, its slope h'(r) as a variable of its own; None for others


def first_duals(xp: Any, families: Sequence[Edges], residuals: Sequence[Array]) -> Duals:
    """Duals 0, with which the conductances are those of reweighted least squares."""
    huber = [edges.penalty.h == "huber" and edges.penalty.smoothing is not None for edges in families]
    return tuple(xp.zeros_like(r) if h else None for r, h in zip(residuals, huber, strict=True))


def conductances(xp: Any, families: Sequence[Edges], at: Evaluation, duals: Duals, share: Array) -> list[Array]:
    """Conductances of a Newton system: stiffnesses, less where a penalty is straight and its dual says so.

    at : the energy evaluated at the iterate.  share : of the stiffness (N, C),
    that is added on straight pieces, so that the system stays regular.
    """
    return [
        k if p is None else k * _straightened(xp, edges, r, p, share)
        for edges, r, k, p in zip(families, at.residuals, at.stiffnesses, duals, strict=True)
    ]


def _straightened(xp: Any, edges: Edges, r: Array, dual: Array, share: Array) -> Array:
    """Factor of the stiffness: 1 where the penalty is curved, 1 - p sign(r) and the share where it is straight."""
    curved = xp.abs(r) <= edges.penalty.smoothing
    blend = edges.incidence.over_edges(share, r)
    return xp.where(curved, 1.0, xp.maximum(1 - dual * xp.sign(r), 0) + blend)


def next_duals(
    xp: Any, families: Sequence[Edges], residuals: Sequence[Array], duals: Duals, step: Array, active: Array
) -> Duals:
    """Duals after a step of the unknowns: slopes h'(r), linearised in r and p, within [-1, 1].

    residuals : before the step.  active : (N, C), the problems that move; the duals of the others stay as they are.
    """
    found: list[Array | None] = []
    for edges, r, p in zip(families, residuals, duals, strict=True):
        if p is None:
            found.append(None)
            continue
        mu, change = edges.penalty.smoothing, edges.incidence.difference(step)
        size = xp.maximum(xp.abs(r), mu)
        moved = (r + change - (xp.abs(r) > mu) * p * xp.sign(r) * change) / size
        found.append(xp.where(edges.incidence.over_edges(active, r), xp.clip(moved, -1, 1), p))
    return tuple(found)
