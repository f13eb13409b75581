"""Worker processes: each in a group of its own, with a device of its own, watched for time and memory, gone with its parent."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from morphobench.project.files import write_json
from morphobench.project.provenance import gpus
from morphobench.runs.environment import worker_environment

__all__ = ["WorkerExit", "file_lock", "granted_device", "kill_group", "read_job", "run_worker"]

POLL_S = 0.1
MEMORY_POLL_S = 0.5  # adding up the memory of a family of processes takes milliseconds, and workers are timed
# Importing a framework on a busy machine may take long; it is not charged to the first task.
START_S = 180.0


def file_lock(path: Path) -> FileLock:
    """Return a lock that one process holds: another that wants it waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path)


@contextlib.contextmanager
def granted_device(locks: Path) -> Iterator[str]:
    """Yield "cuda:<k>" with the k-th GPU held for this job alone, or "cpu".

    A job takes a GPU only where Snakemake granted it one: the rule exports its resource ``gpu`` as MORPHOBENCH_GPUS.
    Where a scheduler has already chosen the device (CUDA_VISIBLE_DEVICES), that one is taken.
    """
    if not (int(os.environ.get("MORPHOBENCH_GPUS", "0")) > 0 and gpus()):
        yield "cpu"
    elif os.environ.get("CUDA_VISIBLE_DEVICES"):
        yield f"cuda:{os.environ['CUDA_VISIBLE_DEVICES'].split(',')[0]}"
    else:
        each = [file_lock(locks / f"gpu-{index}") for index in range(len(gpus()))]
        held = _acquire_first_free(each)
        try:
            yield f"cuda:{each.index(held)}"
        finally:
            held.release()


def _acquire_first_free(locks: list[FileLock]) -> FileLock:
    """Take the first lock that is free; wait while none is."""
    while True:
        for lock in locks:
            with contextlib.suppress(Timeout):
                lock.acquire(blocking=False)
                return lock
        time.sleep(POLL_S)


@dataclass(frozen=True)
class WorkerExit:
    """How a worker ended: status and message for the task it was at, that task ("": it had begun none), and its output."""

    status: str
    message: str
    task: str
    output: str


def run_worker(
    module: str, job: Mapping[str, Any], *, threads: int, device: str, timeout_s: float, memory_mb: float
) -> WorkerExit:
    """Run ``python -m module <job file>`` until it ends or is killed, and show its output.

    Parameters
    ----------
    job : mapping
        What the worker is to do, as JSON; `read_job` reads it there.
    threads : int
        Threads of every library.
    device : str
        "cpu" or "cuda:<k>": the worker sees that GPU alone, or none.
    timeout_s, memory_mb : float
        Limits: of each task, and of the worker with its children.
    """
    with tempfile.TemporaryDirectory(prefix="morphobench-") as name:
        scratch = Path(name)
        status, message = _watch(_start(module, job, scratch, threads, device), scratch, timeout_s, memory_mb)
        output = (scratch / "log").read_text(encoding="utf-8", errors="replace")
        task = _task(scratch)
    sys.stdout.write(output)
    sys.stdout.flush()
    return WorkerExit(status, message, task, output)


def _start(module: str, job: Mapping[str, Any], scratch: Path, threads: int, device: str) -> subprocess.Popen[bytes]:
    write_json(scratch / "job.json", {**job, "progress": str(scratch / "progress"), "parent": os.getpid()})
    with (scratch / "log").open("wb") as handle:
        return subprocess.Popen(
            [sys.executable, "-m", module, str(scratch / "job.json")],
            stdout=handle,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=worker_environment(threads, device),
            start_new_session=True,
        )


def _task(scratch: Path) -> str:
    """Name the task that the worker of this folder has begun last; "" before the first."""
    progress = scratch / "progress"
    return progress.read_text(encoding="utf-8") if progress.exists() else ""


def _watch(process: subprocess.Popen[bytes], scratch: Path, timeout_s: float, memory_mb: float) -> tuple[str, str]:
    """Wait for the worker; return the status and message for the task it was at, should that have no record.

    The worker says in its progress file which task it begins; the time limit holds for each.
    """
    task, began = "", time.monotonic()
    weighed = began
    while process.poll() is None:
        time.sleep(POLL_S)
        current = _task(scratch)
        if current != task:
            task, began = current, time.monotonic()
        limit, phase = (timeout_s, "its time limit") if task else (START_S, "the time limit of starting up")
        if time.monotonic() - began > limit:
            kill_group(process)
            return "timeout", f"killed after {phase} of {limit:g} s"
        if time.monotonic() - weighed < MEMORY_POLL_S:
            continue
        resident, weighed = _resident_mb(process.pid), time.monotonic()
        if resident > memory_mb:
            kill_group(process)
            return "out_of_memory", f"killed at {resident:.0f} MiB, above its limit of {memory_mb:g} MiB"
    code = process.returncode
    kill_group(process)
    if code == -signal.SIGKILL:
        return "out_of_memory", "killed by the system (signal 9), most likely for memory"
    if code < 0:
        return "error", f"the worker died of signal {-code} ({signal.Signals(-code).name})"
    return "error", f"the worker ended with exit code {code} and left no record"


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the whole process group, whatever the worker has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _resident_mb(pid: int) -> float:
    """Resident memory of a process and its children in MiB."""
    import psutil

    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0.0
    total = 0
    for member in family:
        with contextlib.suppress(psutil.Error):
            total += member.memory_info().rss
    return total / 2**20


def read_job(path: Path) -> dict[str, Any]:
    """Read the job file of `run_worker`, in the worker, and end this process when its parent is gone.

    A killed run leaves nothing behind that still works.
    """
    job = json.loads(path.read_text(encoding="utf-8"))
    threading.Thread(target=_watch_parent, args=(job["parent"],), daemon=True).start()
    return job


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
