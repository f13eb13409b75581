"""Benchmarks time only under `--benchmark-only`; otherwise each runs once on a small image, to show that it runs."""

import time

import pytest

SHAPE, SMALL = (8, 16, 64, 64), (1, 2, 8, 8)
ROUNDS = (3, 30)


@pytest.fixture
def timed(request):
    return bool(request.config.getoption("benchmark_only"))


@pytest.fixture
def shape(timed):
    return SHAPE if timed else SMALL


@pytest.fixture
def measure(benchmark, timed, request):
    """Give a function that times a call for about `--benchmark-max-time` seconds, or calls it once."""
    seconds = float(request.config.getoption("benchmark_max_time"))

    def measure(call, **info):
        benchmark.extra_info.update(info)
        if not timed:
            benchmark.pedantic(call)
            return
        call()  # compiles what is compiled at the first call
        start = time.perf_counter()
        call()
        rounds = round(seconds / max(time.perf_counter() - start, 1e-9))
        benchmark.pedantic(call, rounds=min(max(rounds, ROUNDS[0]), ROUNDS[1]), warmup_rounds=1)

    return measure
