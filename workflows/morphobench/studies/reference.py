"""The float64 reference of the gradient study: solution, gradient and active set of an instance, in NumPy and SciPy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

import varmorph.reference
from morphobench.studies.active_sets import has_ties, pieces
from morphobench.studies.instances import Instance

__all__ = ["Reference", "reference_solution", "solve_reference"]


@dataclass(frozen=True)
class Reference:
    """What the modes are compared with, from `varmorph.reference`.

    Parameters
    ----------
    value, unknowns : ndarray
        The output (1, C, H, W), and all unknowns (1, C, 2, H, W) where the operator has more of them.
    gradients : mapping of str to ndarray
        By argument: sparse direct adjoint, or the closed form, edge by edge, without automatic differentiation.
    active : ndarray
        (C, K), see `pieces`.
    ties : bool
        Whether some edge lies on a kink, so that there may be no derivative.
    """

    value: np.ndarray
    unknowns: np.ndarray
    gradients: Mapping[str, np.ndarray]
    active: np.ndarray
    ties: bool

    def distance(self, value: np.ndarray) -> float:
        """Largest difference of an output to the solution, relative to the range of the solution."""
        return float(np.abs(value - self.value).max()) / (float(np.ptp(self.value)) or 1.0)

    def share(self, active: np.ndarray) -> float:
        """Share of the edges that lie on the same piece as here."""
        return float((active == self.active).mean())


def reference_solution(instance: Instance, start: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the output and all unknowns; a start is of no use here."""
    given = {**instance.arguments, **instance.options}
    if instance.family == "joint":
        unknowns = getattr(varmorph.reference, f"{instance.operator}_unknowns")(**given)
        return unknowns[:, :, -1], unknowns
    value = getattr(varmorph.reference, instance.operator)(**given)
    return value, value


def solve_reference(instance: Instance) -> Reference:
    """Solve and differentiate an instance."""
    given = {**instance.arguments, **instance.options}
    value, unknowns = reference_solution(instance)
    found = getattr(varmorph.reference, f"{instance.operator}_gradient")(**given, cotangent=instance.cotangent)
    gradients = {name: np.asarray(getattr(found, name)) for name in instance.arguments}
    return Reference(value, unknowns, gradients, pieces(instance, unknowns), has_ties(instance, unknowns))
