"""Trains and predicts, in a process of its own, the seeds that the supervisor gives it."""

from __future__ import annotations

import contextlib
import csv
import random
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from morphobench.contract import AnySplit, Diverged, FrameworkUnavailable, InvalidPlugin, OutOfTime, Run, Task
from morphobench.data.preparation import load_test_inputs, load_training_data, restore_prepared, task_of
from morphobench.plugins.code_hash import first_change, snapshot
from morphobench.plugins.discovery import MethodInfo
from morphobench.plugins.loading import Method, load_method
from morphobench.project.files import atomic, write_text
from morphobench.project.provenance import provenance
from morphobench.runs.failures import LOG_TAIL, innermost_frames, is_out_of_memory
from morphobench.runs.processes import read_job
from morphobench.settings.records import Record, Timings
from morphobench.training.framework import Framework
from morphobench.training.frameworks import framework_of
from morphobench.trials.job import trials_of_job
from morphobench.trials.store import Store, remove_outputs
from morphobench.trials.trial import Trial

__all__ = ["run_seeds"]


@dataclass
class Log:
    """Lines of one trial: kept for the record, and shown as they come."""

    prefix: str
    lines: list[str] = field(default_factory=list)

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        print(f"{self.prefix} {line}", flush=True)


class CodeChanged(RuntimeError):
    """The files that a trial runs are not those that its key names."""


def run_seeds(trials: list[Trial], store: Store, sources: Mapping[str, str], announce: Callable[[int], None]) -> None:
    """Run the trials one after the other and leave a record for each.

    Parameters
    ----------
    trials : list of Trial
        The same data set, method and variant with different seeds.
    store : Store
        Where finished trials are kept.
    sources : mapping of str to str
        Digests of the files of their code, taken before this process began. A trial whose code is another one fails.
    announce : callable
        Told the seed that begins, so that the supervisor starts its clock (importing a framework is not charged).
    """
    first = trials[0]
    started = time.perf_counter()
    try:
        assert isinstance(first.method, MethodInfo)
        framework_of(first.method.framework).configure_process(first.threads)
        restore_prepared(first.project, first.manifest)  # may take long: no seed is charged with it
        method = load_method(first.method, first.variant)
        _expect_unchanged(first, sources)
    except Exception as error:
        for trial in trials:
            _leave_failure(trial, error, Log(trial.label))
        return
    import_s = time.perf_counter() - started
    for trial in trials:
        announce(trial.seed)
        log = Log(trial.label)
        try:
            record = _run_one(trial, method, log)
            _expect_unchanged(trial, sources)  # imports inside functions, and files that are read, come as late as here
        except Exception as error:
            _leave_failure(trial, error, log)
            continue
        record.timings.import_s = import_s
        record.log_tail = log.lines[-LOG_TAIL:]
        write_text(trial.folder / "log.txt", "\n".join(log.lines) + "\n")
        record.write(trial.folder / "record.json")
        store.put(record.key, trial.folder)


def _expect_unchanged(trial: Trial, sources: Mapping[str, str]) -> None:
    changed = first_change(sources, snapshot(trial.project, trial.method))
    if changed:
        raise CodeChanged(
            f"{changed} changed while the trial ran: run again (files that a plugin writes belong into run.directory)"
        )


def _seed_everything(seed: int, framework: Framework) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - plugins may use the legacy generator
    framework.seed(seed)


class Clock:
    """Seconds since it was started, those of compiling left out; the device is waited for at both ends."""

    def __init__(self, framework: Framework, device: str):
        self.framework, self.device = framework, device
        self.started = self._read()

    def _read(self) -> float:
        self.framework.synchronise(self.device)
        return time.perf_counter() - self.framework.seconds_spent_compiling()

    @property
    def seconds(self) -> float:
        """How long ago it was started."""
        return self._read() - self.started


def _run_one(trial: Trial, method: Method, log: Log) -> Record:
    task = task_of(trial.manifest, trial.device)
    record = trial.blank_record("ok", "", provenance(trial.project.root))
    _reset_peak_memory(trial.device, method.framework)
    model, run, tuning = _train(trial, method, task, log)
    test = load_test_inputs(trial.project, trial.manifest)
    clock = Clock(method.framework, trial.device)
    scores = method.predict(model, test.inputs)
    record.timings = Timings(fit_s=run["seconds"], predict_s=clock.seconds)
    record.timings.compile_s = method.framework.compile_s(model)
    record.peak_rss_mb, record.peak_device_mb = _peak_resident_mb(), method.framework.peak_memory_mb(trial.device)
    scores = test.own(_checked_scores(scores, task, test, trial))
    record.learning_rate, record.tuning = run["learning_rate"], tuning
    record.parameters = method.framework.count_parameters(model)
    record.epochs, record.best_epoch = run["epochs"], run["best_epoch"]
    _write_outputs(trial.folder, scores, run["curve"], method, model)
    return record


def _train(trial: Trial, method: Method, task: Task, log: Log) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Train once, or once a learning rate of the grid, and keep the model that is best on the validation split.

    Each training reads its arrays anew: what a plugin writes into them reaches no other.
    """
    tuned = trial.tuning["mode"] == "grid" and method.info.framework != "numpy"
    rates = trial.tuning["grid"] if tuned else [method.learning_rate]
    best: tuple[float, Any, dict[str, Any]] | None = None
    tried: dict[str, Any] = {}
    deadline = time.monotonic() + trial.budget.timeout_s
    for rate in rates:
        train, valid = load_training_data(trial.project, trial.manifest)
        _seed_everything(trial.seed, method.framework)
        run = Run(trial.seed, deadline, trial.folder, log, task, trial.budget, rate, method.params)
        clock = Clock(method.framework, trial.device)
        model = method.build(task)
        try:
            method.fit(model, train, valid, run)
        except Diverged as error:
            if not tuned:
                raise
            log(f"learning rate {rate:g} diverged: {error}")
            tried[f"{rate:g}"] = None
            continue
        summary = {
            "seconds": clock.seconds,
            "learning_rate": rate if method.info.framework != "numpy" else None,
            "epochs": max((row.epoch for row in run.curve), default=None),
            "best_epoch": run.best_epoch,
            "curve": run.curve,
        }
        score = max((row.metric for row in run.curve if row.split == "valid"), default=0.0)
        if tuned:
            tried[f"{rate:g}"] = score
        if best is None or score > best[0]:
            best = (score, model, summary)
    if best is None:
        raise Diverged("training diverged at every learning rate of the grid")
    return best[1], best[2], tried


def _checked_scores(scores: Any, task: Task, test: AnySplit, trial: Trial) -> np.ndarray:
    where = f"methods/{trial.method.name}: predict"
    if not isinstance(scores, np.ndarray):
        raise InvalidPlugin(f"{where} returned {type(scores).__name__}, expected a NumPy array")
    expected = task.score_shape(test.inputs)
    if scores.shape != expected:
        raise InvalidPlugin(f"{where} returned shape {scores.shape}, expected {expected} ({task.kind})")
    if not np.issubdtype(scores.dtype, np.floating):
        raise InvalidPlugin(f"{where} returned {scores.dtype}, expected floating-point scores")
    with np.errstate(over="ignore"):
        kept = scores.astype(np.float32)
    bad = int((~np.isfinite(kept)).sum())
    if bad:
        raise Diverged(f"{where} returned {bad} scores that are not finite, of {scores.size} (as float32)")
    return kept


def _write_outputs(folder: Path, scores: np.ndarray, curve: list[Any], method: Method, model: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / "predictions.npz") as temporary:
        np.savez_compressed(temporary, scores=scores, index=np.arange(len(scores)))
    with atomic(folder / "curve.csv") as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["epoch", "split", "loss", "metric", "seconds"])
        writer.writerows([row.epoch, row.split, row.loss, row.metric, f"{row.seconds:.4f}"] for row in curve)
    learned = method.describe(model)
    if learned:
        with atomic(folder / "learned.npz") as temporary:
            np.savez_compressed(temporary, allow_pickle=False, **learned)
    method.framework.save_weights(model, folder / "weights.safetensors")


def _leave_failure(trial: Trial, error: Exception, log: Log) -> None:
    status = _status_of(error)
    text = str(error) if status != "error" else f"{type(error).__name__}: {error}"
    log(f"{status}: {text}")
    if status == "error":
        log.lines += traceback.format_exception(error)[-1].splitlines()
        log.lines += innermost_frames(error)
    record = trial.blank_record(status, text, provenance(trial.project.root))
    record.log_tail = log.lines[-LOG_TAIL:]
    remove_outputs(trial.folder)
    record.write(trial.folder / "record.json")


def _status_of(error: Exception) -> str:
    if isinstance(error, InvalidPlugin):
        return "invalid"
    if isinstance(error, FrameworkUnavailable):
        return "unavailable"
    if isinstance(error, Diverged):
        return "diverged"
    if isinstance(error, OutOfTime):
        return "timeout"
    if is_out_of_memory(error):
        return "out_of_memory"
    return "error"


def _reset_peak_memory(device: str, framework: Framework) -> None:
    """Start the high-water marks afresh, so that a seed is not charged with the one before it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    framework.reset_peak_memory(device)


def _peak_resident_mb() -> float | None:
    try:
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def main(path: Path) -> None:
    """Run the trials described in the job file of the supervisor."""
    job = read_job(path)
    trials, store = trials_of_job(job)
    progress = Path(job["progress"])
    run_seeds(trials, store, job["sources"], lambda seed: write_text(progress, str(seed)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
