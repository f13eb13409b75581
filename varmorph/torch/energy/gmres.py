"""Linear systems without symmetry, many at once: GMRES, each with a stop of its own, and the geometric series.

Adjoint systems of a map hold I - J^T, which is neither symmetric nor known to be definite. Conjugate gradients do not apply;
the series, and sweeps of it, diverge where an eigenvalue of J lies outside the unit circle, although the fixed point may have
been found by acceleration. The residual of GMRES never grows, whatever J is. Y. Saad, M. H. Schultz (1986), GMRES: a
generalized minimal residual algorithm for solving nonsymmetric linear systems, SIAM J. Sci. Stat. Comput. 7(3), 856-869.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from varmorph.formulas.per_problem import power_of_two
from varmorph.torch.energy.namespace import xp

__all__ = ["RESTART", "GeneralSolution", "geometric_series", "minimal_residuals"]

RESTART = 20  # directions that are kept before GMRES starts afresh: what bounds its memory

Operator = Callable[[Tensor], Tensor]


class GeneralSolution(NamedTuple):
    """Solution (N, D), and for each problem (N,) the steps, the residual relative to the right side, and whether it is stuck.

    A problem is stuck where the Krylov space ended before the solution was found: the matrix is singular.
    """

    value: Tensor
    steps: Tensor
    residual: Tensor
    stuck: Tensor


def minimal_residuals(matrix: Operator, right: Tensor, tolerance: float, max_steps: int) -> GeneralSolution:
    """Solve matrix(v) = right until the residual norm is tolerance times that of right.

    matrix : maps (N, D) to (N, D), each problem for itself.  right : (N, D).  A problem that has stopped does not move any
    more; one that holds NaN stops at once and keeps residual NaN. The residual that is returned is computed from v, not
    the one that GMRES carries along. A problem that a whole cycle brings no nearer has met rounding, and stops.
    """
    unit = power_of_two(xp, right, (1,))
    size = _norm(right / unit)
    size = size.where(size > 0, 1.0)
    scaled = right / unit / size[:, None]
    value, residual, norm = torch.zeros_like(right), scaled, _norm(scaled)
    steps = torch.zeros(len(right), dtype=torch.long, device=right.device)
    stuck = torch.zeros_like(steps, dtype=torch.bool)
    active, taken = norm > tolerance, 0
    while taken < max_steps and bool(active.any()):
        cycle = _Cycle(residual, active, min(RESTART, max_steps - taken))
        while cycle.goes_on(tolerance):
            cycle.add(matrix(cycle.direction))
        value, steps, taken = value + cycle.change(), steps + cycle.steps, taken + cycle.count
        residual, before = scaled - matrix(value), norm
        norm = _norm(residual)
        stuck = stuck | (cycle.stuck & (norm > tolerance))
        active = (norm > tolerance) & (norm < 0.9 * before) & ~stuck
    return GeneralSolution(value * size[:, None] * unit, steps, norm, stuck)


def geometric_series(matrix: Operator, right: Tensor, terms: int) -> GeneralSolution:
    """Add up sum_{j < terms} (I - matrix)^j right."""
    unit = power_of_two(xp, right, (1,))
    scaled = right / unit
    value = scaled
    residual = scaled - matrix(value)
    for _ in range(terms - 1):
        value = value + residual
        residual = scaled - matrix(value)
    size = _norm(scaled)
    steps = torch.full_like(size, terms, dtype=torch.long)
    relative = _norm(residual) / size.where(size > 0, 1.0)
    return GeneralSolution(value * unit, steps, relative, torch.zeros_like(steps, dtype=torch.bool))


def _norm(vectors: Tensor) -> Tensor:
    return torch.linalg.vector_norm(vectors, dim=-1)


class _Cycle:
    """One cycle of GMRES: an orthonormal basis of the Krylov space of each problem, and its Hessenberg matrix.

    A problem that has stopped gets columns that are 0 but for a 1 below the diagonal. They leave the least squares problem of
    the earlier ones as it was, and their coefficients are 0.
    """

    def __init__(self, residual: Tensor, active: Tensor, length: int):
        problems, unknowns = residual.shape
        self.norm = _norm(residual)
        self.going = active
        self.stuck = torch.zeros_like(active)
        self.steps = torch.zeros_like(active, dtype=torch.long)
        self.count = 0
        self.basis = residual.new_zeros(problems, length + 1, unknowns)
        self.basis[:, 0] = _kept(active, residual / self.norm.where(active, 1.0)[:, None])
        self.hessenberg = residual.new_zeros(problems, length + 1, length)

    @property
    def direction(self) -> Tensor:
        """Last vector of the basis (N, D): what the matrix is to be applied to next."""
        return self.basis[:, self.count]

    def goes_on(self, tolerance: float) -> bool:
        """Stop problems that have reached their tolerance; say whether any is left, and room for it."""
        if self.count:
            last = torch.linalg.qr(self._columns(), mode="complete").Q[:, 0, -1]
            self.going = self.going & (self.norm * last.abs() > tolerance)
        return self.count < self.hessenberg.shape[2] and bool(self.going.any())

    def add(self, image: Tensor) -> None:
        """Add the image (N, D) of the last direction to the basis."""
        last, length = self.count, _norm(image)
        basis = self.basis[:, : last + 1]
        column = torch.zeros_like(basis[..., 0])
        for _ in range(2):  # twice, so that rounding does not cost orthogonality
            part = torch.einsum("nkd,nd->nk", basis, image)
            image, column = image - torch.einsum("nkd,nk->nd", basis, part), column + part
        rest = _norm(image)
        ended = rest <= 100 * torch.finfo(rest.dtype).eps * length
        self._write(torch.cat((column, rest.where(~ended, 0.0)[:, None]), dim=1), last)
        grows = self.going & ~ended
        self.basis[:, last + 1] = _kept(grows, image / rest.where(grows, 1.0)[:, None])
        self.steps, self.count = self.steps + self.going, last + 1
        self._find_stuck(ended)
        self.going = grows

    def change(self) -> Tensor:
        """Combination of the basis (N, D) that leaves the least residual."""
        if not self.count:
            return torch.zeros_like(self.basis[:, 0])
        orthogonal, triangular = torch.linalg.qr(self._columns())
        target = orthogonal[:, 0, :, None] * self.norm.where(self.norm.isfinite(), 0.0)[:, None, None]
        share = torch.linalg.solve_triangular(triangular, target, upper=True)
        return torch.einsum("nkd,nk->nd", self.basis[:, : self.count], share[..., 0])

    def _columns(self) -> Tensor:
        return self.hessenberg[:, : self.count + 1, : self.count]

    def _write(self, column: Tensor, place: int, where: Tensor | None = None) -> None:
        """Write a column (N, place + 2) of the problems that go on, and that of a problem at rest for the others."""
        where = self.going if where is None else where
        rest = torch.zeros_like(column)
        rest[:, -1] = 1.0
        self.hessenberg[:, : place + 2, place] = torch.where(where[:, None], column, rest)

    def _find_stuck(self, ended: Tensor) -> None:
        """Find the problems whose Krylov space has ended with a singular matrix; drop their last column."""
        ended = ended & self.going
        if not bool(ended.any()):
            return
        diagonal = torch.linalg.qr(self._columns()).R.diagonal(dim1=-2, dim2=-1).abs()
        small = diagonal[:, -1] <= 1e3 * torch.finfo(diagonal.dtype).eps * diagonal.amax(-1).clamp(min=1.0)
        self.stuck = self.stuck | (ended & small)
        place = self.count - 1
        self._write(self.hessenberg[:, : place + 2, place].clone(), place, ~(ended & small))


def _kept(where: Tensor, vectors: Tensor) -> Tensor:
    """Vectors (N, D) where a problem goes on (N,), 0 elsewhere."""
    return vectors.where(where[:, None], 0.0)
