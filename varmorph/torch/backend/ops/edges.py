"""Sums over the edges of an energy, and its linear systems, by compiled CPU code; see `varmorph.kernels.edges`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from varmorph.formulas.energy import Edges, Evaluation, Ridge
from varmorph.formulas.laplacian import LaplacianFormulas
from varmorph.kernels.edges.laplacian import solve
from varmorph.kernels.edges.sums import Family
from varmorph.kernels.edges.sums import evaluate as evaluate_family
from varmorph.torch.backend.ops.arrays import array_of, in_threads

__all__ = ["conjugate_gradients", "evaluate", "family"]

# How many times the work of one pass over all edges a solve is.
PASSES = 16

Endpoints = Sequence[tuple[Tensor, Tensor]]


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


def family(edges: Edges, source: Tensor, target: Tensor, like: Tensor) -> Family:
    """Describe the edges of a family for the kernels.

    source, target : as `Energy.endpoints` gives them.  like : a tensor of the shape of the edges.
    """
    rho, leading = edges.penalty, edges.incidence.leading
    mu = {"square": 1.0, "absolute": torch.finfo(like.dtype).tiny}.get(rho.h, rho.smoothing)
    limit = {"square": torch.inf, "absolute": 0.0}.get(rho.h, rho.smoothing)
    sides = (1.0, 1.0) if rho.tau is None or rho.cotau is None else (rho.tau, rho.cotau)
    offset, weight = (_per_edge(numbers, like, leading) for numbers in (edges.offset, edges.weight))
    tau, cotau, bend, end = (_per_problem(number, like, leading) for number in (*sides, mu, limit))
    straight, grounded = offset.dtype.type(rho.h != "square"), edges.incidence.grounded
    return Family(offset, weight, tau, cotau, bend, end, straight, grounded, source.numpy(), target.numpy())


def evaluate(
    z: Tensor, families: Sequence[Family], shapes: Sequence[tuple[int, ...]], ridge: Ridge | None
) -> Evaluation:
    """Evaluate an energy as `Energy.evaluate` does, with its value besides; without gradient.

    shapes : of the edges of each family.
    """
    flat = z.detach().reshape(z.shape[:2].numel(), z.shape[2:].numel()).contiguous()
    gradient, diagonal = z.new_zeros(z.shape), z.new_zeros(z.shape)
    value = torch.zeros(z.shape[:2], dtype=torch.float64)
    if ridge is not None:
        weight, away = ridge.weight.detach(), z.detach() - ridge.anchor.detach()
        gradient.copy_(weight * away)
        diagonal.add_(weight)
        value = (weight / 2 * away**2).flatten(2).sum(-1, dtype=value.dtype)
    sums = [a.view(flat.shape).numpy() for a in (gradient, diagonal)]
    residuals, stiffnesses = [], []
    for family, shape in zip(families, shapes, strict=True):
        slots, positions = family.offset.shape[0], family.offset.shape[3]
        residual, stiffness = np.empty((2, slots, flat.shape[0], positions), flat.numpy().dtype)
        run = partial(evaluate_family, flat.numpy(), family, residual, stiffness, *sums, value.view(-1).numpy())
        in_threads(run, flat.shape[0], residual.size)
        residuals.append(torch.from_numpy(residual).view(shape))
        stiffnesses.append(torch.from_numpy(stiffness).view(shape))
    return Evaluation(z, tuple(residuals), tuple(stiffnesses), gradient, diagonal, value)


def _joined(matrix: LaplacianFormulas, endpoints: Endpoints, problems: int) -> list[np.ndarray]:
    """List the conductances of all edges between unknowns (slots, problems, positions), their sources and targets."""
    if len(matrix.coupled) == 1:
        incidence, c = matrix.coupled[0]
        conductance = (c if incidence.leading else c[None]).flatten(1, 2).flatten(2)
        return [a.contiguous().numpy() for a in (conductance, *endpoints[0])]
    none = torch.empty(0, dtype=torch.int32)
    lists, sources, targets = [matrix.grounded.new_empty(problems, 0)], [none], [none]
    for (incidence, c), rows in zip(matrix.coupled, endpoints, strict=True):
        slots = c.shape[0] if incidence.leading else 1
        lists.append(incidence.per_problem(c).flatten(0, 1))
        for listed, nodes in zip((sources, targets), rows, strict=True):
            listed.append(nodes.expand(slots, nodes.shape[1]).flatten())
    return [torch.cat(a, -1)[None].contiguous().numpy() for a in (lists, sources, targets)]


def conjugate_gradients(
    matrix: LaplacianFormulas, endpoints: Endpoints, right: Tensor, tolerance: Tensor | float, max_steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Solve as `varmorph.torch.energy.conjugate_gradients` does: the solution, and steps and residual of each problem.

    endpoints : source and target of each edge between unknowns, as `Energy.endpoints` gives them.
    """
    problems = right.shape[:2]
    flat, known, diagonal = (
        a.detach().reshape(problems.numel(), right.shape[2:].numel()).contiguous().numpy()
        for a in (right, matrix.grounded, matrix.diagonal)
    )
    conductance, source, target = _joined(matrix, endpoints, problems.numel())
    limit = torch.as_tensor(tolerance, dtype=torch.float64).expand(problems).contiguous().view(-1).numpy()
    value, steps, norms = np.empty_like(flat), np.empty(limit.shape, np.int64), np.empty(limit.shape)

    def run(start: int, stop: int) -> None:
        solve(flat, conductance, source, target, known, diagonal, limit, max_steps, value, steps, norms, start, stop)

    in_threads(run, problems.numel(), PASSES * (conductance.size + flat.size))
    solution = torch.from_numpy(value).view(right.shape)
    return solution, torch.from_numpy(steps).view(problems), torch.from_numpy(norms).view(problems).to(right.dtype)
