"""Clocks, interleaved repeats and peak memory.

Every device-dependent part is an object handed in (a clock, a `torch.cuda` module, a time source), so that the logic
is tested without that device.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

__all__ = [
    "Clock",
    "Quartiles",
    "Repeated",
    "WallClock",
    "growth_of_resident_peak",
    "interleave",
    "last_level_cache",
    "load_average",
    "spread_of_medians",
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


def interleave(
    works: Mapping[str, Phases], repeats: int, limit_s: float = math.inf, now: Callable[[], float] = time.perf_counter
) -> dict[str, Repeated]:
    """Repeat every piece of work ``repeats`` times, in turns, so that a disturbance meets all of them alike.

    Parameters
    ----------
    works : mapping of name to callable
        Each call does the work once and returns its seconds by phase.
    repeats : int
        Number of rounds.
    limit_s : float
        Work that has taken so many seconds in all is not begun again; every piece is done once at least.
    now : callable
        Source of time for the limit.

    Returns
    -------
    mapping of name to Repeated
        Work that raised takes no further part; its message is kept.
    """
    found = {name: Repeated() for name in works}
    spent = dict.fromkeys(works, 0.0)
    for _ in range(repeats):
        for name, work in works.items():
            if found[name].message or spent[name] > limit_s:
                continue
            began = now()
            try:
                seconds = work()
            except Exception as error:
                found[name].message = f"{type(error).__name__}: {error}"
                continue
            finally:
                spent[name] += now() - began
            for phase, value in seconds.items():
                found[name].seconds.setdefault(phase, []).append(value)
    return found


def spread_of_medians(values: Sequence[float], parts: int = 3) -> float:
    """How far medians of repeats lie apart: (largest - smallest) / median over ``parts`` of them; NaN for too few.

    The repeats are dealt out in turn, so that every part spans the whole time; each needs two values at least.
    """
    if len(values) < 2 * parts:
        return math.nan
    medians = [float(np.median(values[part::parts])) for part in range(parts)]
    return (max(medians) - min(medians)) / float(np.median(values))


def growth_of_resident_peak(work: Callable[[], Any]) -> tuple[Any, float]:
    """Run ``work`` and return its result and by how many bytes memory rose above its level before.

    On Linux it is the high-water mark of the resident set of this process, reset by the kernel on request: that sees
    every page that was touched, by the framework, NumPy, numba and the libraries below them, where a framework's own
    counters see only its tensors. Freed memory is handed back to the system first, so that reuse of it counts. The
    resolution is some hundred kilobytes. NaN where the kernel does not offer it.
    """
    before = _reset_resident_peak()
    result = work()
    return result, float(np.maximum(_resident("VmHWM") - before, 0.0))


def load_average() -> float | None:
    """Load average over one minute; None where the system keeps none."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def last_level_cache() -> int:
    """Bytes of the largest cache of the processor, from Linux; 64 MiB where it does not say."""
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    sizes = [
        path.read_text(encoding="utf-8").strip()
        for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    ]
    return max((int(size[:-1]) * units[size[-1]] for size in sizes if size[-1:] in units), default=2**26)


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
