"""The penalties of residuals: rho_tau(r) = a_tau(r) h(r), with a_tau(r) = tau where r >= 0 and 1 - tau elsewhere.

| penalty | h(r) |
|---|---|
| square (expectile, quadratic) | r^2 / 2 |
| absolute (quantile) | abs(r) |
| huber | r^2 / (2 mu) where abs(r) <= mu, abs(r) - mu / 2 elsewhere |

Edges without a level, such as those between neighbouring unknowns, have a = 1 on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Penalty", "named_penalty"]


@dataclass(frozen=True, eq=False)
class Penalty:
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

    h: Literal["square", "absolute", "huber"]
    tau: Tensor | None = None
    cotau: Tensor | None = None
    smoothing: Tensor | None = None

    def side(self, r: Tensor) -> Tensor | float:
        """Factor a_tau(r); a residual of 0 counts as above."""
        if self.tau is None or self.cotau is None:
            return 1.0
        return torch.where(r.detach() >= 0, self.tau, self.cotau)

    def energy(self, r: Tensor) -> Tensor:
        """Value rho(r)."""
        if self.h == "square":
            return self.side(r) * r * r / 2
        size = r.abs()
        if self.smoothing is None:
            return self.side(r) * size
        curved = size <= self.smoothing
        return self.side(r) * torch.where(curved, r * r / (2 * self.smoothing), size - self.smoothing / 2)

    def slope(self, r: Tensor) -> Tensor:
        """Derivative rho'(r); for "absolute" the element 0 of the subdifferential at r = 0."""
        return self.side(r) * self._slope_of_h(r)

    def _slope_of_h(self, r: Tensor) -> Tensor:
        if self.h == "square":
            return r
        if self.smoothing is None:
            return r.sign()
        # Products and no `clamp`, which would mask a NaN in the backward pass to 0.
        curved = r.detach().abs() <= self.smoothing.detach()
        return curved * r / self.smoothing + ~curved * r.sign()

    def curvature(self, r: Tensor) -> Tensor:
        """Second derivative rho''(r), at a kink the selection that counts r >= 0 as above and abs(r) = mu as curved."""
        if self.h == "square":
            return self.side(r) * torch.ones_like(r)
        if self.smoothing is None:
            return torch.zeros_like(r)
        return self.side(r) * (r.abs() <= self.smoothing) / self.smoothing

    def stiffness(self, r: Tensor) -> Tensor:
        """Slope over residual, rho'(r) / r: the weight of reweighted least squares, which is positive everywhere."""
        side = self.side(r)
        if self.h == "square":
            return side if isinstance(side, Tensor) else torch.ones_like(r)
        size = r.abs()
        return side / (
            size.clamp(min=torch.finfo(r.dtype).tiny) if self.smoothing is None else torch.maximum(size, self.smoothing)
        )

    def greatest_stiffness(self, r: Tensor, near: Tensor) -> Tensor:
        """Stiffness, where abs(r) <= near that of the stiffer side: rounding alone decides on which side r lies."""
        stiffness = self.stiffness(r)
        if self.tau is None or self.cotau is None:
            return stiffness
        stiffer = torch.maximum(self.tau, self.cotau) / self.side(r)
        return torch.where(r.abs() <= near, stiffness * stiffer, stiffness)

    def prox(self, r: Tensor, step: Tensor) -> Tensor:
        """Proximal map argmin_q step rho(q) + (q - r)^2 / 2; it keeps the sign of r."""
        pull = step * self.side(r)
        if self.h == "square":
            return r / (1 + pull)
        mu = 0.0 if self.smoothing is None else self.smoothing
        size = r.abs()
        shrunk = mu / (mu + pull).clamp(min=torch.finfo(r.dtype).tiny)
        return torch.where(size <= mu + pull, r * shrunk, r - pull * r.sign())

    def conjugate(self, p: Tensor, weight: Tensor) -> Tensor:
        """Convex conjugate of w rho at a force p inside its domain; 0 where the weight is 0, and so is the force."""
        if self.h == "absolute":
            return torch.zeros_like(p)
        width = 1.0 if self.smoothing is None else self.smoothing
        stiffness = weight * self.side(p)
        return (width * p * p / (2 * stiffness.where(stiffness > 0, 1.0))).where(stiffness > 0, 0.0)

    def greatest_curvature(self) -> Tensor | float:
        """Bound of rho''; infinite for "absolute"."""
        side = 1.0 if self.tau is None or self.cotau is None else torch.maximum(self.tau, self.cotau)
        if self.h == "absolute":
            return torch.inf
        return side if self.smoothing is None else side / self.smoothing

    def distance_to_kink(self, r: Tensor) -> Tensor:
        """Distance from r to the nearest place where the curvature jumps; infinite where there is none."""
        size = r.abs()
        distance = size if self.tau is not None or self.h == "absolute" else torch.full_like(size, torch.inf)
        return distance if self.smoothing is None else torch.minimum(distance, (size - self.smoothing).abs())

    def piece(self, r: Tensor) -> Tensor:
        """Number of the piece of the penalty on which r lies, as int8: above or below, curved or straight."""
        number = torch.zeros_like(r, dtype=torch.int8)
        if self.tau is not None or self.h == "absolute":
            number += r >= 0
        if self.smoothing is not None:
            number += 2 * (r.abs() <= self.smoothing)
        return number


_SHAPES: dict[str, Literal["square", "absolute", "huber"]] = {
    "expectile": "square",
    "quadratic": "square",
    "quantile": "absolute",
    "huber": "huber",
}


def named_penalty(
    name: str, level: Tensor | None = None, smoothing: Tensor | None = None, node_dims: int = 2
) -> Penalty:
    """Make a penalty from its public name and parameters per channel.

    level, smoothing : (C,)
        Logit of tau, and mu; None where the penalty has none.
    node_dims : int
        Number of dimensions behind the channels.
    """
    behind = (slice(None),) + (None,) * node_dims
    tau, cotau = (None, None) if level is None else (torch.sigmoid(level)[behind], torch.sigmoid(-level)[behind])
    return Penalty(_SHAPES[name], tau, cotau, None if smoothing is None else smoothing[behind])
