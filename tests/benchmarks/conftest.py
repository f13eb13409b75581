"""Benchmarks time only under `--benchmark-only`; otherwise each runs once on a small image, to show that it runs."""

import statistics
import time

import pytest
import torch

SHAPE, SMALL = (8, 16, 64, 64), (1, 2, 8, 8)
ROUNDS = (3, 30)


@pytest.fixture
def timed(request):
    return bool(request.config.getoption("benchmark_only"))


@pytest.fixture
def shape(timed):
    return SHAPE if timed else SMALL


@pytest.fixture
def seconds(request):
    return float(request.config.getoption("benchmark_max_time"))


@pytest.fixture
def measure(benchmark, timed, seconds):
    """Give a function that times a call for about `--benchmark-max-time` seconds, or calls it once.

    once : for a call that takes seconds and compiles nothing: time the first one, and no other.
    """

    def measure(call, *, once=False, **info):
        benchmark.extra_info.update(info)
        if not timed or once:
            benchmark.pedantic(call)
            return
        call()  # compiles what is compiled at the first call
        start = time.perf_counter()
        call()
        rounds = round(seconds / max(time.perf_counter() - start, 1e-9))
        benchmark.pedantic(call, rounds=min(max(rounds, ROUNDS[0]), ROUNDS[1]), warmup_rounds=1)

    return measure


@pytest.fixture
def compare(measure):
    """Time an operator on leaves, the first of which is the image, in one phase, and say what was timed."""

    def compare(operator, function, leaves, *, implementation, window, phase, once=False):
        if phase == "forward":
            leaves = [leaf.detach() for leaf in leaves]
            call = torch.no_grad()(lambda: function(*leaves))
        else:
            output = function(*leaves)
            cotangent = torch.ones_like(output)

            def call():
                result = output if phase == "backward" else function(*leaves)
                return torch.autograd.grad(result, leaves, cotangent, retain_graph=phase == "backward")

        info = {"operator": operator, "implementation": implementation, "phase": phase, "window": [window, window]}
        measure(call, once=once, **info, shape=list(leaves[0].shape), threads=torch.get_num_threads())

    return compare


@pytest.fixture
def against(benchmark, timed, seconds, capsys):
    """Give a function that times a call and its peers in turn and records the ratios of their medians."""

    def against(ours, peers, *, operator, window, shape, phase, bar, rounds=None):
        times = {name: [] for name in peers}

        def time_peers():
            for name, peer in peers.items():
                start = time.perf_counter()
                peer()
                times[name].append(time.perf_counter() - start)

        def all_once():
            start = time.perf_counter()
            ours()
            time_peers()
            return time.perf_counter() - start

        all_once()  # compiles what is compiled at the first call
        if rounds is None:
            rounds = min(max(round(seconds / all_once()), 3), 50) if timed else 1
        for found in times.values():
            found.clear()
        benchmark.pedantic(ours, setup=time_peers, rounds=rounds)
        median = benchmark.stats.stats.median if benchmark.stats else float("nan")
        ratios = {name: median / statistics.median(found) for name, found in times.items()}
        benchmark.extra_info.update(
            operator=operator, implementation="varmorph, interleaved", phase=phase, window=[window, window],
            shape=list(shape), threads=torch.get_num_threads(), ratios=ratios, bar=bar,
        )  # fmt: skip
        if timed:
            with capsys.disabled():
                for name, ratio in ratios.items():
                    print(f"\n{operator} {window}x{window}, {phase}, over {name}: {ratio:.3f} (bar {bar}) ", end="")

    return against
