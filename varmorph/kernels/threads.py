"""Planes shared out among threads.

A kernel works on a range of planes without the GIL, and each plane belongs to one thread, so results do not depend on how
many there are. A framework that has threads of its own lends them as a `Team`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from itertools import pairwise
from typing import NamedTuple

__all__ = ["POOL", "Team", "over_planes", "working_in"]

# Fewer elements than this are done before a second thread has woken up.
_ELEMENTS_PER_THREAD = 16_384


class Team(NamedTuple):
    """Threads: `size()` tells how many, `run(count, task)` runs a task in `count` of them, or in fewer, and waits."""

    size: Callable[[], int]
    run: Callable[[int, Callable[[], None]], None]


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Give a process its own pool; one made before a fork has no threads in the child."""
    return ThreadPoolExecutor(threads, thread_name_prefix="varmorph")


def _run_in_pool(threads: int, task: Callable[[], None]) -> None:
    rest = [_pool(os.getpid(), threads).submit(task) for _ in range(threads - 1)]
    task()
    for part in rest:
        part.result()


def _cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


POOL = Team(_cores, _run_in_pool)
_team: ContextVar[Team] = ContextVar("team", default=POOL)


@contextmanager
def working_in(team: Team) -> Iterator[None]:
    """Let kernels run in the threads of a team within the block."""
    before = _team.set(team)
    try:
        yield
    finally:
        _team.reset(before)


def _take(ranges: list[tuple[int, int]], run: Callable[[int, int], None], failures: list[BaseException]) -> None:
    """Run one range after another until none is left."""
    while True:
        try:
            planes = ranges.pop()
        except IndexError:  # other threads took them all
            return
        try:
            run(*planes)
        except BaseException as failure:  # a thread may have nobody to raise it to
            failures.append(failure)


def over_planes(run: Callable[[int, int], None], planes: int, elements: int) -> None:
    """Call run(start, stop) on ranges that cover all planes, in as many threads as are there and worth waking."""
    team = _team.get()
    threads = min(team.size(), planes, max(1, elements // _ELEMENTS_PER_THREAD))
    if threads <= 1:
        run(0, planes)
        return
    ranges = list(pairwise(planes * t // threads for t in range(threads + 1)))
    failures: list[BaseException] = []
    team.run(threads, partial(_take, ranges, run, failures))
    if failures:
        raise failures[0]
