"""Programs that XLA compiles ahead of time, once for each shape, with the seconds that this took."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Any

import jax

__all__ = ["Program", "ProgramCache", "seconds_spent_compiling"]

_spent = 0.0


def seconds_spent_compiling() -> float:
    """Seconds that this process has spent on compiling programs, for clocks to leave out."""
    return _spent


class Program:
    """A jitted function of arrays that is compiled apart from its first call, so that calls can be timed without it.

    Parameters
    ----------
    function : callable
        ``function(leaves, *arrays)``; the shapes of the ``leaves`` never change, those of the other arrays may.
    donate : bool
        Whether the memory of the leaves is given away for the results.
    """

    def __init__(self, function: Callable[..., Any], *, donate: bool = False):
        self._jitted = jax.jit(function, donate_argnums=(0,) if donate else ())
        self._compiled: dict[Hashable, Any] = {}
        self.seconds: dict[Hashable, float] = {}

    def __call__(self, leaves: list[jax.Array], *arrays: Any) -> Any:
        """Run the program that is compiled for the shapes of ``arrays``."""
        shapes = tuple((array.shape, array.dtype) for array in arrays)
        if shapes not in self._compiled:
            self._compile(shapes, leaves, arrays)
        return self._compiled[shapes](leaves, *arrays)

    def _compile(self, shapes: Hashable, leaves: list[jax.Array], arrays: tuple[Any, ...]) -> None:
        global _spent
        started = time.perf_counter()
        self._compiled[shapes] = self._jitted.lower(leaves, *arrays).compile()
        self.seconds[shapes] = time.perf_counter() - started
        _spent += self.seconds[shapes]


class ProgramCache:
    """Programs by what they compute, so that networks of one structure share them: the seeds that one process trains."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Any] = {}

    def take(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return what was made for an equal key; a key that has no hash finds nothing."""
        try:
            hash(key)
        except TypeError:
            return make()
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]
