"""Runs a chunk of trials in a process group of its own and always leaves a record for each of them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from morphobench.data.preparation import read_manifest
from morphobench.plugins.code_hash import hash_of, snapshot
from morphobench.plugins.discovery import BrokenPlugin, MethodInfo
from morphobench.project.paths import cache_folder
from morphobench.project.provenance import provenance
from morphobench.runs.failures import LOG_TAIL
from morphobench.runs.plan import Plan
from morphobench.runs.processes import file_lock, granted_device, run_worker
from morphobench.trials.job import describe_job
from morphobench.trials.store import Store, remove_outputs
from morphobench.trials.trial import Trial, decisive_versions

__all__ = ["make_trials", "supervise"]


def make_trials(
    plan: Plan, cell: tuple[str, str, str], seeds: Sequence[int], device: str, code_hash: str
) -> list[Trial]:
    """Return the trials of one cell (data set, method, variant), with the budget the configuration gives them."""
    dataset, method, variant = cell
    configuration, info = plan.configuration, plan.plugins.methods[method]
    shared: dict[str, Any] = {
        "project": plan.project,
        "run": configuration.run,
        "manifest": read_manifest(plan.run.results / "data" / f"{dataset}.json"),
        "method": info,
        "variant": variant,
        "budget": configuration.budget_for(dataset, None if isinstance(info, BrokenPlugin) else info.resources),
        "threads": configuration.threads,
        "tuning": configuration.tuning.model_dump(),
        "device": device,
        "code_hash": code_hash,
        "versions": decisive_versions(info),
    }
    return [Trial(seed=seed, **shared) for seed in seeds]


def supervise(plan: Plan, cell: tuple[str, str, str], seeds: Sequence[int], planned_code: str | None = None) -> None:
    """Run the seeds of one cell; seeds that are in the store are restored, failures become records.

    Parameters
    ----------
    cell : tuple of str
        Data set, method and variant.
    seeds : sequence of int
        The chunk. One worker process takes them in turn; if it dies, another takes those that are left.
    planned_code : str, optional
        The `code_hash` of the method when the run was planned; seeds are not run with any other code. None: as it lies there.
    """
    folder, info = plan.run.results, plan.plugins.methods[cell[1]]
    store = Store(folder / ".store")
    chunk = folder / ".locks" / f"{'--'.join(cell)}--{seeds[0]}"
    with file_lock(chunk), _device(info, cache_folder(plan.project) / "gpus") as device:
        sources = snapshot(plan.project, info)  # ahead of the worker, which sees to it that these are what it runs
        found = hash_of(sources)
        trials = make_trials(plan, cell, seeds, device.partition(":")[0], planned_code or found)
        waiting = [trial for trial in trials if not (_restore(trial, store) or _refuse(trial, found))]
        while waiting:
            waiting = _run_worker(waiting, store, sources, device)


def _device(info: MethodInfo | BrokenPlugin, locks: Path) -> contextlib.AbstractContextManager[str]:
    """Return the device of a job of this method, held for it alone; a method that cannot be read needs none."""
    return contextlib.nullcontext("cpu") if isinstance(info, BrokenPlugin) else granted_device(locks)


def _restore(trial: Trial, store: Store) -> bool:
    """Bring a trial back from the store; of one that is not there, remove what an earlier attempt left."""
    if store.restore(trial.key, trial.folder):
        print(f"{trial.label} restored from the store", flush=True)
        return True
    remove_outputs(trial.folder)
    return False


def _refuse(trial: Trial, code_found: str) -> bool:
    """Leave a record for a trial that cannot begin: broken plugin, data that are not to be had, code that is not the one planned."""
    if isinstance(trial.method, BrokenPlugin):
        _leave(trial, "invalid", trial.method.why)
    elif trial.manifest.status != "ok":
        _leave(trial, trial.manifest.status, trial.manifest.message)
    elif trial.code_hash != code_found:
        why = f"methods/{trial.method.name}, or code that it runs, changed after the run was planned; run again"
        _leave(trial, "error", f"{why} (found {code_found}, expected {trial.code_hash})")
    else:
        return False
    return True


def _leave(trial: Trial, status: str, message: str, log_tail: Sequence[str] = ()) -> None:
    print(f"{trial.label} {status}: {message}", flush=True)
    record = trial.blank_record(status, message, provenance(trial.project.root))
    record.log_tail = list(log_tail)
    remove_outputs(trial.folder)  # beside the record of a failure nothing may lie that an attempt computed
    record.write(trial.folder / "record.json")


def _run_worker(trials: list[Trial], store: Store, sources: Mapping[str, str], device: str) -> list[Trial]:
    """Run one worker until it ends or is killed; return the trials it did not get to."""
    first = trials[0]
    ended = run_worker(
        "morphobench.trials.worker",
        describe_job(trials, store, sources),
        threads=first.threads,
        device=device,
        timeout_s=first.budget.timeout_s,
        memory_mb=first.budget.memory_mb,
    )
    unfinished = [trial for trial in trials if not (trial.folder / "record.json").exists()]
    if not unfinished:
        return []
    _leave(unfinished[0], ended.status, ended.message, ended.output.splitlines()[-LOG_TAIL:])
    return unfinished[1:]
