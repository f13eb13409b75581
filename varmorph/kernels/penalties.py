"""Penalties of residuals, square and Huber's, as formulas of one number.

Both are one formula: with `straight` 1 and mu = limit they are Huber's, with `straight` 0, mu = 1 and an infinite limit the
square:

    rho'(r) / r = a / max(straight abs(r), mu),    rho(r) = rho'(r) / r * abs(r) (abs(r) - min(abs(r), limit) / 2),

a = tau where r >= 0 and 1 - tau elsewhere.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from varmorph.kernels.compilation import part

__all__ = ["Penalty", "bent", "curvature", "differ", "energy", "next_dual", "side", "stiffness"]


class Penalty(NamedTuple):
    """The numbers of one penalty, of the type of the image."""

    tau: Any
    cotau: Any
    mu: Any
    straight: Any
    limit: Any


@part
def side(r: Any, penalty: Penalty) -> Any:
    """Factor a."""
    return penalty.tau if r >= 0 else penalty.cotau


@part
def stiffness(r: Any, penalty: Penalty) -> Any:
    """Slope over residual."""
    return side(r, penalty) / max(penalty.straight * abs(r), penalty.mu)


@part
def curvature(r: Any, penalty: Penalty) -> Any:
    """Second derivative; at a kink r >= 0 counts as above and abs(r) = mu as curved."""
    return type(r)(0) if abs(r) > penalty.limit else side(r, penalty) / penalty.mu


@part
def energy(r: Any, stiff: Any, penalty: Penalty) -> Any:
    """Value, given the stiffness."""
    size = abs(r)
    return stiff * size * (size - min(size, penalty.limit) / type(r)(2))


@part
def bent(r: Any, dual: Any, share: Any, penalty: Penalty) -> Any:
    """Factor of the stiffness: 1 where the penalty is curved, 1 - dual sign(r) and the share where it is straight."""
    one = type(r)(1)
    along = dual if r > 0 else -dual
    return max(one - along, type(r)(0)) + share if abs(r) > penalty.limit else one


@part
def next_dual(r: Any, change: Any, dual: Any, penalty: Penalty) -> Any:
    """Dual variable after a step that changes the residual."""
    one = type(r)(1)
    size = abs(r)
    along = dual if r > 0 else -dual
    held = along * change if size > penalty.limit else type(r)(0)
    return min(max((r + change - held) / max(size, penalty.mu), -one), one)


@part
def differ(r: Any, s: Any, penalty: Penalty) -> bool:
    """Tell whether two residuals lie on different pieces of a penalty with a level."""
    return ((r >= 0) != (s >= 0)) | ((abs(r) > penalty.limit) != (abs(s) > penalty.limit))
