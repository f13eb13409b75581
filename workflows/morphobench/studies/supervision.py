"""Runs the cells of a study in worker processes, so that every cell leaves a record, and collects the records."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from morphobench.project.errors import UserError
from morphobench.project.files import write_json, write_table
from morphobench.project.paths import Project, cache_folder
from morphobench.project.provenance import hardware, provenance, versions
from morphobench.runs.failures import LOG_TAIL
from morphobench.runs.plan import Plan, load_plan
from morphobench.runs.processes import file_lock, granted_device, run_worker
from morphobench.settings.records import CellRecord
from morphobench.studies.cells import Cell, study_module
from morphobench.studies.measurement import load_average
from morphobench.studies.worker import Circumstances
from morphobench.training.frameworks import why_unavailable

__all__ = ["collect_study", "print_cell", "run_cell", "run_study"]


def run_study(project: Project, config: Path, study: str, framework: str, threads: int) -> None:
    """Run every cell of a study in one framework; what fails becomes a record too.

    Writes ``studies/cells/<study>/<framework>/<cell>.json``, and beside that folder ``<framework>.json``, which lists
    the cells in their order with the circumstances.
    """
    plan = load_plan(config, project)
    settings, run = _settings(plan, study, config), plan.run
    folder = run.studies / "cells" / study / framework
    with file_lock(run.results / ".locks" / f"{study}--{framework}"):
        shutil.rmtree(folder, ignore_errors=True)
        cells = study_module(study).cells(settings, framework, plan.plugins)
        before = load_average()
        about = _run(plan, config, settings, study, framework, cells, folder, threads)
    index = {
        "study": study,
        "framework": framework,
        "cells": [cell.name for cell in cells],
        "device": about.device_name,
        "hardware": hardware(),
        "versions": versions(),
        "threads": threads,
        "load_before": before,
        "load_after": load_average(),
        "settings": settings,
    }
    write_json(folder.with_suffix(".json"), index)


def run_cell(project: Project, config: Path, study: str, framework: str, name: str, threads: int) -> CellRecord:
    """Run one cell alone and return its record; the records of the run stay as they are.

    Raises
    ------
    UserError
        If the study has no such cell.
    """
    plan = load_plan(config, project)
    settings = _settings(plan, study, config)
    cells = [cell for cell in study_module(study).cells(settings, framework, plan.plugins) if cell.name == name]
    if not cells:
        raise UserError(f"{study}: found no cell {name!r} of {framework}; the tables of the study name its cells")
    with tempfile.TemporaryDirectory(prefix="morphobench-") as scratch:
        _run(plan, config, settings, study, framework, cells, Path(scratch), threads)
        return CellRecord.read(Path(scratch) / f"{name}.json")


def print_cell(project: Project, config: Path, study: str, framework: str, name: str, threads: int) -> int:
    """Run one cell as `run_cell` does and print its rows; return 0 if it ended well, else 1."""
    import pandas as pd

    record = run_cell(project, config, study, framework, name, threads)
    for row in record.rows:
        print(pd.Series({key: value for key, value in row.items() if value not in (None, "")}).to_string(), end="\n\n")
    return 0 if record.status == "ok" else 1


def _settings(plan: Plan, study: str, config: Path) -> dict[str, Any]:
    """Return the settings of a study of the run."""
    found = plan.configuration.settings_of_studies()
    if study not in found:
        raise UserError(f"{config}: key 'studies.{study}' is missing: this run has no such study")
    return found[study]


def _run(
    plan: Plan,
    config: Path,
    settings: dict[str, Any],
    study: str,
    framework: str,
    cells: Sequence[Cell],
    folder: Path,
    threads: int,
) -> Circumstances:
    """Start workers until every cell has a record."""
    module = study_module(study)
    project, run = plan.project, plan.configuration.run
    with granted_device(cache_folder(project) / "gpus") as device:
        shown = os.path.relpath(config.resolve(), project.root)
        kind = device.partition(":")[0]
        about = Circumstances(run, study, framework, settings, shown, folder, kind, threads, provenance(project.root))
        why = why_unavailable(framework)
        waiting = list(cells)
        while waiting and not why:
            status, message, blamed = _run_worker(project, about, waiting, device)
            waiting = [cell for cell in waiting if not (folder / f"{cell.name}.json").exists()]
            # A worker that does not even start would not start for the next cell either.
            for cell in [cell for cell in waiting if blamed in ("", cell.name)]:
                about.record(cell, status, message, module.failed_rows(cell), None)
                waiting.remove(cell)
        for cell in waiting:
            about.record(cell, "unavailable", why, module.failed_rows(cell), None)
        return about


def _run_worker(project: Project, about: Circumstances, cells: Sequence[Cell], device: str) -> tuple[str, str, str]:
    """Run one worker until it ends or is killed; return status and message for the cell it was at, and that cell."""
    job = {
        **{key: value for key, value in asdict(about).items() if key != "provenance"},
        "root": str(project.root),
        "folder": str(about.folder.resolve()),
        "cells": [asdict(cell) for cell in cells],
    }
    limits = {name: about.settings[name] for name in ("timeout_s", "memory_mb")}
    ended = run_worker("morphobench.studies.worker", job, threads=about.threads, device=device, **limits)
    return ended.status, "\n".join([ended.message, *ended.output.splitlines()[-LOG_TAIL:]]), ended.task


def collect_study(project: Project, config: Path, study: str) -> None:
    """Gather the records of a study into one table, ``studies/<study>.csv`` and ``.parquet``, and what belongs to it."""
    from morphobench.studies.tables import study_table  # starts pandas

    plan = load_plan(config, project)
    settings, out = _settings(plan, study, config), plan.run.studies
    module = study_module(study)
    records = []
    for framework in settings["frameworks"]:
        folder = out / "cells" / study / framework
        index = json.loads(folder.with_suffix(".json").read_text(encoding="utf-8"))
        records += [CellRecord.read(folder / f"{cell}.json") for cell in index["cells"]]
    rows = [row for record in records for row in record.rows]
    table = study_table(rows, module.COLUMN_TYPES)
    write_table(out / study, table)
    module.collect(table, records, out)
