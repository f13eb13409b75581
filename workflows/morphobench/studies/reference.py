"""The float64 reference of the gradient study: solution, implicit gradient and active set of an instance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

import varmorph.reference
from morphobench.studies.instances import Instance
from morphobench.studies.unrolling import above, neighbours

__all__ = ["TIE", "Reference", "solve_reference"]

TIE = 1e-12  # a neighbour nearer to the output than this share of the neighbours' range counts as a tie


@dataclass(frozen=True)
class Reference:
    """What the modes are compared with, from `varmorph.reference` in float64.

    Parameters
    ----------
    value : ndarray
        (1, C, H, W).
    gradients : tuple of ndarray
        In the order of `PARAMETERS`: the closed form of the implicit gradient, edge by edge, without automatic
        differentiation.
    active : ndarray
        (1, C, T, H, W), bool: the neighbours at or above the output; places outside the image hold 0 plus the bias.
    ties : bool
        Whether some neighbour equals its output, so that there may be no derivative.
    spread : float
        Range of the output.
    """

    value: np.ndarray
    gradients: tuple[np.ndarray, ...]
    active: np.ndarray
    ties: bool
    spread: float


def solve_reference(instance: Instance) -> Reference:
    """Solve and differentiate an instance."""
    value = getattr(varmorph.reference, instance.operator)(*instance.arguments)
    differentiate = getattr(varmorph.reference, f"{instance.operator}_gradient")
    gradients = differentiate(*instance.arguments, instance.cotangent)
    window = neighbours(*map(torch.as_tensor, instance.arguments), erosion=instance.erosion)
    inside = (window.weight > 0).expand_as(window.value)
    residual = (window.value - torch.as_tensor(value)[:, :, None])[inside]
    spread = float(np.ptp(window.value[inside].numpy()))
    return Reference(
        value,
        gradients[: len(instance.arguments)],  # the expectile has no smoothing
        above(window, torch.as_tensor(value)).numpy(),
        bool((residual.abs() <= TIE * spread).any()),
        float(np.ptp(value)),
    )
