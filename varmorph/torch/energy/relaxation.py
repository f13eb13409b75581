"""One sweep of nonlinear Jacobi relaxation: see `varmorph.formulas.relaxation`."""

from __future__ import annotations

import torch
from torch import Tensor

from varmorph.formulas.relaxation import newton_step, scalar_slopes
from varmorph.torch.energy.energy import Energy
from varmorph.torch.energy.namespace import xp

__all__ = ["relaxed"]


def relaxed(energy: Energy, z: Tensor, steps: int) -> Tensor:
    """Minimise over each unknown alone, by at most `steps` Newton steps inside a bracket and one more.

    The last step, with its slope's denominator held fixed, carries the gradient: Newton's map has derivative 0 where it
    starts at its fixed point, so that the derivative of this one step is that of the scalar minimiser.
    """
    with torch.no_grad():
        trial = _scalar_minimisers(energy, z, steps)
    return trial - newton_step(xp, *scalar_slopes(energy, z, trial))


def _scalar_minimisers(energy: Energy, z: Tensor, steps: int) -> Tensor:
    unit = 4 * torch.finfo(z.dtype).eps
    low, high = torch.full_like(z, -torch.inf), torch.full_like(z, torch.inf)
    trial = z
    for _ in range(steps):
        slope, curvature, stiffness = scalar_slopes(energy, z, trial)
        low, high = torch.where(slope < 0, trial, low), torch.where(slope > 0, trial, high)
        change = newton_step(xp, slope, curvature, stiffness)
        if bool((change.abs() <= unit * trial.abs()).all()):
            break
        trial = trial - change
        inside = low.isfinite() & high.isfinite()
        least, greatest = low.where(inside, 0.0), high.where(inside, 0.0)
        halved = inside & ((trial < low) | (trial > high))
        trial = torch.where(halved, least + (greatest - least) / 2, trial)
    return trial
