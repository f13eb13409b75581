"""Two cases where the assumption of nonsmooth implicit differentiation fails, with what can be proved of each.

**Split identity.** F(x, z) = relu(z) - relu(-z) - x. As a function F(x, z) = z - x, so that F = 0 has the one solution z(x) = x, with
derivative 1 everywhere. Automatic differentiation takes each relu apart: with relu'(0) = a in [0, 1] it gives dF/dz = a + a = 2 a at
z = 0. So the conservative Jacobian of the program in z is [0, 2] there: it contains 0, and the formula -F_x / F_z = 1 / (2 a) returns
any number in [1/2, infinity], 1 for a = 1/2 alone. The set is not bounded, hence no conservative Jacobian of z: the theorem of Bolte,
Le, Pauwels and Silveti-Falls (NeurIPS 2021) needs every selection to be invertible, not the one that is taken. Away from 0 all is well.

**Collinear atoms.** The lasso with D = [d, d], |d| = 1, and d . x > s: the energy depends on z_1 + z_2 alone where both are >= 0, so
that every (t c, (1 - t) c), 0 <= t <= 1, c = d . x - s, is a minimiser. z_1 is no function of x; along a selection with fixed t its
derivative is t d. D^T D has rank 1.
"""

from __future__ import annotations

import math

__all__ = ["split_identity"]


def split_identity(x: float, way: str, value: float) -> tuple[float, bool]:
    """Return dz/dx of the split identity as a way of differentiating gives it, and whether some selection is singular.

    Parameters
    ----------
    way : str
        implicit: ``value`` is relu'(0). smoothed: relu is replaced by softplus of temperature ``value``. unrolled: ``value`` steps
        z <- z - F / 2 from z = 0, relu'(0) = 0 as frameworks have it. finite-differences: ``value`` is the step.
    """
    singular = x == 0 and way in ("implicit", "unrolled")
    if way == "implicit":
        slope = 2 * value if x == 0 else 1.0
        return (1 / slope if slope else math.inf), singular
    if way == "smoothed":
        # softplus'(z) + softplus'(-z) = sigma(z / value) + sigma(-z / value)
        return 1 / (_sigmoid(x / value) + _sigmoid(-x / value)), singular
    if way == "finite-differences":
        return ((x + value) - (x - value)) / (2 * value), singular
    z, derivative = 0.0, 0.0
    for _ in range(int(value)):
        z, derivative = z - (z - x) / 2, derivative - ((0.0 if z == 0 else 1.0) * derivative - 1) / 2
    return derivative, singular


def _sigmoid(t: float) -> float:
    return 1 / (1 + math.exp(-t)) if t > -700 else 0.0
