"""What the operators cost: time and peak memory over image size, forward and backward pass apart.

The variational operator and the max-plus dilation, each as compiled kernel and as tensor code, beside a depthwise
convolution and max pooling, whose price is known. Every row names its device.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from morphobench.files import write_json, write_table
from morphobench.provenance import hardware, versions
from morphobench.studies.measurement import Clock, Quartiles, Repeated, interleave
from morphobench.studies.settings import read_settings
from morphobench.studies.solvers import Case, Solver, make_case, solvers_for
from morphobench.studies.torch_measurement import clock_for, growth_of_peak
from morphobench.studies.unrolling import neighbours, newton_updates, relative_residual

__all__ = ["COLUMNS", "DEFAULTS", "PHASES", "run_solver_cost", "solver_rows"]

DEFAULTS: dict[str, Any] = {
    "image_sizes": [16, 32, 64, 128],
    "kernel_sizes": [3, 5],
    "batch": 2,
    "channels": 8,
    "repeats": 5,
    "dtype": "float32",
    "seed": 0,
}
PHASES = ("compile", "forward", "backward")
# The columns of the table `solvers`, then what explains a row.
#   phase "compile": the first forward and backward pass on this case, with whatever this process compiles for it.
#   peak_bytes: growth of memory during the phase (measurement.growth_of_peak); phase "compile": not measured.
#   residual, iterations: of the variational operator on the first image; empty for operators without a solver.
#   load: load average over one minute when the study began; pixels_per_s: output pixels of all images and channels.
COLUMNS = [
    *["instance", "solver", "backend", "device", "dtype", "phase", "median_s", "q25_s", "q75_s", "peak_bytes"],
    *["residual", "iterations"],
    *["image_size", "batch", "channels", "kernel_size", "threads", "load", "pixels_per_s", "repeats"],
    *["converged", "message"],
]
RESIDUAL = {"float64": 1e-10, "float32": 1e-4}

Row = dict[str, Any]


@dataclass
class Measured:
    """What one solver showed on one case."""

    solver: Solver
    compile_s: float = math.nan
    repeated: Repeated = field(default_factory=Repeated)
    peak: dict[str, float] = field(default_factory=dict)
    residual: float = math.nan
    iterations: int | None = None
    message: str = ""


def run_solver_cost(config: Mapping[str, Any], out: Path, threads: int) -> None:
    """Run the study and write ``solvers.csv``, ``solvers.parquet`` and the circumstances, ``solvers.json``, to ``out``.

    Parameters
    ----------
    config : mapping
        Settings that override `DEFAULTS`: ``image_sizes``, ``kernel_sizes``, ``batch``, ``channels``, ``repeats``,
        ``dtype`` (float32 or float64), ``seed``.
    out : Path
        Folder for the tables.
    threads : int
        Number of threads for PyTorch and the compiled kernels.

    Raises
    ------
    ValueError
        For settings that do not fit, before any work starts.
    """
    settings = read_settings("solvers", config, DEFAULTS)
    if settings["dtype"] not in RESIDUAL:
        raise ValueError(f"studies.solvers.dtype: found {settings['dtype']!r}, expected one of {', '.join(RESIDUAL)}")
    for kernel in settings["kernel_sizes"]:
        if kernel % 2 == 0:
            raise ValueError(f"studies.solvers.kernel_sizes: found {kernel}, expected odd sizes: the peers pad evenly")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    load = _load()
    with _threads(threads):
        copied = _copy_bandwidth(device, clock_for(device))
        rows = list(solver_rows(settings, device, threads, load, clock_for(device)))
    table = pd.DataFrame(rows, columns=COLUMNS).astype({"iterations": "Int64"})
    write_table(out / "solvers", table)
    circumstances = {
        "device": _device_name(device),
        "hardware": hardware(),
        "versions": versions(),
        "threads": threads,
        "load_before": load,
        "load_after": _load(),
        "copy_bytes_per_s": copied,
        "settings": settings,
    }
    write_json(out / "solvers.json", circumstances)


def solver_rows(
    settings: Mapping[str, Any],
    device: str,
    threads: int,
    load: float | None,
    clock: Clock,
    solvers: list[Solver] | None = None,
) -> Iterator[Row]:
    """Yield three rows (compile, forward, backward) a solver, image size and window.

    A solver that fails on a case leaves its rows with ``converged`` false and the message.
    """
    name = _device_name(device)
    for kernel in settings["kernel_sizes"]:
        for size in settings["image_sizes"]:
            case = make_case(settings, size, kernel, device)
            for measured in _measure(solvers or solvers_for(device), case, settings["repeats"], device, clock):
                for phase in PHASES:
                    yield _row(measured, phase, case, name, threads, load)


def _forward_backward(solver: Solver, case: Case, clock: Clock) -> tuple[Tensor, dict[str, float]]:
    leaves = [leaf.detach().requires_grad_() for leaf in solver.leaves(case)]
    value, forward = clock.measure(lambda: solver.run(*leaves))
    _, backward = clock.measure(lambda: torch.autograd.grad(value, leaves, case.cotangent, allow_unused=True))
    return value.detach(), {"forward": forward, "backward": backward}


def _measure(solvers: list[Solver], case: Case, repeats: int, device: str, clock: Clock) -> list[Measured]:
    """Start every solver once (compilation), measure memory and residual, then time all of them in turns."""
    measured = [_started(solver, case, device, clock) for solver in solvers]
    ready = {str(i): m for i, m in enumerate(measured) if not m.message}

    def work(solver: Solver) -> Callable[[], Mapping[str, float]]:
        return lambda: _forward_backward(solver, case, clock)[1]

    for key, repeated in interleave({key: work(m.solver) for key, m in ready.items()}, repeats).items():
        ready[key].repeated = repeated
        ready[key].message = repeated.message
    return measured


def _started(solver: Solver, case: Case, device: str, clock: Clock) -> Measured:
    found = Measured(solver)
    try:
        value, seconds = _forward_backward(solver, case, clock)
        found.compile_s = sum(seconds.values())
        found.peak = _peak(solver, case, device)
        if solver.iterative:
            # One image tells as much as the batch, and the gathered windows of a large batch would not fit in memory.
            window = neighbours(case.x[:1], case.bias, case.weight, case.logit_level)
            found.residual = relative_residual(window, value[:1])
            found.iterations = newton_updates(window)[1]
    except Exception as error:  # a cell that fails is a row of the table
        found.message = f"{type(error).__name__}: {error}"
    return found


def _peak(solver: Solver, case: Case, device: str) -> dict[str, float]:
    """Memory of each phase; what the forward pass keeps counts there and not again in the backward pass."""
    leaves = [leaf.detach().requires_grad_() for leaf in solver.leaves(case)]
    value, forward = growth_of_peak(lambda: solver.run(*leaves), device)
    _, backward = growth_of_peak(lambda: torch.autograd.grad(value, leaves, case.cotangent, allow_unused=True), device)
    return {"forward": forward, "backward": backward}


def _row(measured: Measured, phase: str, case: Case, device: str, threads: int, load: float | None) -> Row:
    seconds = [measured.compile_s] if phase == "compile" else measured.repeated.seconds.get(phase, [])
    quartiles = Quartiles.of([] if measured.message else seconds)
    solver, dtype = measured.solver, str(case.x.dtype).removeprefix("torch.")
    return {
        "instance": case.name,
        "solver": solver.name,
        "backend": solver.backend,
        "device": device,
        "dtype": dtype,
        "phase": phase,
        "median_s": quartiles.median,
        "q25_s": quartiles.q25,
        "q75_s": quartiles.q75,
        "peak_bytes": measured.peak.get(phase, math.nan),
        "residual": measured.residual,
        "iterations": measured.iterations,
        "image_size": case.x.shape[-1],
        "batch": case.x.shape[0],
        "channels": case.x.shape[1],
        "kernel_size": case.bias.shape[-1],
        "threads": threads,
        "load": load,
        "pixels_per_s": math.nan if phase == "compile" else case.x.numel() / quartiles.median,
        "repeats": len(seconds),
        "converged": not measured.message and not (solver.iterative and measured.residual > RESIDUAL[dtype]),
        "message": measured.message,
    }


def _copy_bandwidth(device: str, clock: Clock, megabytes: int = 64) -> float:
    """Bytes read and written in a second by copying an array that no cache holds: the bound for these operators."""
    source = torch.ones(megabytes * 2**20 // 4, device=device)
    target = torch.empty_like(source)
    seconds = [clock.measure(lambda: target.copy_(source))[1] for _ in range(6)][1:]
    return 2.0 * source.numel() * source.element_size() / Quartiles.of(seconds).median


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Give PyTorch, and with it the kernels of `varmorph`, ``count`` threads, and back what it had."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device.startswith("cuda") else f"cpu ({hardware()['processor']})"


def _load() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None
