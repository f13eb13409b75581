"""Sums over the edges of an energy, and its linear systems, by compiled CPU code; see `varmorph.kernels.edges`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from varmorph.kernels.edges.laplacian import solve
from varmorph.kernels.edges.sums import Family
from varmorph.kernels.edges.sums import evaluate as evaluate_family
from varmorph.torch.backend.ops.arrays import array_of, in_threads
from varmorph.torch.energy.energy import Evaluation

if TYPE_CHECKING:
    from varmorph.torch.energy.energy import Energy
    from varmorph.torch.energy.laplacian import Laplacian

__all__ = ["conjugate_gradients", "evaluate", "families"]

# How many times the work of one pass over all edges a solve is.
PASSES = 16


def _per_problem(number: Tensor | float, like: Tensor, leading: int) -> np.ndarray:
    """Give a number of a penalty for each problem (N, C)."""
    shape = [length if leading <= d < leading + 2 else 1 for d, length in enumerate(like.shape)]
    numbers = torch.as_tensor(number, dtype=like.dtype).expand(shape)
    return array_of(numbers.reshape(shape[leading : leading + 2]))


def _per_edge(numbers: Tensor, like: Tensor, leading: int) -> np.ndarray:
    """Give numbers of edges as (slots, N or 1, C, positions)."""
    shape, behind = list(like.shape), like.ndim - leading
    if numbers.ndim < behind or numbers.shape[-behind] == 1:
        shape[leading] = 1
    numbers = numbers.to(like.dtype).expand(shape)
    return array_of((numbers if leading else numbers[None]).flatten(3))


def families(energy: Energy) -> list[Family]:
    """List the edges of an energy for the kernels."""
    found = []
    for edges, endpoints, shape in zip(energy.edges, energy.endpoints, energy.shapes, strict=True):
        rho, leading, like = edges.penalty, edges.incidence.leading, energy.zeros.new_empty(()).expand(shape)
        mu = {"square": 1.0, "absolute": torch.finfo(like.dtype).tiny}.get(rho.h, rho.smoothing)
        limit = {"square": torch.inf, "absolute": 0.0}.get(rho.h, rho.smoothing)
        sides = (1.0, 1.0) if rho.tau is None or rho.cotau is None else (rho.tau, rho.cotau)
        offset, weight = (_per_edge(numbers, like, leading) for numbers in (edges.offset, edges.weight))
        tau, cotau, bend, end = (_per_problem(number, like, leading) for number in (*sides, mu, limit))
        straight = offset.dtype.type(rho.h != "square")
        source, target = (rows.numpy() for rows in endpoints)
        found.append(Family(offset, weight, tau, cotau, bend, end, straight, edges.incidence.grounded, source, target))
    return found


def evaluate(energy: Energy, z: Tensor) -> Evaluation:
    """Evaluate as `Energy.evaluate` does, with the energy itself besides; without gradient."""
    flat = z.detach().reshape(z.shape[:2].numel(), z.shape[2:].numel()).contiguous()
    gradient, diagonal = z.new_zeros(z.shape), z.new_zeros(z.shape)
    value = torch.zeros(z.shape[:2], dtype=torch.float64)
    if energy.ridge is not None:
        weight, away = energy.ridge.weight.detach(), z.detach() - energy.ridge.anchor.detach()
        gradient.copy_(weight * away)
        diagonal.add_(weight)
        value = (weight / 2 * away**2).flatten(2).sum(-1, dtype=value.dtype)
    sums = [a.view(flat.shape).numpy() for a in (gradient, diagonal)]
    residuals, stiffnesses = [], []
    for family, shape in zip(energy.families, energy.shapes, strict=True):
        slots, positions = family.offset.shape[0], family.offset.shape[3]
        residual, stiffness = np.empty((2, slots, flat.shape[0], positions), flat.numpy().dtype)
        run = partial(evaluate_family, flat.numpy(), family, residual, stiffness, *sums, value.view(-1).numpy())
        in_threads(run, flat.shape[0], residual.size)
        residuals.append(torch.from_numpy(residual).view(shape))
        stiffnesses.append(torch.from_numpy(stiffness).view(shape))
    return Evaluation(z, tuple(residuals), tuple(stiffnesses), gradient, diagonal, value)


def _joined(matrix: Laplacian, problems: int) -> list[np.ndarray]:
    """List the conductances of all edges between unknowns (slots, problems, positions), their sources and targets."""
    if len(matrix.coupled) == 1:
        (incidence, c), endpoints = matrix.coupled[0], matrix.endpoints[0]
        conductance = (c if incidence.leading else c[None]).flatten(1, 2).flatten(2)
        return [a.contiguous().numpy() for a in (conductance, *endpoints)]
    none = torch.empty(0, dtype=torch.int32)
    lists, sources, targets = [matrix.grounded.new_empty(problems, 0)], [none], [none]
    for (incidence, c), endpoints in zip(matrix.coupled, matrix.endpoints, strict=True):
        slots = c.shape[0] if incidence.leading else 1
        lists.append(incidence.per_problem(c).flatten(0, 1))
        for ends_so_far, rows in zip((sources, targets), endpoints, strict=True):
            ends_so_far.append(rows.expand(slots, rows.shape[1]).flatten())
    return [torch.cat(a, -1)[None].contiguous().numpy() for a in (lists, sources, targets)]


def conjugate_gradients(
    matrix: Laplacian, right: Tensor, tolerance: Tensor | float, max_steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Solve as `varmorph.torch.energy.conjugate_gradients` does: the solution, and steps and residual of each problem."""
    problems = right.shape[:2]
    flat, known, diagonal = (
        a.detach().reshape(problems.numel(), right.shape[2:].numel()).contiguous().numpy()
        for a in (right, matrix.grounded, matrix.diagonal)
    )
    conductance, source, target = _joined(matrix, problems.numel())
    limit = torch.as_tensor(tolerance, dtype=torch.float64).expand(problems).contiguous().view(-1).numpy()
    value, steps, norms = np.empty_like(flat), np.empty(limit.shape, np.int64), np.empty(limit.shape)

    def run(start: int, stop: int) -> None:
        solve(flat, conductance, source, target, known, diagonal, limit, max_steps, value, steps, norms, start, stop)

    in_threads(run, problems.numel(), PASSES * (conductance.size + flat.size))
    solution = torch.from_numpy(value).view(right.shape)
    return solution, torch.from_numpy(steps).view(problems), torch.from_numpy(norms).view(problems).to(right.dtype)
