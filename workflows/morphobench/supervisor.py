"""Runs a chunk of trials in a process group of its own and always leaves a record for each of them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from morphobench.configuration import Configuration, load_configuration
from morphobench.files import write_json
from morphobench.layout import House, cache_folder
from morphobench.preparation import read_manifest
from morphobench.provenance import gpus, provenance
from morphobench.records import write_record
from morphobench.registry import BrokenPlugin, discover_methods
from morphobench.trial import Store, Trial

__all__ = ["make_trials", "supervise"]

POLL_S = 0.1
# Importing a framework on a busy machine may take long; it is not charged to the first seed.
START_S = 180.0
# What libraries read their number of threads from, when they start. XLA on a processor reads the last two (older releases of JAX
# the last one); its flags, --xla_cpu_multi_thread_eigen=false among them, leave JAX 0.10 as many threads as there are cores.
THREADS = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"),
    *("PJRT_NPROC", "NPROC"),
)


def make_trials(
    house: House, configuration: Configuration, dataset: str, method: str, variant: str, seeds: list[int], device: str
) -> list[Trial]:
    """Return the trials of one cell, with the budget the configuration gives them."""
    run = configuration["run"]
    manifest = read_manifest(house.run(run).results / "data" / f"{dataset}.json")
    info = discover_methods(house.methods)[method]
    resources = {} if isinstance(info, BrokenPlugin) else info.resources
    budget = configuration.budget(dataset, resources)
    tuning = configuration["tuning"]
    return [
        Trial(house, run, manifest, info, variant, seed, budget, configuration["threads"], tuning, device)
        for seed in seeds
    ]


def trials_of_job(job: Mapping[str, Any]) -> tuple[list[Trial], Store]:
    """Return what `_start` wrote into a job file (the worker's side of it)."""
    house = House(Path(job["root"]))
    configuration = load_configuration(Path(job["config"]), house)
    names = (job["dataset"], job["method"], job["variant"], job["seeds"], job["device"])
    return make_trials(house, configuration, *names), Store(Path(job["store"]))


def supervise(house: House, config: Path, dataset: str, method: str, variant: str, seeds: list[int]) -> None:
    """Run the seeds of one cell; seeds that are in the store are restored, failures become records.

    Parameters
    ----------
    config : Path
        The resolved configuration of the run.
    seeds : list of int
        The chunk. One worker process takes them in turn; if it dies, another takes those that are left.
    """
    configuration = load_configuration(config, house)
    folder = house.run(configuration["run"]).results
    store = Store(folder / ".store")
    chunk = folder / ".locks" / f"{dataset}--{method}--{variant}--{seeds[0]}"
    with _alone(chunk), _device(house, method, cache_folder(house) / "gpus") as device:
        kind = device.partition(":")[0]
        trials = make_trials(house, configuration, dataset, method, variant, seeds, kind)
        waiting = []
        for trial in trials:
            record = trial.blank_record("ok", "", {})
            if store.restore(record.key, trial.folder):
                print(f"[{dataset} {method}/{variant} seed {trial.seed}] restored from the store", flush=True)
            elif not _refuse(trial):
                waiting.append(trial)
        while waiting:
            waiting = _run_worker(house, config, waiting, store, device)


@contextlib.contextmanager
def _device(house: House, method: str, locks: Path) -> Iterator[str]:
    """Yield "cuda:<k>" with the k-th GPU held for this job alone, or "cpu".

    A job takes a GPU only where Snakemake granted it one: the rule exports its resource ``gpu`` as MORPHOBENCH_GPUS.
    Where a scheduler has already chosen the device (CUDA_VISIBLE_DEVICES), that one is taken.
    """
    info = discover_methods(house.methods)[method]
    wanted = not isinstance(info, BrokenPlugin) and int(os.environ.get("MORPHOBENCH_GPUS", "0")) > 0 and gpus()
    if not wanted:
        yield "cpu"
    elif os.environ.get("CUDA_VISIBLE_DEVICES"):
        yield f"cuda:{os.environ['CUDA_VISIBLE_DEVICES'].split(',')[0]}"
    else:
        with _first_free([locks / f"gpu-{index}" for index in range(len(gpus()))]) as index:
            yield f"cuda:{index}"


@contextlib.contextmanager
def _first_free(paths: list[Path]) -> Iterator[int]:
    """Hold the first lock that is free; wait while none is."""
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    while True:
        for index, path in enumerate(paths):
            with path.open("w") as handle:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield index
                return
        time.sleep(POLL_S)


def _refuse(trial: Trial) -> bool:
    """Leave a record for a trial that cannot begin: broken plugin, or data that are not to be had."""
    if isinstance(trial.method, BrokenPlugin):
        _leave(trial, "invalid", trial.method.why)
    elif trial.manifest.status != "ok":
        _leave(trial, trial.manifest.status, trial.manifest.message)
    else:
        return False
    return True


def _leave(trial: Trial, status: str, message: str, log_tail: list[str] | None = None) -> None:
    print(
        f"[{trial.manifest.id} {trial.method.name}/{trial.variant} seed {trial.seed}] {status}: {message}", flush=True
    )
    record = trial.blank_record(status, message, provenance(trial.house.root))
    record.log_tail = log_tail or []
    write_record(trial.folder / "record.json", record)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one supervisor work on a chunk: one that outlived a killed run finishes, and its seeds are then restored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _run_worker(house: House, config: Path, trials: list[Trial], store: Store, device: str) -> list[Trial]:
    """Run one worker until it ends or is killed; return the trials it did not get to."""
    for trial in trials:
        (trial.folder / "record.json").unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="morphobench-") as scratch:
        progress, log = Path(scratch) / "seed", Path(scratch) / "log"
        process = _start(house, config, trials, store, Path(scratch), log, device)
        status, message = _watch(process, trials, progress)
        output = log.read_text(encoding="utf-8", errors="replace")
    sys.stdout.write(output)
    sys.stdout.flush()
    unfinished = [trial for trial in trials if not (trial.folder / "record.json").exists()]
    if not unfinished:
        return []
    _leave(unfinished[0], status, message, output.splitlines()[-12:])
    return unfinished[1:]


def _start(
    house: House, config: Path, trials: list[Trial], store: Store, scratch: Path, log: Path, device: str
) -> subprocess.Popen[bytes]:
    first = trials[0]
    job = {
        "root": str(house.root),
        "config": str(config.resolve()),
        "dataset": first.manifest.id,
        "method": first.method.name,
        "variant": first.variant,
        "seeds": [trial.seed for trial in trials],
        "device": first.device,
        "store": str(store.folder.resolve()),
        "progress": str(scratch / "seed"),
        "parent": os.getpid(),
    }
    write_json(scratch / "job.json", job)
    threads = str(first.threads)
    environment = os.environ | dict.fromkeys(THREADS, threads)
    environment |= {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "PYTHONHASHSEED": "0"}
    kind, _, index = device.partition(":")
    environment["CUDA_VISIBLE_DEVICES"] = index
    environment |= {"JAX_PLATFORMS": kind, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if kind == "cuda":
        environment["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()
    with log.open("wb") as handle:
        return subprocess.Popen(
            [sys.executable, "-m", "morphobench.worker", str(scratch / "job.json")],
            stdout=handle,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )


def _watch(process: subprocess.Popen[bytes], trials: list[Trial], progress: Path) -> tuple[str, str]:
    """Wait for the worker; return the status and message for the seed it was at, should that have no record."""
    budget = trials[0].budget
    seed, began = "", time.monotonic()
    while process.poll() is None:
        time.sleep(POLL_S)
        current = progress.read_text() if progress.exists() else ""
        if current != seed:
            seed, began = current, time.monotonic()
        limit, phase = (budget.timeout_s, "its time limit") if seed else (START_S, "the time limit of starting up")
        if time.monotonic() - began > limit:
            _kill(process)
            return "timeout", f"killed after {phase} of {limit:g} s"
        resident = _resident_mb(process.pid)
        if resident > budget.memory_mb:
            _kill(process)
            return "out_of_memory", f"killed at {resident:.0f} MiB, above its limit of {budget.memory_mb} MiB"
    code = process.returncode
    _kill(process)
    if code == -signal.SIGKILL:
        return "out_of_memory", "killed by the system (signal 9), most likely for memory"
    if code < 0:
        return "error", f"the worker died of signal {-code} ({signal.Signals(-code).name})"
    return "error", f"the worker ended with exit code {code} and left no record"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the whole process group, whatever the plugin has started."""
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
