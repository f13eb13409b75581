"""Planes shared out among threads.

A kernel works on a range of planes without the GIL, and each plane belongs to one thread, so results do not depend on how
many there are. The threads are those of PyTorch's own OpenMP where it has one. They stay awake for a while after each
operation: the system puts a thread that it has to wake beside the one that woke it, on the same core, where a kernel of a
few milliseconds ends before the two are drawn apart; and threads of our own would compete with PyTorch's waking ones.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import pairwise
from typing import Any

import torch

__all__ = ["over_planes"]

# Fewer elements than this are done before a second thread has woken up.
_ELEMENTS_PER_THREAD = 16_384
_PROCESS = os.getpid()
_Task = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@cache
def _parallel_region() -> Any:
    """Give the function that runs a task in each thread of PyTorch's OpenMP, None if there is none of this name."""
    try:
        region = ctypes.CDLL(torch._C.__file__).GOMP_parallel  # libgomp's, which libiomp5 and libomp have too on Linux
    except (OSError, AttributeError):
        return None
    region.argtypes, region.restype = [_Task, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint], None
    return region


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Give a process its own pool; one made before a fork has no threads in the child."""
    return ThreadPoolExecutor(threads, thread_name_prefix="varmorph")


def _run_in(threads: int, task: Callable[[], None]) -> None:
    """Run a task in so many threads, or in fewer, and wait for it."""
    region = _parallel_region()
    if region is not None and os.getpid() == _PROCESS:  # OpenMP's threads do not survive a fork
        region(_Task(lambda _: task()), None, threads, 0)
        return
    rest = [_pool(os.getpid(), threads).submit(task) for _ in range(threads - 1)]
    task()
    for part in rest:
        part.result()


def _take(ranges: list[tuple[int, int]], run: Callable[[int, int], None], failures: list[BaseException]) -> None:
    """Run one range after another until none is left."""
    while True:
        try:
            planes = ranges.pop()
        except IndexError:  # other threads took them all
            return
        try:
            run(*planes)
        except BaseException as failure:  # a thread of OpenMP has nobody to raise it to
            failures.append(failure)


def over_planes(run: Callable[[int, int], None], planes: int, elements: int) -> None:
    """Call run(start, stop) on ranges that cover all planes, with at most `torch.get_num_threads()` threads."""
    threads = min(torch.get_num_threads(), planes, max(1, elements // _ELEMENTS_PER_THREAD))
    if threads <= 1:
        run(0, planes)
        return
    ranges = list(pairwise(planes * t // threads for t in range(threads + 1)))
    failures: list[BaseException] = []
    _run_in(threads, partial(_take, ranges, run, failures))
    if failures:
        raise failures[0]
