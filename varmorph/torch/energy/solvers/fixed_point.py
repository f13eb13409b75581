"""Fixed points of nonlinear relaxation, or of any map: the equilibrium view, plain and accelerated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from varmorph.convergence import check_memory, check_share
from varmorph.formulas.per_problem import dot, power_of_two, spread_over
from varmorph.torch.energy.energy import Energy, Evaluation
from varmorph.torch.energy.namespace import xp
from varmorph.torch.energy.relaxation import relaxed
from varmorph.torch.energy.solvers.iteration import MapSolver, hold

__all__ = ["Anderson", "FixedPoint"]


class _State(NamedTuple):
    at: Evaluation
    energy: Tensor  # (N, C)
    share: Tensor  # (N, C), of each sweep that is taken


@dataclass(frozen=True, kw_only=True)
class FixedPoint(MapSolver):
    """Nonlinear Jacobi iteration: every unknown becomes the separable solution between its neighbours, all at once.

    It reaches a coarse solution quickly; then the error shrinks by a constant factor that tends to 1 as the coupling
    grows, so that high accuracy takes many steps. Where a sweep does not lower the energy (neighbours that answer each
    other may swing), half of each further one is taken: on a grid, whose pixels have two colours, that lowers it always.
    For `equilibrium` a sweep is the map that is given, and the same share of each is taken.

    Parameters
    ----------
    tolerance, max_steps, on_failure
        See `Solver`.
    inner_steps : int
        Most steps of the scalar problems; a map has none.
    share : float
        Share of each sweep that is taken, in (0, 1]; less than 1 damps the iteration. Of energies: at first.
    """

    max_steps: int = 2000
    inner_steps: int = 10
    share: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share(self.share)

    def first(self, z: Tensor) -> None:
        return None

    def advance(self, history: None, z: Tensor, image: Tensor) -> tuple[Tensor, None]:
        return (image if self.share == 1 else z + self.share * (image - z)), None

    def start(self, energy: Energy, z: Tensor) -> _State:
        at = energy.evaluate(z)
        return _State(at, energy.value(at).detach(), z.new_full(z.shape[:2], self.share))

    def step(
        self, energy: Energy, state: _State, active: Tensor, residual: Tensor, tolerance: float
    ) -> tuple[_State, Tensor]:
        z = state.at.z
        moved = z + spread_over(state.share, z) * (relaxed(energy, z, self.inner_steps) - z)
        at = energy.evaluate(hold(active, moved, z))
        value = energy.value(at).detach()
        share = torch.where(value < state.energy, state.share, state.share.clamp(max=0.5))
        return _State(at, value, share), torch.zeros_like(active, dtype=torch.long)


class History(NamedTuple):
    """The last sweeps of an accelerated iteration."""

    images: Tensor  # (memory, N, C, ...), where they led
    moves: Tensor  # what each sweep added
    norm: Tensor  # (N, C), of the last move that was accepted
    last_sweep: Tensor  # of the shape of z


class _Accelerated(NamedTuple):
    at: Evaluation
    history: History


@dataclass(frozen=True, kw_only=True)
class Anderson(MapSolver):
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
        Most steps of the scalar problems; a map has none.
    """

    max_steps: int = 1000
    memory: int = 6
    regularisation: float = 1e-10
    inner_steps: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        check_memory(self.memory)

    def first(self, z: Tensor) -> History:
        none = z.new_zeros(0, *z.shape)
        return History(none, none, z.new_full(z.shape[:2], torch.inf), z)

    def advance(self, history: History, z: Tensor, image: Tensor) -> tuple[Tensor, History]:
        move = image - z
        norm = dot(move, move).detach().sqrt().view(z.shape[:2])
        worse = norm > 2 * history.norm
        # A problem that has become worse starts again from its last plain sweep, with a history of one.
        forgotten = spread_over(worse, z)
        image = torch.where(forgotten, history.last_sweep, image)
        too_old = max(len(history.moves) - self.memory + 1, 0)
        images = torch.cat((history.images[too_old:].where(~forgotten, 0.0), image[None]))
        moves = torch.cat((history.moves[too_old:].where(~forgotten, 0.0), move.where(~forgotten, 0.0)[None]))
        combined = torch.where(forgotten, image, self._combine(images, moves))
        return combined, History(images, moves, torch.where(worse, torch.inf, norm), image)

    def start(self, energy: Energy, z: Tensor) -> _Accelerated:
        return _Accelerated(energy.evaluate(z), self.first(z))

    def step(
        self, energy: Energy, state: _Accelerated, active: Tensor, residual: Tensor, tolerance: float
    ) -> tuple[_Accelerated, Tensor]:
        z = state.at.z
        combined, history = self.advance(state.history, z, relaxed(energy, z, self.inner_steps))
        at = energy.evaluate(hold(active, combined, z))
        return _Accelerated(at, history), torch.zeros_like(active, dtype=torch.long)

    def _combine(self, images: Tensor, moves: Tensor) -> Tensor:
        """Minimise |sum_j c_j moves_j| over sum c = 1, and combine the sweeps by c."""
        count = moves.shape[0]
        flat = moves.flatten(3).movedim(0, 2)  # (N, C, count, unknowns)
        flat = flat / power_of_two(xp, flat.detach(), (2, 3))  # squares of small moves would vanish
        gram = flat @ flat.transpose(-1, -2)
        # A history that was forgotten is 0: a diagonal that is large beside the others keeps it out.
        diagonal = gram.diagonal(dim1=-2, dim2=-1)
        trace = diagonal.sum(-1, keepdim=True)
        trace = trace.where(trace > 0, 1.0)
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
