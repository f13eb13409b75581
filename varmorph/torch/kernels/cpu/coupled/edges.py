"""Sums over the edges of an energy, and conjugate gradients with its Laplacian: for edges of every kind.

One problem has `nodes` unknowns in one list. A family of edges has slots x positions of them: edge (t, m) of problem p leads
from source[t, m] to target[t, m]; both lists have one row if all slots share it. The number `nodes` stands for what is
known, and counts as 0. Sums run in the order of the edges, and a problem belongs to one thread.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from varmorph.torch.energy import Evaluation
from varmorph.torch.kernels.cpu.compilation import kernel, part, plus
from varmorph.torch.kernels.cpu.coupled.laplacian import begin, inner, proceed
from varmorph.torch.kernels.cpu.coupled.pulls import Penalty
from varmorph.torch.kernels.cpu.coupled.pulls import energy as energy_of
from varmorph.torch.kernels.cpu.coupled.pulls import stiffness as stiffness_of
from varmorph.torch.kernels.cpu.threads import over_planes

if TYPE_CHECKING:
    from varmorph.torch.energy import Energy, Laplacian

__all__ = ["conjugate_gradients", "evaluate"]

# How many times the work of one pass over all edges a solve is.
PASSES = 16


class Family(NamedTuple):
    """One family of edges: offset and weight (slots, N or 1, C, positions), its penalty, and its ends.

    The penalty's numbers are (N, C): tau, 1 - tau, and the mu of `pulls`, and where it turns
    straight; `straight` is 1 if it does, else 0.  grounded : whether all sources are known.
    """

    offset: np.ndarray
    weight: np.ndarray
    tau: np.ndarray
    cotau: np.ndarray
    mu: np.ndarray
    limit: np.ndarray
    straight: Any
    grounded: bool
    source: np.ndarray
    target: np.ndarray


@part
def _respond(
    residual: Any, stiffness: Any, force: Any, difference: Any, offset: Any, weight: Any, penalty: Penalty
) -> Any:
    """Write residuals, stiffnesses and forces of the edges of one slot; return the sum of their energies."""
    total = residual.dtype.type(0)
    for m in range(residual.size):
        r = offset[m] + difference[m]
        k = weight[m] * stiffness_of(r, penalty)
        residual[m], stiffness[m], force[m] = r, k, k * r
        total = plus(total, energy_of(r, k, penalty))
    return total


@part
def _differences(difference: Any, z: Any, source: Any, target: Any, grounded: bool) -> None:
    """Write source minus target."""
    if grounded:
        for m in range(difference.size):
            difference[m] = -z[target[m]]
    else:
        for m in range(difference.size):
            difference[m] = z[source[m]] - z[target[m]]


@part
def _collect(slope: Any, degree: Any, force: Any, stiffness: Any, source: Any, target: Any, grounded: bool) -> None:
    """Add forces and stiffnesses up at both ends."""
    for m in range(force.size):
        j = target[m]
        slope[j] -= force[m]
        degree[j] += stiffness[m]
    if not grounded:
        for m in range(force.size):
            i = source[m]
            slope[i] += force[m]
            degree[i] += stiffness[m]


@kernel
def _evaluate(
    z: Any,
    family: Family,
    residual: Any,
    stiffness: Any,
    gradient: Any,
    diagonal: Any,
    values: Any,
    start: int,
    stop: int,
) -> None:
    """Write residuals and stiffnesses of one family, and add its part to gradient, diagonal and energy."""
    channels, nodes, positions = family.tau.shape[1], z.shape[1], family.offset.shape[3]
    here, slope, degree = np.empty(nodes + 1, z.dtype), np.empty(nodes + 1, z.dtype), np.empty(nodes + 1, z.dtype)
    difference, force = np.empty(positions, z.dtype), np.empty(positions, z.dtype)
    for p in range(start, stop):
        n, c = p // channels, p % channels
        here[:nodes] = z[p]
        here[nodes] = 0
        slope[:] = 0
        degree[:] = 0
        penalty = Penalty(family.tau[n, c], family.cotau[n, c], family.mu[n, c], family.straight, family.limit[n, c])
        for t in range(family.offset.shape[0]):
            source = family.source[min(t, family.source.shape[0] - 1)]
            target = family.target[min(t, family.target.shape[0] - 1)]
            _differences(difference, here, source, target, family.grounded)
            offset = family.offset[t, min(n, family.offset.shape[1] - 1), c]
            weight = family.weight[t, min(n, family.weight.shape[1] - 1), c]
            values[p] += _respond(residual[t, p], stiffness[t, p], force, difference, offset, weight, penalty)
            _collect(slope, degree, force, stiffness[t, p], source, target, family.grounded)
        for i in range(nodes):
            gradient[p, i] += slope[i]
            diagonal[p, i] += degree[i]


@part
def _product(image: Any, v: Any, conductance: Any, source: Any, target: Any, known: Any, p: int) -> float:
    """Write the product of the Laplacian with v, and return the inner product of both."""
    nodes = v.size - 1
    for i in range(nodes):
        image[i] = known[p, i] * v[i]
    for t in range(conductance.shape[0]):
        flows, sources, targets = (
            conductance[t, p],
            source[min(t, source.shape[0] - 1)],
            target[min(t, target.shape[0] - 1)],
        )
        for m in range(flows.size):
            i, j = sources[m], targets[m]
            flow = flows[m] * (v[i] - v[j])
            image[i] += flow
            image[j] -= flow
    return inner(v[:nodes], image[:nodes])


@kernel
def _solve(
    right: Any,
    conductance: Any,
    source: Any,
    target: Any,
    known: Any,
    diagonal: Any,
    tolerance: Any,
    max_steps: int,
    value: Any,
    steps: Any,
    norms: Any,
    start: int,
    stop: int,
) -> None:
    """Solve the systems of the problems start..stop."""
    nodes, dtype = right.shape[1], right.dtype
    image, v = np.zeros(nodes + 1, dtype), np.zeros(nodes + 1, dtype)
    inverse, residual = np.empty(nodes, dtype), np.empty(nodes, dtype)
    direction = v[:nodes]
    for p in range(start, stop):
        inverse[:] = diagonal[p]
        size, ahead, norm = begin(right[p], inverse, residual, direction)
        value[p] = 0
        count = 0
        while count < max_steps and norm > tolerance[p]:
            curvature = _product(image, v, conductance, source, target, known, p)
            ahead, norm = proceed(value[p], residual, direction, image[:nodes], inverse, curvature, ahead)
            count += 1
        value[p] *= dtype.type(size)
        steps[p], norms[p] = count, norm


def _per_problem(number: Tensor | float, like: Tensor, leading: int) -> np.ndarray:
    """Give a number of a penalty for each problem (N, C)."""
    shape = [length if leading <= d < leading + 2 else 1 for d, length in enumerate(like.shape)]
    numbers = torch.as_tensor(number, dtype=like.dtype).detach().expand(shape)
    return numbers.reshape(shape[leading : leading + 2]).contiguous().numpy()


def _per_edge(numbers: Tensor, like: Tensor, leading: int) -> np.ndarray:
    """Give numbers of edges as (slots, N or 1, C, positions)."""
    shape, behind = list(like.shape), like.ndim - leading
    if numbers.ndim < behind or numbers.shape[-behind] == 1:
        shape[leading] = 1
    numbers = numbers.detach().to(like.dtype).expand(shape)
    return (numbers if leading else numbers[None]).flatten(3).contiguous().numpy()


def families(energy: Energy) -> list[Family]:
    """List the edges of an energy for the kernels."""
    found = []
    for edges, ends, shape in zip(energy.edges, energy.ends, energy.shapes, strict=True):
        rho, leading, like = edges.penalty, edges.incidence.leading, energy.zeros.new_empty(()).expand(shape)
        mu = {"square": 1.0, "absolute": torch.finfo(like.dtype).tiny}.get(rho.h, rho.smoothing)
        limit = {"square": torch.inf, "absolute": 0.0}.get(rho.h, rho.smoothing)
        sides = (1.0, 1.0) if rho.tau is None or rho.cotau is None else (rho.tau, rho.cotau)
        offset, weight = (_per_edge(numbers, like, leading) for numbers in (edges.offset, edges.weight))
        tau, cotau, bend, end = (_per_problem(number, like, leading) for number in (*sides, mu, limit))
        straight = offset.dtype.type(rho.h != "square")
        source, target = (rows.numpy() for rows in ends)
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
        run = partial(_evaluate, flat.numpy(), family, residual, stiffness, *sums, value.view(-1).numpy())
        over_planes(run, flat.shape[0], residual.size)
        residuals.append(torch.from_numpy(residual).view(shape))
        stiffnesses.append(torch.from_numpy(stiffness).view(shape))
    return Evaluation(z, tuple(residuals), tuple(stiffnesses), gradient, diagonal, value)


def _joined(matrix: Laplacian, problems: int) -> list[np.ndarray]:
    """List the conductances of all edges between unknowns (slots, problems, positions), their sources and targets."""
    if len(matrix.coupled) == 1:
        (incidence, c), ends = matrix.coupled[0], matrix.ends[0]
        conductance = (c if incidence.leading else c[None]).flatten(1, 2).flatten(2)
        return [a.contiguous().numpy() for a in (conductance, *ends)]
    none = torch.empty(0, dtype=torch.int32)
    lists, sources, targets = [matrix.grounded.new_empty(problems, 0)], [none], [none]
    for (incidence, c), ends in zip(matrix.coupled, matrix.ends, strict=True):
        slots = c.shape[0] if incidence.leading else 1
        lists.append(incidence.per_problem(c).flatten(0, 1))
        for ends_so_far, rows in zip((sources, targets), ends, strict=True):
            ends_so_far.append(rows.expand(slots, rows.shape[1]).flatten())
    return [torch.cat(a, -1)[None].contiguous().numpy() for a in (lists, sources, targets)]


def conjugate_gradients(
    matrix: Laplacian, right: Tensor, tolerance: Tensor | float, max_steps: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Solve as `varmorph.torch.conjugate_gradients` does: the solution, and steps and residual of each problem."""
    problems = right.shape[:2]
    flat, known, diagonal = (
        a.detach().reshape(problems.numel(), right.shape[2:].numel()).contiguous().numpy()
        for a in (right, matrix.grounded, matrix.diagonal)
    )
    conductance, source, target = _joined(matrix, problems.numel())
    limit = torch.as_tensor(tolerance, dtype=torch.float64).expand(problems).contiguous().view(-1).numpy()
    value, steps, norms = np.empty_like(flat), np.empty(limit.shape, np.int64), np.empty(limit.shape)

    def run(start: int, stop: int) -> None:
        _solve(flat, conductance, source, target, known, diagonal, limit, max_steps, value, steps, norms, start, stop)

    over_planes(run, problems.numel(), PASSES * (conductance.size + flat.size))
    solution = torch.from_numpy(value).view(right.shape)
    return solution, torch.from_numpy(steps).view(problems), torch.from_numpy(norms).view(problems).to(right.dtype)
