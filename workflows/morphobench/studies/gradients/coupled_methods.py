"""How a description of a mode becomes a solver and an adjoint of `varmorph.torch` or `varmorph.jax`, which name them alike."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from morphobench.studies.gradients.modes import ADJOINT_TOLERANCE, FORWARD_TOLERANCE

__all__ = ["methods"]

MOST_GRADIENT_STEPS = 500  # a forward tolerance that takes more is not reached, as `forward_residual` says
MOST_STEPS = 50  # of Newton's method, which needs about ten; it ends where nothing moves


def methods(package: ModuleType, mode: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the solver and the adjoint of a mode.

    Parameters
    ----------
    package : module
        ``varmorph.torch`` or ``varmorph.jax``.
    mode : mapping
        A description by `morphobench.studies.gradients.modes.modes`.
    """
    steps, precise = mode["steps"], ADJOINT_TOLERANCE[mode["dtype"]]
    newton = package.Newton(tolerance=FORWARD_TOLERANCE[mode["dtype"]], max_steps=MOST_STEPS)
    if mode["mode"] == "unrolled":
        return _iteration(package, mode["step"], tolerance=0.0, max_steps=steps), package.Unrolled()
    if mode["mode"] == "neumann":
        return newton, package.Neumann(terms=steps)
    if mode["mode"] == "truncated" or (mode["step"] == "accelerated-gradient" and mode["mode"] == "one-step"):
        return newton, package.Truncated(steps=steps, through=_iteration(package, mode["step"]))
    if mode["mode"] == "one-step":
        return newton, package.OneStep(step=mode["step"], tolerance=precise)
    if mode["forward_tolerance"] is None:
        return newton, package.Implicit(tolerance=mode["value"])
    solver = _iteration(package, mode["step"], tolerance=mode["forward_tolerance"], max_steps=MOST_GRADIENT_STEPS)
    return solver, package.Implicit(tolerance=precise)


def _iteration(package: ModuleType, step: str, **settings: Any) -> Any:
    """Return the solver that makes such steps."""
    solvers = {
        "relaxation": package.FixedPoint,
        "accelerated-gradient": package.AcceleratedGradient,
        "newton": package.Newton,
    }
    return solvers[step](**settings)
