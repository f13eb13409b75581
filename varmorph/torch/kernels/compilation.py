"""How kernels are compiled: cached on disk where that is possible, never releasing NaN or infinity rules."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba

__all__ = ["kernel", "plus"]


@cache
def _cache_is_writable() -> bool:
    """Find out whether compiled kernels can be kept; say so once when they cannot."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    folder = Path(chosen) if chosen else Path(__file__).parent / "__pycache__"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        warnings.warn(
            f"the kernels of varmorph cannot be kept in {folder} and are compiled again by each process;"
            " set NUMBA_CACHE_DIR to a folder that can be written to",
            RuntimeWarning,
            stacklevel=2,
        )
        return False


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a loop for the CPU.

    Fused multiply-add is allowed; nothing that changes what NaN and infinity do. The GIL is released, because a kernel
    runs in several threads on different planes.
    """
    compile_ = numba.njit(cache=_cache_is_writable(), nogil=True, error_model="numpy", fastmath={"contract"})
    return compile_(function)


def _plus(total: Any, term: Any) -> Any:
    return total + term


# The one place where the order of additions is left to the compiler, so that it can keep a sum in vector registers.
# The order it chooses is part of the compiled code: the same for every run and every number of threads.
plus = numba.njit(nogil=True, fastmath={"contract", "reassoc", "nsz"})(_plus)
