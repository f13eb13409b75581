"""Clock and memory of PyTorch's side of the studies: CUDA events, peak allocation, what autograd keeps."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from morphobench.studies.measurement import Clock, WallClock, growth_of_resident_peak, last_level_cache

__all__ = ["CacheFlush", "CudaClock", "clock_for", "growth_of_peak", "saved_bytes"]


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

    On a GPU this is the peak of PyTorch's allocator; elsewhere that of the process (`growth_of_resident_peak`).
    """
    if not device.startswith("cuda"):
        return growth_of_resident_peak(work)
    cuda.synchronize()
    cuda.reset_peak_memory_stats()
    before = cuda.memory_allocated()
    result = work()
    cuda.synchronize()
    return result, float(cuda.max_memory_allocated() - before)


class CacheFlush:
    """Overwrites a buffer larger than the last cache, so that what is timed next finds its arguments in main memory.

    Parameters
    ----------
    device : str
        "cpu" or "cuda".
    cuda : module
        ``torch.cuda``, or what stands for it in a test.
    """

    def __init__(self, device: str, cuda: Any = torch.cuda) -> None:
        self.size = 2 * (
            cuda.get_device_properties().L2_cache_size if device.startswith("cuda") else last_level_cache()
        )
        self.buffer = torch.empty(self.size, dtype=torch.uint8, device=device)

    def __call__(self) -> None:
        """Overwrite the buffer."""
        self.buffer.zero_()
