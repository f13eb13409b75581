"""Fixed points of nonlinear relaxation: the equilibrium view, plain and accelerated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from varmorph.torch.energy import Energy, Evaluation, dot
from varmorph.torch.relaxation import relaxed
from varmorph.torch.solvers.iteration import Solver, hold, spread_over

__all__ = ["Anderson", "FixedPoint"]


class _State(NamedTuple):
    at: Evaluation
    energy: Tensor  # (N, C)
    share: Tensor  # (N, C), of each sweep that is taken


@dataclass(frozen=True, kw_only=True)
class FixedPoint(Solver):
    """Nonlinear Jacobi iteration: every unknown becomes the separable solution between its neighbours, all at once.

    It reaches a coarse solution quickly; then the error shrinks by a constant factor that tends to 1 as the coupling
    grows, so that high accuracy takes many steps. Where a sweep does not lower the energy (neighbours that answer each
    other may swing), half of each further one is taken: on a grid, whose pixels have two colours, that lowers it always.

    Parameters
    ----------
    tolerance, max_steps, on_failure
        See `Solver`.
    inner_steps : int
        Most steps of the scalar problems.
    """

    max_steps: int = 2000
    inner_steps: int = 10

    def start(self, energy: Energy, z: Tensor) -> _State:
        at = energy.evaluate(z)
        return _State(at, energy.value(at).detach(), torch.ones(z.shape[:2], dtype=z.dtype, device=z.device))

    def step(
        self, energy: Energy, state: _State, active: Tensor, residual: Tensor, tolerance: float
    ) -> tuple[_State, Tensor]:
        z = state.at.z
        moved = z + spread_over(state.share, z) * (relaxed(energy, z, self.inner_steps) - z)
        at = energy.evaluate(hold(active, moved, z))
        value = energy.value(at).detach()
        share = torch.where(value < state.energy, state.share, 0.5)
        return _State(at, value, share), torch.zeros_like(active, dtype=torch.long)


class _History(NamedTuple):
    at: Evaluation
    images: Tensor  # (memory, N, C, ...), the sweeps of the last iterates
    moves: Tensor  # what each sweep added
    norm: Tensor  # (N, C), of the last move that was accepted
    last_sweep: Tensor  # of the shape of z


@dataclass(frozen=True, kw_only=True)
class Anderson(Solver):
    """Anderson acceleration of `FixedPoint`: the combination of the last sweeps that would have moved least.

    A combination after which the sweep moves twice as far as before is dropped for a plain sweep, and its history with
    it. D. G. Anderson (1965), Iterative procedures for nonlinear integral equations, J. ACM 12(4), 547-560.

    Parameters
    ----------
    tolerance, max_steps, on_failure
        See `Solver`.
    memory : int
        Number of sweeps that are combined.
    regularisation : float
        Added to the normal equations, relative to their trace.
    inner_steps : int
        Most steps of the scalar problems.
    """

    max_steps: int = 1000
    memory: int = 6
    regularisation: float = 1e-10
    inner_steps: int = 10

    def start(self, energy: Energy, z: Tensor) -> _History:
        none = z.new_zeros(0, *z.shape)
        return _History(energy.evaluate(z), none, none, z.new_full(z.shape[:2], torch.inf), z)

    def step(
        self, energy: Energy, state: _History, active: Tensor, residual: Tensor, tolerance: float
    ) -> tuple[_History, Tensor]:
        z = state.at.z
        image = relaxed(energy, z, self.inner_steps)
        move = image - z
        norm = dot(move, move).detach().sqrt().view(active.shape)
        worse = norm > 2 * state.norm
        # A problem that has become worse starts again from its last plain sweep, with a history of one.
        forgotten = spread_over(worse, z)
        image = torch.where(forgotten, state.last_sweep, image)
        images = torch.cat((state.images[-self.memory + 1 :].where(~forgotten, 0.0), image[None]))
        moves = torch.cat((state.moves[-self.memory + 1 :].where(~forgotten, 0.0), move.where(~forgotten, 0.0)[None]))
        combined = torch.where(forgotten, image, self._combine(images, moves))
        at = energy.evaluate(hold(active, combined, z))
        norm = torch.where(worse, torch.inf, norm)
        return _History(at, images, moves, norm, image), torch.zeros_like(active, dtype=torch.long)

    def _combine(self, images: Tensor, moves: Tensor) -> Tensor:
        """Minimise |sum_j c_j moves_j| over sum c = 1, and combine the sweeps by c."""
        count = moves.shape[0]
        flat = moves.flatten(3).movedim(0, 2)  # (N, C, count, unknowns)
        gram = flat @ flat.transpose(-1, -2)
        # A history that was forgotten is 0: a diagonal that is large beside the others keeps it out.
        diagonal = gram.diagonal(dim1=-2, dim2=-1)
        trace = diagonal.sum(-1, keepdim=True).clamp(min=torch.finfo(gram.dtype).tiny)
        # Normalised so that single precision does not lose squares of small moves.
        empty = torch.where(diagonal > 0, 0.0, 1e6)
        matrix = gram / trace[..., None] + torch.diag_embed(self.regularisation + empty)
        identity = torch.eye(count, dtype=gram.dtype, device=gram.device)
        matrix = matrix + torch.finfo(gram.dtype).eps * identity
        finite = matrix.isfinite().all(-1).all(-1)[..., None, None]
        matrix = torch.where(finite, matrix, identity)
        solved = torch.linalg.solve(matrix, torch.ones_like(diagonal)[..., None])[..., 0]
        share = solved / solved.sum(-1, keepdim=True)
        share = share.movedim(-1, 0)
        return (share.view(*share.shape, *(1,) * (images.ndim - 3)) * images).sum(0)
