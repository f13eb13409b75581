"""The penalties of residuals in JAX: see `varmorph.formulas.penalties`."""

from __future__ import annotations

import equinox as eqx
import jax

from varmorph.formulas.penalties import PenaltyFormulas, Shape
from varmorph.jax.energy.namespace import xp

__all__ = ["Penalty", "named_penalty"]


class Penalty(PenaltyFormulas, eqx.Module):
    """The penalty of one family of edges.

    Parameters
    ----------
    h : {"square", "absolute", "huber"}
        Shape of the penalty.
    tau, cotau : array, optional
        Level and one minus the level, broadcastable to the residuals; None for 1 on both sides.
    smoothing : array, optional
        mu > 0, for "huber".
    """

    xp = xp
    h: Shape = eqx.field(static=True)
    tau: jax.Array | None = None
    cotau: jax.Array | None = None
    smoothing: jax.Array | None = None


named_penalty = Penalty.named
