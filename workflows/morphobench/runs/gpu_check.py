"""What a machine with a GPU is asked within ten minutes: whether the programs for CUDA are right, and what they take there.

The first step compares every program with tensor code and the kernels for the CPU; the second is the tier ``gpu``, whose studies
time layers and solvers beside convolution, pooling and a copy, and measure gradients.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from morphobench.project.files import write_json
from morphobench.project.paths import Project
from morphobench.project.provenance import gpus, provenance
from morphobench.runs.processes import kill_group

__all__ = ["LIMIT_S", "check_gpu"]

LIMIT_S, GRACE_S = 600.0, 20.0
PROGRAMS = ("tests/unit/varmorph/torch/triton_kernels.py", "tests/unit/varmorph/torch/triton_mixing.py")
STEPS: Mapping[str, Sequence[str]] = {
    "programs agree with tensor code": ("-m", "pytest", "-q", "-p", "no:cacheprovider", *PROGRAMS),
    "studies": ("-m", "snakemake", "--cores", "all", "--configfile", "workflows/config/gpu.yaml"),
}
Run = Callable[[Sequence[str], Path, float], int | None]


def run_within(command: Sequence[str], folder: Path, limit_s: float) -> int | None:
    """Run a command with this Python and return its exit code; None if it was stopped at the limit, with all it had started."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")}
    process = subprocess.Popen([sys.executable, *command], cwd=folder, env=environment, start_new_session=True)
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            os.killpg(process.pid, signal.SIGTERM)  # on which Snakemake unlocks the folder
            process.wait(GRACE_S)
        kill_group(process)


def check_gpu(
    project: Project,
    devices: Sequence[str] | None = None,
    run: Run = run_within,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Run the steps on the GPU of this machine and write ``results/gpu/gpu-check.json``; say so where there is none.

    Parameters
    ----------
    project : Project
        The checkout.
    devices : sequence of str, optional
        Names of the GPUs, those of the machine by default.
    run, clock : callable
        What runs a command in a folder within so many seconds, and what tells the time.

    Returns
    -------
    The exit code: 0 if every step ended well, or if there is no GPU, else 1.
    """
    found = gpus() if devices is None else devices
    if not found:
        print("gpu-check: no NVIDIA GPU is visible here (nvidia-smi lists none): nothing was run")
        return 0
    began, steps = clock(), []
    for name, command in STEPS.items():
        before = clock()
        left = LIMIT_S - (before - began)
        code = run(command, project.root, left) if left > 0 else None
        status = "not ended" if code is None else "ok" if code == 0 else f"exit code {code}"
        steps.append({"step": name, "command": ["python", *command], "status": status, "seconds": clock() - before})
        print(f"gpu-check: {name}: {status} after {steps[-1]['seconds']:.0f} s", flush=True)
    record: dict[str, Any] = {"devices": list(found), "limit_s": LIMIT_S, "steps": steps, **provenance(project.root)}
    write_json(project.run("gpu").results / "gpu-check.json", record)
    return int(any(step["status"] != "ok" for step in steps))
