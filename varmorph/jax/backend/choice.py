"""The one place that chooses between compiled CPU kernels and code that XLA compiles."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import jax

__all__ = ["backend", "compute_dtype", "kernels_are_excluded", "on_platform"]

CHOICES = ("auto", "xla", "cpu")

_chosen: ContextVar[str] = ContextVar("backend", default="auto")


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Choose what computes the operators traced within the block.

    Parameters
    ----------
    name : {"auto", "xla", "cpu"}
        "auto" takes compiled kernels where a program runs on a CPU, and code for XLA elsewhere. "xla" takes the latter
        everywhere; it alone has forward-mode and second derivatives. "cpu" insists on the kernels. A function that `jit` has
        compiled keeps the choice under which it was traced.

    Raises
    ------
    ValueError
        If there is no such backend.
    """
    if name not in CHOICES:
        raise ValueError(f"backend must be one of {', '.join(map(repr, CHOICES))}, found {name!r}")
    before = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(before)


@cache
def _has_numba() -> bool:
    """Tell whether kernels can be compiled; say once if they cannot."""
    try:
        importlib.import_module("numba")
    except (ImportError, OSError) as error:
        warnings.warn(
            f"no kernels for cpu: numba cannot be imported ({error}); operators run in code that XLA compiles",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True


def kernels_are_excluded() -> bool:
    """Tell whether code for XLA is all that is asked for, or all there is."""
    return _chosen.get() == "xla" or (_chosen.get() == "auto" and not _has_numba())


def on_platform(kernel: Callable[..., Any], xla: Callable[..., Any], *arrays: Any) -> Any:
    """Call `kernel` in programs that run on a CPU, and `xla`, with the same results, in others."""
    if kernels_are_excluded():
        return xla(*arrays)
    if _chosen.get() == "cpu":
        return kernel(*arrays)
    return jax.lax.platform_dependent(*arrays, cpu=kernel, default=xla)


def compute_dtype(*images: jax.Array) -> Any:
    """Return float64 if an image has it, else float32: shorter numbers are computed as float32."""
    return jax.numpy.float64 if any(image.dtype == jax.numpy.float64 for image in images) else jax.numpy.float32
