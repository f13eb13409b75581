"""Nonlinear Jacobi relaxation (mathematics.md section 4): each unknown alone, its neighbours as they stand.

For one unknown z_i with all others fixed the energy is a scalar convex function: an edge that ends at i pulls it towards
z_s + b, one that starts there towards z_t - b. All unknowns are treated at once.
"""

from __future__ import annotations

from typing import Any

from varmorph.formulas.energy import EnergyFormulas

__all__ = ["newton_step", "scalar_slopes"]

Array = Any  # of the framework whose namespace is `xp`


def scalar_slopes(energy: EnergyFormulas, z: Array, trial: Array) -> tuple[Array, Array, Array]:
    """Derivative, second derivative and reweighted stiffness of each scalar problem at its trial value."""
    xp = energy.xp
    slope, curvature, stiffness = xp.zeros_like(z), xp.zeros_like(z), xp.zeros_like(z)
    if energy.ridge is not None:
        slope, weight = energy.ridge.gradient(trial), energy.ridge.weight
        curvature, stiffness = curvature + weight, stiffness + weight
    for edges in energy.edges:
        endpoints, rho, w = edges.incidence, edges.penalty, edges.weight
        views = [(edges.offset - endpoints.at_target(trial), endpoints.add_at_target, -1)]
        if not endpoints.grounded:
            views = [
                (edges.offset + endpoints.at_source(z) - endpoints.at_target(trial), endpoints.add_at_target, -1),
                (edges.offset + endpoints.at_source(trial) - endpoints.at_target(z), endpoints.add_at_source, 1),
            ]
        for r, add, sign in views:
            slope = slope + sign * add(w * rho.slope(r))
            stiff = add(xp.detach(w * rho.stiffness(r)))
            stiffness = stiffness + stiff
            curvature = curvature + (stiff if rho.h == "square" else add(xp.detach(w * rho.curvature(r))))
    return slope, curvature, stiffness


def newton_step(xp: Any, slope: Array, curvature: Array, stiffness: Array) -> Array:
    """Newton's step; one of reweighted least squares where the second derivative is 0."""
    scale = xp.where(curvature > 1e-6 * stiffness, curvature, stiffness)
    return xp.where(scale > 0, slope, 0.0) / xp.where(scale > 0, scale, 1.0)
