"""Clocks, interleaved repeats and peak memory, for both studies.

Every device-dependent part is an object handed in (a clock, a `torch.cuda` module, a time source), so that the logic
is tested without that device.
"""

from __future__ import annotations

import ctypes
import functools
import math
import re
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

__all__ = [
    "Clock",
    "CudaClock",
    "Quartiles",
    "Repeated",
    "WallClock",
    "clock_for",
    "growth_of_peak",
    "interleave",
    "saved_bytes",
]


class Clock(Protocol):
    """Runs a piece of work and says how many seconds it took."""

    def measure(self, work: Callable[[], Any]) -> tuple[Any, float]:
        """Return what ``work`` returned and its duration in seconds."""
        ...


@dataclass(frozen=True)
class WallClock:
    """Wall-clock time of work that is finished when the call returns, as on a CPU."""

    now: Callable[[], float] = time.perf_counter

    def measure(self, work: Callable[[], Any]) -> tuple[Any, float]:
        """Return what ``work`` returned and its duration in seconds."""
        start = self.now()
        result = work()
        return result, self.now() - start


@dataclass(frozen=True)
class CudaClock:
    """Time between two CUDA events on the current stream.

    Parameters
    ----------
    cuda : module
        ``torch.cuda``, or what stands for it in a test: ``Event(enable_timing=True)`` and ``synchronize()``.
    """

    cuda: Any = torch.cuda

    def measure(self, work: Callable[[], Any]) -> tuple[Any, float]:
        """Return what ``work`` returned and the seconds the device spent on it.

        The device is idle when the first event is recorded and when the elapsed time is read, so that neither work
        queued before nor an unfinished kernel is counted wrongly.
        """
        start, end = self.cuda.Event(enable_timing=True), self.cuda.Event(enable_timing=True)
        self.cuda.synchronize()
        start.record()
        result = work()
        end.record()
        self.cuda.synchronize()
        return result, start.elapsed_time(end) / 1e3


def clock_for(device: str) -> Clock:
    """Return the clock that is right for ``device`` (``"cpu"`` or ``"cuda"``)."""
    return CudaClock() if device.startswith("cuda") else WallClock()


@dataclass(frozen=True)
class Quartiles:
    """Median and quartiles of repeated measurements; NaN for none."""

    median: float
    q25: float
    q75: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Quartiles:
        """Summarise ``values``."""
        if not values:
            return cls(math.nan, math.nan, math.nan)
        q25, median, q75 = np.quantile(np.asarray(values, dtype=np.float64), [0.25, 0.5, 0.75])
        return cls(float(median), float(q25), float(q75))


@dataclass
class Repeated:
    """What the repeats of one piece of work gave: seconds by phase, and the message of the failure that ended it."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    message: str = ""


Phases = Callable[[], Mapping[str, float]]


def interleave(works: Mapping[str, Phases], repeats: int) -> dict[str, Repeated]:
    """Repeat every piece of work ``repeats`` times, in turns, so that a disturbance meets all of them alike.

    Parameters
    ----------
    works : mapping of name to callable
        Each call does the work once and returns its seconds by phase.
    repeats : int
        Number of rounds.

    Returns
    -------
    mapping of name to Repeated
        Work that raised takes no further part; its message is kept.
    """
    found = {name: Repeated() for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            if found[name].message:
                continue
            try:
                seconds = work()
            except Exception as error:
                found[name].message = f"{type(error).__name__}: {error}"
                continue
            for phase, value in seconds.items():
                found[name].seconds.setdefault(phase, []).append(value)
    return found


class _Kept:
    """What autograd holds in place of a saved tensor; it goes when the graph that needs it goes."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


def saved_bytes(work: Callable[[], Any]) -> tuple[Any, int]:
    """Run the forward pass ``work`` and count the bytes that autograd keeps for the backward pass.

    Every storage that the graph of the result holds counts once, inputs included; what is out of sight of PyTorch's
    saved-tensor hooks (plain attributes of a context) does not. This is exact, repeats to the byte and is the part of
    the memory in which implicit differentiation and unrolling differ; temporary arrays are not in it.
    """
    kept: weakref.WeakSet[_Kept] = weakref.WeakSet()

    def pack(tensor: torch.Tensor) -> _Kept:
        held = _Kept(tensor)
        kept.add(held)
        return held

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda held: held.tensor):
        result = work()
    storages = {held.tensor.untyped_storage().data_ptr(): held.tensor.untyped_storage().nbytes() for held in kept}
    return result, sum(storages.values())


def growth_of_peak(work: Callable[[], Any], device: str, cuda: Any = torch.cuda) -> tuple[Any, float]:
    """Run ``work`` and return its result and by how many bytes memory rose above its level before.

    On a GPU this is the peak of PyTorch's allocator. On Linux it is the high-water mark of the resident set of this
    process, reset by the kernel on request: that sees every page that was touched, by PyTorch, NumPy, numba and the
    libraries below them, where PyTorch's own counters see only tensors. Freed memory is handed back to the system
    first, so that reuse of it counts. The resolution is some hundred kilobytes. NaN where the kernel offers neither.
    """
    if device.startswith("cuda"):
        cuda.synchronize()
        cuda.reset_peak_memory_stats()
        before = cuda.memory_allocated()
        result = work()
        cuda.synchronize()
        return result, float(cuda.max_memory_allocated() - before)
    before = _reset_resident_peak()
    result = work()
    return result, float(np.maximum(_resident("VmHWM") - before, 0.0))


def _reset_resident_peak() -> float:
    """Hand free memory back, set the high-water mark to the present level and return that level; NaN if impossible."""
    trim = getattr(_c_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return math.nan
    return _resident("VmRSS")


@functools.cache
def _c_library() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):  # TypeError on Windows
        return None


def _resident(key: str) -> float:
    try:
        found = re.search(rf"^{key}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return math.nan
    return float(found.group(1)) * 1024 if found else math.nan
