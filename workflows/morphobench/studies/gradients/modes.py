"""The ways of differentiating that the gradient study compares, as descriptions that both frameworks carry out.

A description is part of the settings of a cell: `mode`, `setting`, `value`, `backend`, `dtype`, `forward_tolerance` are
columns of the table; `step` names the iteration that is differentiated, `steps` says how many of them. Imports no framework.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["ADJOINT_TOLERANCE", "FORWARD_TOLERANCE", "modes"]

Description = dict[str, Any]

FORWARD_TOLERANCE = {"float64": 1e-14, "float32": 1e-6}  # of modes that are not about the forward solve
ADJOINT_TOLERANCE = {"float64": 1e-12, "float32": 1e-6}
MOST_NEWTON = 16  # after so many of its steps nothing moves
# What is differentiated step by step, by family.
UNROLLED = {
    "separable": ("newton", "gradient-descent"),
    "coupled": ("newton", "accelerated-gradient"),
    "geodesic": ("dilation",),
}
TRUNCATED = {"separable": ("gradient-descent",), "coupled": ("relaxation",), "geodesic": ()}


def modes(family: str, settings: Mapping[str, Any], framework: str) -> Iterator[Description]:
    """List the modes of a family of operators in a framework."""
    kind = family if family in UNROLLED else "coupled"
    found = _coupled(settings, framework) if kind == "coupled" else _direct(kind, framework)
    yield from found if framework == "torch" else (d for d in found if d["mode"] in settings["jax_modes"])
    if framework == "torch" or "truncated" in settings["jax_modes"]:
        yield from _iterated("truncated", TRUNCATED[kind], settings["truncated"])
    if framework == "torch":
        yield from _iterated("unrolled", UNROLLED[kind], settings["unrolled"])
    elif "unrolled" in settings["jax_modes"]:
        yield from _iterated("unrolled", UNROLLED[kind][-1:], settings["jax_unrolled"])


def _description(mode: str, setting: str, value: float | None = None, **more: Any) -> Description:
    plain = {"backend": "kernels", "dtype": "float64", "forward_tolerance": None, "step": None, "steps": None}
    return {"mode": mode, "setting": setting, "value": value, **plain, **more}


def _direct(kind: str, framework: str) -> Iterator[Description]:
    """Operators whose backward pass solves no system: it is exact, and only the arithmetic differs."""
    for backend in ("tensor", "kernels"):
        for dtype in ("float64", "float32") if framework == "torch" or backend == "kernels" else ("float64",):
            yield _description("implicit", backend, backend=backend, dtype=dtype)
    if kind == "separable":
        for step in ("newton", "gradient-descent"):
            yield _description("one-step", step, step=step, steps=1)


def _coupled(settings: Mapping[str, Any], framework: str) -> Iterator[Description]:
    tolerances = settings["adjoint_tolerances" if framework == "torch" else "jax_adjoint_tolerances"]
    for tolerance in tolerances:
        yield _description("implicit", f"{tolerance:.0e}", tolerance)
    others = [("kernels", "float32")]
    others += [("tensor", "float64"), ("tensor", "float32")] if framework == "torch" else []
    for backend, dtype in others:
        tolerance = ADJOINT_TOLERANCE[dtype]
        yield _description("implicit", f"{tolerance:.0e}", tolerance, backend=backend, dtype=dtype)
    for tolerance in settings["forward_tolerances"] if framework == "torch" else ():
        setting = f"forward {tolerance:.0e}"
        yield _description(
            "implicit", setting, tolerance, forward_tolerance=tolerance, step="accelerated-gradient", backend="tensor"
        )
    for terms in settings["neumann" if framework == "torch" else "jax_neumann"]:
        yield _description("neumann", str(terms), float(terms), steps=terms)
    yield _description("one-step", "newton", step="newton", steps=1)
    yield _description("one-step", "relaxation", step="relaxation", steps=1)
    if framework == "torch":
        yield _description("one-step", "gradient-descent", backend="tensor", step="accelerated-gradient", steps=1)


def _iterated(mode: str, steps: Sequence[str], counts: Sequence[int]) -> Iterator[Description]:
    for step in steps:
        for count in sorted({min(count, MOST_NEWTON) if step == "newton" else count for count in counts}):
            yield _description(mode, f"{step} {count}", float(count), backend="tensor", step=step, steps=count)
