"""The penalties of residuals (mathematics.md section 1): rho_tau(r) = a_tau(r) h(r), a_tau(r) = tau where r >= 0, 1 - tau elsewhere.

| penalty | h(r) |
|---|---|
| square (expectile, quadratic) | r^2 / 2 |
| absolute (quantile) | abs(r) |
| huber | r^2 / (2 mu) where abs(r) <= mu, abs(r) - mu / 2 elsewhere |

Edges without a level, such as those between neighbouring unknowns, have a = 1 on both sides.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

__all__ = ["PenaltyFormulas"]

Array = Any  # of the framework whose namespace is `xp`
Shape = Literal["square", "absolute", "huber"]

_SHAPES: dict[str, Shape] = {"expectile": "square", "quadratic": "square", "quantile": "absolute", "huber": "huber"}


class PenaltyFormulas:
    """What is asked of the penalty of one family of edges; a framework adds its namespace and the constructor."""

    xp: ClassVar[Any]
    h: Shape
    tau: Array | None
    cotau: Array | None
    smoothing: Array | None

    def side(self, r: Array) -> Array | float:
        """Factor a_tau(r); a residual of 0 counts as above."""
        if self.tau is None or self.cotau is None:
            return 1.0
        return self.xp.where(r >= 0, self.tau, self.cotau)

    def energy(self, r: Array) -> Array:
        """Value rho(r)."""
        if self.h == "square":
            return self.side(r) * r * r / 2
        size = self.xp.abs(r)
        if self.smoothing is None:
            return self.side(r) * size
        curved = size <= self.smoothing
        return self.side(r) * self.xp.where(curved, r * r / (2 * self.smoothing), size - self.smoothing / 2)

    def slope(self, r: Array) -> Array:
        """Derivative rho'(r); for "absolute" the element 0 of the subdifferential at r = 0."""
        return self.side(r) * self._slope_of_h(r)

    def _slope_of_h(self, r: Array) -> Array:
        if self.h == "square":
            return r
        if self.smoothing is None:
            return self.xp.sign(r)
        # Products, and neither a choice nor a clamp, which would mask a NaN in the backward pass to 0.
        curved = self.xp.abs(r) <= self.smoothing
        return curved * r / self.smoothing + ~curved * self.xp.sign(r)

    def curvature(self, r: Array) -> Array:
        """Second derivative rho''(r), at a kink the selection that counts r >= 0 as above and abs(r) = mu as curved."""
        if self.h == "square":
            return self.side(r) * self.xp.ones_like(r)
        if self.smoothing is None:
            return self.xp.zeros_like(r)
        return self.side(r) * (self.xp.abs(r) <= self.smoothing) / self.smoothing

    def stiffness(self, r: Array) -> Array:
        """Slope over residual, rho'(r) / r: the weight of reweighted least squares, which is positive everywhere."""
        side = self.side(r)
        if self.h == "square":
            return self.xp.ones_like(r) if isinstance(side, float) else side
        least = self.xp.finfo(r.dtype).tiny if self.smoothing is None else self.smoothing
        return side / self.xp.maximum(self.xp.abs(r), least)

    def greatest_stiffness(self, r: Array, near: Array) -> Array:
        """Stiffness, where abs(r) <= near that of the stiffer side: rounding alone decides on which side r lies."""
        stiffness = self.stiffness(r)
        if self.tau is None or self.cotau is None:
            return stiffness
        stiffer = self.xp.maximum(self.tau, self.cotau) / self.side(r)
        return self.xp.where(self.xp.abs(r) <= near, stiffness * stiffer, stiffness)

    def prox(self, r: Array, step: Array) -> Array:
        """Proximal map argmin_q step rho(q) + (q - r)^2 / 2; it keeps the sign of r."""
        pull = step * self.side(r)
        if self.h == "square":
            return r / (1 + pull)
        mu = 0.0 if self.smoothing is None else self.smoothing
        shrunk = mu / self.xp.maximum(mu + pull, self.xp.finfo(r.dtype).tiny)
        return self.xp.where(self.xp.abs(r) <= mu + pull, r * shrunk, r - pull * self.xp.sign(r))

    def conjugate(self, p: Array, weight: Array) -> Array:
        """Convex conjugate of w rho at a force p inside its domain; 0 where the weight is 0, and so is the force."""
        if self.h == "absolute":
            return self.xp.zeros_like(p)
        width = 1.0 if self.smoothing is None else self.smoothing
        stiffness = weight * self.side(p)
        present = stiffness > 0
        return self.xp.where(present, width * p * p / (2 * self.xp.where(present, stiffness, 1.0)), 0.0)

    def greatest_curvature(self) -> Array | float:
        """Bound of rho''; infinite for "absolute"."""
        side = 1.0 if self.tau is None or self.cotau is None else self.xp.maximum(self.tau, self.cotau)
        if self.h == "absolute":
            return self.xp.inf
        return side if self.smoothing is None else side / self.smoothing

    def distance_to_kink(self, r: Array) -> Array:
        """Distance from r to the nearest place where the curvature jumps; infinite where there is none."""
        size, xp = self.xp.abs(r), self.xp
        distance = size if self.tau is not None or self.h == "absolute" else xp.full_like(size, xp.inf)
        return distance if self.smoothing is None else xp.minimum(distance, xp.abs(size - self.smoothing))

    def piece(self, r: Array) -> Array:
        """Number of the piece of the penalty on which r lies, as int8: above or below, curved or straight."""
        number = self.xp.zeros_like(r, dtype=self.xp.int8)
        if self.tau is not None or self.h == "absolute":
            number += r >= 0
        if self.smoothing is not None:
            number += 2 * (self.xp.abs(r) <= self.smoothing)
        return number

    @classmethod
    def named(
        cls, name: str, sides: tuple[Array, Array] | None = None, smoothing: Array | None = None, node_dims: int = 2
    ) -> Any:
        """Make a penalty from its public name and parameters per channel.

        Parameters
        ----------
        name : {"expectile", "quadratic", "quantile", "huber"}
            Name of the penalty.
        sides : two arrays (C,), optional
            tau and 1 - tau; None where the penalty has no level.
        smoothing : (C,), optional
            mu; None where the penalty has none.
        node_dims : int
            Number of dimensions behind the channels.
        """
        behind = (slice(None),) + (None,) * node_dims
        tau, cotau = (None, None) if sides is None else (side[behind] for side in sides)
        numbers = {"tau": tau, "cotau": cotau, "smoothing": None if smoothing is None else smoothing[behind]}
        return cls(h=_SHAPES[name], **numbers)  # type: ignore[call-arg]
