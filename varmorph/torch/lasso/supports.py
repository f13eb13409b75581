"""Linear systems on the supports of many sparse vectors: one factorisation for all that share a support."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from varmorph.torch.backend.choice import implementation
from varmorph.torch.backend.ops.arrays import on_arrays

__all__ = ["Systems", "shared", "solve_on_supports"]

BITS = 31  # of a support that are read at once, so that two such numbers fit into an int64


class Systems(NamedTuple):
    """Inverses of the blocks A_SS of a symmetric matrix A (m, m), filled up with zeros.

    Parameters
    ----------
    inverses : (U, m, m)
        One for each different support; of a singular block the pseudo-inverse.
    which : (N,)
        Which of them belongs to a sample.
    regular : (U,)
        Whether the block is invertible and the solution keeps half of the digits: the least eigenvalue is above the square
        root of the rounding unit, relative to the greatest diagonal entry of A. An empty block is.
    """

    inverses: Tensor
    which: Tensor
    regular: Tensor

    @classmethod
    def of(cls, matrix: Tensor, supports: Tensor) -> Systems:
        """Factorise what the supports (m, N) of bool ask for."""
        which, first = shared(supports)
        chosen = supports[:, first].T  # (U, m)
        both = chosen[:, :, None] & chosen[:, None, :]
        size = matrix.diagonal().amax()
        # Off the support stands the identity: its eigenvalues do not disturb, and the inverse is masked afterwards.
        blocks = torch.where(both, matrix, size * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device))
        values, vectors = torch.linalg.eigh(blocks)
        rounding = torch.finfo(matrix.dtype).eps
        kept = values > len(matrix) * rounding * size
        inverse = torch.where(kept, 1 / values.where(kept, 1.0), 0.0)
        inverses = (vectors * inverse[:, None, :]) @ vectors.mT
        return cls(inverses.where(both, 0.0), which, values[:, 0] > rounding**0.5 * size)


def shared(supports: Tensor) -> tuple[Tensor, Tensor]:
    """Number the different columns of (m, N): the number of each sample (N,), and one sample (U,) of each number."""
    samples = supports.shape[1]
    which = torch.zeros(samples, dtype=torch.long, device=supports.device)
    for chunk in supports.split(BITS):
        powers = 2 ** torch.arange(len(chunk), device=supports.device)
        _, which = torch.unique((which << BITS) + (chunk * powers[:, None]).sum(0), return_inverse=True)
    count = int(which.max()) + 1 if samples else 0
    first = torch.empty(count, dtype=torch.long, device=supports.device)
    first[which] = torch.arange(samples, device=supports.device)  # any sample of that number will do
    return which, first


def solve_on_supports(systems: Systems, right: Tensor) -> Tensor:
    """Return v (m, N), 0 off the supports, with A_SS v_S = right_S; right (m, N)."""
    if implementation("systems on supports", right.device) == "cpu":
        from varmorph.kernels.lasso import apply_inverses

        return on_arrays(apply_inverses, systems.inverses, systems.which, right.T).T
    return torch.bmm(systems.inverses[systems.which], right.T[:, :, None])[:, :, 0].T
