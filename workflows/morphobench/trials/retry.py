"""Runs again what failed in a run: data sets that were not to be had, and trials without a score."""

from __future__ import annotations

from morphobench.data.preparation import prepare_dataset, read_manifest, write_manifest
from morphobench.runs.plan import Plan
from morphobench.settings.records import Record
from morphobench.trials.supervisor import supervise

__all__ = ["retry_failed"]


def retry_failed(plan: Plan) -> None:
    """Prepare the data sets of a run that could not be, run its failed trials again, and say how many."""
    run = plan.run
    for identifier in plan.configuration.dataset_ids:
        path = run.results / "data" / f"{identifier}.json"
        if path.exists() and read_manifest(path).status != "ok":
            write_manifest(prepare_dataset(plan.project, identifier), path)
    retried = 0
    for cell in plan.cells:
        records = {seed: run.trial(*cell, seed) / "record.json" for seed in plan.configuration.seeds}
        failed = [seed for seed, path in records.items() if path.exists() and Record.read(path).status != "ok"]
        if failed:
            supervise(plan, cell, failed)
            retried += len(failed)
    print(f"{retried} failed trials ran again; run snakemake once more to bring tables and report up to date")
