"""Linear systems of many independent problems at once: conjugate gradients, each with a stop of its own, and a series."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from varmorph.formulas.per_problem import dot, power_of_two
from varmorph.torch.energy.laplacian import Laplacian
from varmorph.torch.energy.namespace import xp

__all__ = ["LinearSolution", "conjugate_gradients", "neumann_series"]


class LinearSolution(NamedTuple):
    """Solution of the shape of z, and for each problem (N, C) the steps taken and the residual relative to the right side."""

    value: Tensor
    steps: Tensor
    residual: Tensor


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Quotient, 0 where the denominator is not positive: nothing is left to do there, or the matrix is singular."""
    safe = denominator > 0
    return numerator.where(safe, 0.0) / denominator.where(safe, 1.0)


def conjugate_gradients(matrix: Laplacian, right: Tensor, tolerance: Tensor | float, max_steps: int) -> LinearSolution:
    """Solve matrix(v) = right, preconditioned by the diagonal, until the residual norm is tolerance times that of right.

    right : (N, C, ...).  tolerance : number or (N, C).  A problem that has stopped does not move any more; one that
    holds NaN stops at once and keeps residual NaN.
    """
    if matrix.endpoints is not None and not torch.is_grad_enabled():
        from varmorph.torch.backend.ops import edges as launcher  # numba is loaded by the first kernel that runs

        return LinearSolution(*launcher.conjugate_gradients(matrix, matrix.endpoints, right, tolerance, max_steps))
    inverse = _ratio(torch.ones_like(matrix.diagonal), matrix.diagonal)
    # Scaled to norm 1, so that squares neither overflow nor vanish in single precision: those of the norm itself included.
    unit = power_of_two(xp, right.detach(), range(2, right.ndim))
    scaled = right / unit
    size = dot(scaled, scaled).detach().sqrt()
    size = size.where(size > 0, 1.0)
    residual = scaled / size
    value = torch.zeros_like(right)
    conditioned = inverse * residual
    direction, product = conditioned, dot(residual, conditioned)
    steps = torch.zeros(right.shape[:2], dtype=torch.long, device=right.device)
    norm = dot(residual, residual).sqrt().flatten(1)
    limit = torch.as_tensor(tolerance, dtype=right.dtype, device=right.device).expand_as(norm)
    for _ in range(max_steps):
        active = norm > limit
        if not bool(active.any()):
            break
        image = matrix(direction)
        # A step of length 0 holds a problem that has stopped; where it would go does not matter.
        length = _ratio(product, dot(direction, image)).where(active.view(size.shape), 0.0)
        value = value + length * direction
        residual = residual - length * image
        conditioned = inverse * residual
        before, product = product, dot(residual, conditioned)
        direction = conditioned + _ratio(product, before) * direction
        steps = steps + active
        norm = dot(residual, residual).sqrt().flatten(1)
    return LinearSolution(value * size * unit, steps, norm)


def neumann_series(matrix: Laplacian, right: Tensor, terms: int) -> LinearSolution:
    """Add up sum_{j < terms} (I - D^-1 matrix)^j D^-1 right, D the diagonal of the matrix."""
    inverse = _ratio(torch.ones_like(matrix.diagonal), matrix.diagonal)
    unit = power_of_two(xp, right, range(2, right.ndim))
    scaled = right / unit
    value = inverse * scaled
    for _ in range(terms - 1):
        value = value + inverse * (scaled - matrix(value))
    residual, size = scaled - matrix(value), dot(scaled, scaled).sqrt()
    relative = (dot(residual, residual).sqrt() / size.where(size > 0, 1.0)).view(right.shape[:2])
    return LinearSolution(value * unit, torch.full(right.shape[:2], terms, device=right.device), relative)
