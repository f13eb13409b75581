"""Planes shared out among threads.

A kernel works on a range of planes without the GIL, so ordinary threads run it in parallel. Unlike the thread pools of
OpenMP they survive a fork, may be entered from several threads at once, and need no second, parallel compilation of
each kernel. Each plane belongs to one thread, so results do not depend on how many there are.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import torch

__all__ = ["over_planes"]

# Fewer elements than this are done before a second thread has woken up.
_ELEMENTS_PER_THREAD = 16_384
_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def _pool(threads: int) -> ThreadPoolExecutor:
    """Give this process's pool; one made before a fork has no threads in the child."""
    key = (os.getpid(), threads)
    if key not in _pools:
        _pools[key] = ThreadPoolExecutor(threads, thread_name_prefix="varmorph")
    return _pools[key]


def over_planes(run: Callable[[int, int], None], planes: int, elements: int) -> None:
    """Call run(start, stop) on ranges that cover all planes, with at most `torch.get_num_threads()` threads."""
    threads = min(torch.get_num_threads(), planes, max(1, elements // _ELEMENTS_PER_THREAD))
    if threads <= 1:
        run(0, planes)
        return
    bounds = [planes * t // threads for t in range(threads + 1)]
    rest = [_pool(threads).submit(run, *pair) for pair in pairwise(bounds[1:])]
    run(bounds[0], bounds[1])
    for part in rest:
        part.result()
