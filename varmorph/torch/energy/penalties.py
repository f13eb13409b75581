"""The penalties of residuals in PyTorch: see `varmorph.formulas.penalties`."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from varmorph.formulas.penalties import PenaltyFormulas, Shape
from varmorph.torch.energy.namespace import xp

__all__ = ["Penalty", "named_penalty"]


@dataclass(frozen=True, eq=False)
class Penalty(PenaltyFormulas):
    """The penalty of one family of edges.

    Parameters
    ----------
    h : {"square", "absolute", "huber"}
        Shape of the penalty.
    tau, cotau : Tensor, optional
        Level and one minus the level, broadcastable to the residuals; None for 1 on both sides.
    smoothing : Tensor, optional
        mu > 0, for "huber".
    """

    xp = xp
    h: Shape
    tau: Tensor | None = None
    cotau: Tensor | None = None
    smoothing: Tensor | None = None


named_penalty = Penalty.named
