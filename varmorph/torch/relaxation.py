"""One sweep of nonlinear Jacobi relaxation: each unknown becomes the minimiser between its neighbours as they stand.

For one unknown z_i with all others fixed the energy is a scalar convex function: an edge that ends at i pulls it towards
z_s + b, one that starts there towards z_t - b. All unknowns are treated at once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from varmorph.torch.energy import Energy

__all__ = ["relaxed"]


def _scalar_slopes(energy: Energy, z: Tensor, trial: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Derivative, second derivative and reweighted stiffness of each scalar problem at its trial value."""
    slope, curvature, stiffness = torch.zeros_like(z), torch.zeros_like(z), torch.zeros_like(z)
    if energy.ridge is not None:
        slope, weight = energy.ridge.gradient(trial), energy.ridge.weight
        curvature, stiffness = curvature + weight, stiffness + weight
    for edges in energy.edges:
        ends, rho, w = edges.incidence, edges.penalty, edges.weight
        views = [(edges.offset - ends.at_target(trial), ends.add_at_target, -1)]
        if not ends.grounded:
            views = [
                (edges.offset + ends.at_source(z) - ends.at_target(trial), ends.add_at_target, -1),
                (edges.offset + ends.at_source(trial) - ends.at_target(z), ends.add_at_source, 1),
            ]
        for r, add, sign in views:
            force, stiff = rho.forces(r)
            slope = slope + sign * add(w * force)
            stiffness = stiffness + add((w * stiff).detach())
            curvature = curvature + add((w * rho.curvature(r)).detach())
    return slope, curvature, stiffness


def relaxed(energy: Energy, z: Tensor, steps: int) -> Tensor:
    """Minimise over each unknown alone, by at most `steps` Newton steps inside a bracket.

    Where the second derivative is 0 a step of reweighted least squares is taken instead. The values are exact when the
    pieces of the penalties no longer change.
    """
    unit = 4 * torch.finfo(z.dtype).eps
    low, high = torch.full_like(z, -torch.inf), torch.full_like(z, torch.inf)
    trial = z
    for _ in range(steps):
        slope, curvature, stiffness = _scalar_slopes(energy, z, trial)
        here, rising = trial.detach(), slope.detach()
        low, high = torch.where(rising < 0, here, low), torch.where(rising > 0, here, high)
        scale = torch.where(curvature > 1e-6 * stiffness, curvature, stiffness)
        change = slope.where(scale > 0, 0.0) / scale.where(scale > 0, 1.0)
        if bool((change.detach().abs() <= unit * here.abs()).all()):
            break
        trial = trial - change
        outside = (trial.detach() < low) | (trial.detach() > high)
        halved = outside & low.isfinite() & high.isfinite()
        trial = torch.where(halved, low + (high - low) / 2, trial)
    return trial
