"""One sweep of nonlinear Jacobi relaxation: each unknown becomes the minimiser between its neighbours as they stand.

For one unknown z_i with all others fixed the energy is a scalar convex function: an edge that ends at i pulls it towards
z_s + b, one that starts there towards z_t - b. All unknowns are treated at once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from varmorph.torch.energy.energy import Energy

__all__ = ["relaxed"]


def _scalar_slopes(energy: Energy, z: Tensor, trial: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Derivative, second derivative and reweighted stiffness of each scalar problem at its trial value."""
    slope, curvature, stiffness = torch.zeros_like(z), torch.zeros_like(z), torch.zeros_like(z)
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
            stiff = add((w * rho.stiffness(r)).detach())
            stiffness = stiffness + stiff
            curvature = curvature + (stiff if rho.h == "square" else add((w * rho.curvature(r)).detach()))
    return slope, curvature, stiffness


def relaxed(energy: Energy, z: Tensor, steps: int) -> Tensor:
    """Minimise over each unknown alone, by at most `steps` Newton steps inside a bracket and one more.

    The last step, with its slope's denominator held fixed, carries the gradient: Newton's map has derivative 0 where it
    starts at its fixed point, so that the derivative of this one step is that of the scalar minimiser.
    """
    with torch.no_grad():
        trial = _scalar_minimisers(energy, z, steps)
    slope, curvature, stiffness = _scalar_slopes(energy, z, trial)
    return trial - _step(slope, curvature, stiffness)


def _step(slope: Tensor, curvature: Tensor, stiffness: Tensor) -> Tensor:
    """Newton's step; one of reweighted least squares where the second derivative is 0."""
    scale = torch.where(curvature > 1e-6 * stiffness, curvature, stiffness)
    return slope.where(scale > 0, 0.0) / scale.where(scale > 0, 1.0)


def _scalar_minimisers(energy: Energy, z: Tensor, steps: int) -> Tensor:
    unit = 4 * torch.finfo(z.dtype).eps
    low, high = torch.full_like(z, -torch.inf), torch.full_like(z, torch.inf)
    trial = z
    for _ in range(steps):
        slope, curvature, stiffness = _scalar_slopes(energy, z, trial)
        low, high = torch.where(slope < 0, trial, low), torch.where(slope > 0, trial, high)
        change = _step(slope, curvature, stiffness)
        if bool((change.abs() <= unit * trial.abs()).all()):
            break
        trial = trial - change
        halved = ((trial < low) | (trial > high)) & low.isfinite() & high.isfinite()
        trial = torch.where(halved, low + (high - low) / 2, trial)
    return trial
