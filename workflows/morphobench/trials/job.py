"""The job file of a worker: what it needs to know of the trials of one cell, which differ in their seeds alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from morphobench.contract import Budget
from morphobench.data.preparation import manifest_of
from morphobench.plugins.discovery import MethodInfo
from morphobench.project.paths import Project
from morphobench.trials.store import Store
from morphobench.trials.trial import Trial

__all__ = ["describe_job", "trials_of_job"]

AS_THEY_ARE = ("run", "variant", "threads", "tuning", "device", "code_hash", "versions")


def describe_job(trials: Sequence[Trial], store: Store, sources: Mapping[str, str]) -> dict[str, Any]:
    """Return what `trials_of_job` reads, as JSON, and the digests of the code that the trials are to run."""
    first = trials[0]
    assert isinstance(first.method, MethodInfo), "a broken plugin is refused ahead of its trials"
    return {
        "root": str(first.project.root),
        "store": str(store.folder.resolve()),
        "manifest": asdict(first.manifest),
        "method": first.method.model_dump(mode="json"),
        "budget": asdict(first.budget),
        "seeds": [trial.seed for trial in trials],
        "sources": dict(sources),
        **{name: getattr(first, name) for name in AS_THEY_ARE},
    }


def trials_of_job(job: Mapping[str, Any]) -> tuple[list[Trial], Store]:
    """Return the trials that a job describes, and the store that keeps them."""
    shared: dict[str, Any] = {
        "project": Project(Path(job["root"])),
        "manifest": manifest_of(job["manifest"]),
        "method": MethodInfo.model_validate(job["method"]),
        "budget": Budget(**job["budget"]),
        **{name: job[name] for name in AS_THEY_ARE},
    }
    return [Trial(seed=seed, **shared) for seed in job["seeds"]], Store(Path(job["store"]))
