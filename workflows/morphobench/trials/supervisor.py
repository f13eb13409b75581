"""Runs a chunk of trials in a process group of its own and always leaves a record for each of them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from morphobench.data.preparation import read_manifest
from morphobench.plugins.discovery import BrokenPlugin, discover_methods
from morphobench.project.paths import Project, cache_folder
from morphobench.project.provenance import provenance
from morphobench.runs.configuration import Configuration, load_configuration
from morphobench.runs.processes import file_lock, granted_device, run_worker
from morphobench.trials.records import write_record
from morphobench.trials.trial import TRIAL_FILES, Store, Trial

__all__ = ["make_trials", "supervise"]


def make_trials(
    project: Project,
    configuration: Configuration,
    dataset: str,
    method: str,
    variant: str,
    seeds: list[int],
    device: str,
) -> list[Trial]:
    """Return the trials of one cell, with the budget the configuration gives them."""
    run = configuration["run"]
    manifest = read_manifest(project.run(run).results / "data" / f"{dataset}.json")
    info = discover_methods(project.methods)[method]
    resources = {} if isinstance(info, BrokenPlugin) else info.resources
    budget = configuration.budget(dataset, resources)
    tuning = configuration["tuning"]
    return [
        Trial(project, run, manifest, info, variant, seed, budget, configuration["threads"], tuning, device)
        for seed in seeds
    ]


def trials_of_job(job: Mapping[str, Any]) -> tuple[list[Trial], Store]:
    """Return what `_run_worker` wrote into a job file (the worker's side of it)."""
    project = Project(Path(job["root"]))
    configuration = load_configuration(Path(job["config"]), project)
    names = (job["dataset"], job["method"], job["variant"], job["seeds"], job["device"])
    return make_trials(project, configuration, *names), Store(Path(job["store"]))


def supervise(project: Project, config: Path, dataset: str, method: str, variant: str, seeds: list[int]) -> None:
    """Run the seeds of one cell; seeds that are in the store are restored, failures become records.

    Parameters
    ----------
    config : Path
        The resolved configuration of the run.
    seeds : list of int
        The chunk. One worker process takes them in turn; if it dies, another takes those that are left.
    """
    configuration = load_configuration(config, project)
    folder = project.run(configuration["run"]).results
    store = Store(folder / ".store")
    chunk = folder / ".locks" / f"{dataset}--{method}--{variant}--{seeds[0]}"
    with file_lock(chunk), _device(project, method, cache_folder(project) / "gpus") as device:
        kind = device.partition(":")[0]
        trials = make_trials(project, configuration, dataset, method, variant, seeds, kind)
        waiting = []
        for trial in trials:
            record = trial.blank_record("ok", "", {})
            if store.restore(record.key, trial.folder):
                print(f"[{dataset} {method}/{variant} seed {trial.seed}] restored from the store", flush=True)
                continue
            # Beside the record of a failure nothing may lie that an earlier attempt computed.
            for name in TRIAL_FILES:
                (trial.folder / name).unlink(missing_ok=True)
            if not _refuse(trial):
                waiting.append(trial)
        while waiting:
            waiting = _run_worker(project, config, waiting, store, device)


def _device(project: Project, method: str, locks: Path) -> contextlib.AbstractContextManager[str]:
    """Return the device of a job of this method, held for it alone; a method that cannot be read needs none."""
    broken = isinstance(discover_methods(project.methods)[method], BrokenPlugin)
    return contextlib.nullcontext("cpu") if broken else granted_device(locks)


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
    record = trial.blank_record(status, message, provenance(trial.project.root))
    record.log_tail = log_tail or []
    write_record(trial.folder / "record.json", record)


def _run_worker(project: Project, config: Path, trials: list[Trial], store: Store, device: str) -> list[Trial]:
    """Run one worker until it ends or is killed; return the trials it did not get to."""
    first = trials[0]
    job = {
        "root": str(project.root),
        "config": str(config.resolve()),
        "dataset": first.manifest.id,
        "method": first.method.name,
        "variant": first.variant,
        "seeds": [trial.seed for trial in trials],
        "device": first.device,
        "store": str(store.folder.resolve()),
    }
    limits = {"timeout_s": first.budget.timeout_s, "memory_mb": first.budget.memory_mb}
    ended = run_worker("morphobench.trials.worker", job, threads=first.threads, device=device, **limits)
    unfinished = [trial for trial in trials if not (trial.folder / "record.json").exists()]
    if not unfinished:
        return []
    _leave(unfinished[0], ended.status, ended.message, ended.output.splitlines()[-12:])
    return unfinished[1:]
