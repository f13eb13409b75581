import math
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from morphobench.studies import torch_measurement
from morphobench.studies.measurement import Quartiles, WallClock, interleave, last_level_cache, spread_of_medians
from morphobench.studies.torch_measurement import CacheFlush, CudaClock, clock_for, growth_of_peak, saved_bytes


@dataclass
class FakeCuda:
    """Stands for torch.cuda: work is queued by `launch`, runs at `synchronize`, and time passes on the device alone."""

    clock_ms: float = 0.0
    queue: list = field(default_factory=list)
    log: list = field(default_factory=list)
    allocated: int = 1000
    peak: int = 5000

    def Event(self, enable_timing):
        assert enable_timing
        return FakeEvent(self)

    def launch(self, milliseconds):
        self.queue.append(lambda: setattr(self, "clock_ms", self.clock_ms + milliseconds))

    def synchronize(self):
        self.log.append("synchronize")
        while self.queue:
            self.queue.pop(0)()

    def reset_peak_memory_stats(self):
        self.peak = self.allocated

    def memory_allocated(self):
        return self.allocated

    def max_memory_allocated(self):
        return self.peak

    def get_device_properties(self):
        return SimpleNamespace(L2_cache_size=4096)


@dataclass
class FakeEvent:
    cuda: FakeCuda
    at_ms: float = math.nan

    def record(self):
        self.cuda.queue.append(lambda: setattr(self, "at_ms", self.cuda.clock_ms))

    def elapsed_time(self, end):
        return end.at_ms - self.at_ms


def test_wall_clock_takes_the_difference_of_two_readings():
    readings = iter([2.0, 5.5])
    assert WallClock(lambda: next(readings)).measure(lambda: "done") == ("done", 3.5)


def test_cuda_clock_leaves_out_work_queued_before_and_waits_for_its_own():
    cuda = FakeCuda()
    cuda.launch(1000)
    assert CudaClock(cuda).measure(lambda: cuda.launch(250)) == (None, 0.25)
    assert cuda.log == ["synchronize", "synchronize"]


def test_the_clock_follows_the_device():
    assert isinstance(clock_for("cuda"), CudaClock)
    assert isinstance(clock_for("cpu"), WallClock)


def test_quartiles_are_those_of_numpy_and_nan_without_values():
    values = [5.0, 1.0, 4.0, 2.0]
    assert Quartiles.of(values) == Quartiles(*np.quantile(values, [0.5, 0.25, 0.75]))
    assert math.isnan(Quartiles.of([]).median)


def test_repeats_are_taken_in_turns():
    order = []
    works = {name: lambda name=name: order.append(name) or {"forward": 1.0} for name in "ab"}
    found = interleave(works, 3)
    assert order == list("ababab")
    assert found["a"].seconds == {"forward": [1.0, 1.0, 1.0]}


def test_work_that_has_used_up_its_time_is_not_begun_again():
    readings = iter(range(100))
    found = interleave({"a": lambda: {"forward": 1.0}}, 9, limit_s=2.5, now=lambda: float(next(readings)))
    assert found["a"].seconds == {"forward": [1.0, 1.0, 1.0]}


def test_the_spread_is_that_of_medians_over_thirds_dealt_in_turn():
    assert spread_of_medians([1.0, 2.0, 3.0] * 3) == 1.0
    assert spread_of_medians([2.0] * 6) == 0.0
    assert math.isnan(spread_of_medians([2.0] * 5))


def test_work_that_fails_keeps_its_message_and_does_not_stop_the_others():
    def fail():
        raise ValueError("no kernel")

    found = interleave({"bad": fail, "good": lambda: {"forward": 2.0}}, 2)
    assert found["bad"].message == "ValueError: no kernel"
    assert found["good"].seconds == {"forward": [2.0, 2.0]}


def test_saved_bytes_counts_each_storage_once():
    x = torch.ones(100, dtype=torch.float64, requires_grad=True)
    value, count = saved_bytes(lambda: x * x[:] * 1.0)  # saves x twice, as the same storage
    assert count == 800
    assert torch.equal(torch.autograd.grad(value.sum(), x)[0], 2 * x.detach())


def test_saved_bytes_grow_with_what_is_unrolled_and_forget_what_is_dropped():
    x = torch.ones(100, dtype=torch.float64, requires_grad=True)

    def unroll(steps, keep):
        z = x
        for _ in range(steps):
            z = (z if keep else z.detach()).exp() * x
        return z

    assert saved_bytes(lambda: unroll(6, True))[1] > 3 * saved_bytes(lambda: unroll(2, True))[1] / 2
    assert saved_bytes(lambda: unroll(6, False))[1] == saved_bytes(lambda: unroll(2, False))[1]


def test_peak_on_a_gpu_is_that_of_the_allocator_above_the_start():
    cuda = FakeCuda()

    def work():
        cuda.peak = 4000

    assert growth_of_peak(work, "cuda", cuda) == (None, 3000.0)


def test_a_flush_overwrites_twice_the_cache_of_the_device(monkeypatch):
    made = []
    monkeypatch.setattr(torch_measurement.torch, "empty", lambda size, **how: made.append(how) or torch.ones(size))
    flush = CacheFlush("cuda", FakeCuda())
    flush()
    assert made[0]["device"] == "cuda"
    assert flush.buffer.shape == (8192,)
    assert not flush.buffer.any()


def test_a_flush_on_the_cpu_is_larger_than_its_last_cache():
    assert CacheFlush("cpu").buffer.nbytes == 2 * last_level_cache() >= 2**20


def test_peak_on_the_cpu_sees_temporary_arrays_of_any_library():
    _, small = growth_of_peak(lambda: None, "cpu")
    if math.isnan(small):
        pytest.skip("this system does not reset the high-water mark of a process")
    _, by_numpy = growth_of_peak(lambda: np.ones(2**22).sum(), "cpu")
    _, by_torch = growth_of_peak(lambda: torch.ones(2**22, dtype=torch.float64).sum(), "cpu")
    assert small < 4e6
    assert 30e6 < by_numpy < 45e6
    assert 30e6 < by_torch < 45e6
