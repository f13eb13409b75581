"""From tensors to the CPU kernels and back: they take arrays, and run in PyTorch's threads.

These threads are those of its OpenMP where it has one. They stay awake for a while after each operation: the system puts a
thread that it has to wake beside the one that woke it, on the same core, where a kernel of a few milliseconds ends before
the two are drawn apart; and threads of our own would compete with PyTorch's waking ones.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from varmorph.kernels.threads import POOL, Team, over_planes, working_in
from varmorph.torch.backend.choice import holds_numbers

__all__ = ["array_of", "in_threads", "numbers_of", "on_arrays"]

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


def _run(threads: int, task: Callable[[], None]) -> None:
    region = _parallel_region()
    if region is not None and os.getpid() == _PROCESS:  # OpenMP's threads do not survive a fork
        region(_Task(lambda _: task()), None, threads, 0)
    else:
        POOL.run(threads, task)


_TEAM = Team(torch.get_num_threads, _run)


def array_of(tensor: Tensor) -> np.ndarray:
    """Give the numbers of a tensor on the CPU, contiguous."""
    return tensor.detach().contiguous().numpy()


def numbers_of(numbers: Tensor) -> Any:
    """Give the numbers of a tensor as an array where that is possible, since NumPy is quicker on the few that there are."""
    number = numbers.detach()
    if torch.compiler.is_compiling() or type(number) is not Tensor or number.dtype == torch.bfloat16:
        return number
    return number.numpy() if number.device.type == "cpu" and holds_numbers(number) else number


def _to_arrays(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return array_of(argument)
    return tuple(map(_to_arrays, argument)) if type(argument) is tuple else argument


def _to_tensors(result: Any) -> Any:
    if isinstance(result, np.ndarray):
        return torch.from_numpy(result)
    return type(result)(map(_to_tensors, result))


def in_threads(run: Callable[[int, int], None], planes: int, elements: int) -> None:
    """Call run(start, stop) on ranges that cover all planes, in PyTorch's threads."""
    with working_in(_TEAM):
        over_planes(run, planes, elements)


def on_arrays(kernel: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function of arrays with the numbers of tensors; give its arrays, or tuples and lists of them, as tensors.

    NumPy warns of NaN and infinity in sums; they are numbers as others here.
    """
    with working_in(_TEAM), np.errstate(over="ignore", invalid="ignore"):
        return _to_tensors(kernel(*map(_to_arrays, arguments)))
