"""How kernels are compiled: cached on disk where that is possible, never relaxing the rules of NaN and infinity."""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core import config

try:
    import fcntl
except ImportError:  # not on Windows, where processes that compile at once are on their own
    fcntl = None  # type: ignore[assignment]

__all__ = ["cache_folder", "kernel", "part", "plus"]

SOURCES = Path(__file__).parent


@cache
def cache_folder() -> str | None:
    """Return the folder for compiled kernels, None where nothing can be kept; say so once.

    Its name holds a digest of all sources of kernels: Numba compares only the file of the function it has cached, and
    would go on using an old version of what that function calls.
    """
    sources = [path.read_bytes() for path in sorted(SOURCES.rglob("*.py"))]
    marks = (b"numba", b"@kernel", b"@part")
    digest = hashlib.sha256(b"".join(source for source in sources if any(mark in source for mark in marks)))
    root = Path(os.environ.get("NUMBA_CACHE_DIR") or SOURCES / "__pycache__")
    folder = root / f"varmorph-{digest.hexdigest()[:12]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return str(folder)
    except OSError as error:
        warnings.warn(
            f"compiled kernels cannot be kept in {root} ({error.strerror}): each process compiles them again, which"
            " takes seconds; set NUMBA_CACHE_DIR to a folder that can be written to",
            RuntimeWarning,
            stacklevel=2,
        )
        return None


def kernel(function: Callable[..., Any], **options: bool) -> Callable[..., Any]:
    """Compile a loop for the CPU; options are Numba's.

    Fused multiply-add is allowed; nothing that changes what NaN and infinity do. The GIL is released, because a kernel
    runs in several threads on different planes.
    """
    folder = cache_folder()
    configured = vars(config)  # Numba sets its options at run time, where a type checker does not see them
    before = configured["CACHE_DIR"]
    configured["CACHE_DIR"] = folder or before
    try:
        jit: Any = numba.njit  # whose stubs do not name all options
        compiled = jit(
            function, cache=folder is not None, nogil=True, error_model="numpy", fastmath={"contract"}, **options
        )
    finally:
        configured["CACHE_DIR"] = before
    if folder is not None:
        _save_one_by_one(compiled._cache, Path(folder) / "lock")
    return compiled


def _save_one_by_one(cache: Any, lock: Path) -> None:
    """Let one process at a time add to what is kept of a function.

    Numba reads the list of its signatures, adds one, and writes list and code one after the other. Two processes that did so at once
    could leave a list that names the code of one for the signature of the other.
    """
    save = cache.save_overload

    def save_alone(signature: Any, code: Any) -> None:
        with lock.open("w") as held:
            if fcntl is not None:
                fcntl.flock(held, fcntl.LOCK_EX)
            save(signature, code)

    cache.save_overload = save_alone


def part(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a loop that only kernels call: without a way in from Python it takes less time to compile."""
    return kernel(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def _plus(total: Any, term: Any) -> Any:
    return total + term


# The one place where the order of additions is left to the compiler, so that it can keep a sum in vector registers.
# The order it chooses is part of the compiled code: the same for every run and every number of threads.
plus = numba.njit(nogil=True, fastmath={"contract", "reassoc", "nsz"})(_plus)
