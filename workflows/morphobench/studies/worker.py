"""Runs cells of one study in one framework, in a process of its own, and leaves a record for each."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from morphobench.contract import FrameworkUnavailable
from morphobench.project.files import write_text
from morphobench.project.paths import Project
from morphobench.project.provenance import gpus, hardware, provenance
from morphobench.runs.failures import LOG_TAIL, innermost_frames, is_out_of_memory
from morphobench.runs.processes import read_job
from morphobench.settings.records import CellRecord
from morphobench.studies.cells import Cell, OpenInstance, Study, by_instance, study_module
from morphobench.studies.measurement import Repeated, interleave, load_average

__all__ = ["Circumstances", "run_cells"]


@dataclass(frozen=True)
class Circumstances:
    """What the records of one job share.

    Parameters
    ----------
    settings : mapping
        Settings of the study, defaults filled in.
    config : str
        The resolved configuration, as the printed command names it.
    folder : Path
        Where the records go.
    device : str
        "cpu" or "cuda".
    """

    run: str
    study: str
    framework: str
    settings: Mapping[str, Any]
    config: str
    folder: Path
    device: str
    threads: int
    provenance: Mapping[str, Any]

    @cached_property
    def device_name(self) -> str:
        """The device as tables name it: the processor, or the GPU that this process was given."""
        if self.device == "cpu":
            return f"cpu ({hardware()['processor']})"
        return gpus()[int(os.environ.get("CUDA_VISIBLE_DEVICES") or 0)]

    def record(self, cell: Cell, status: str, message: str, rows: list[dict[str, Any]], load: float | None) -> None:
        """Write the record of a cell; its rows are told where and how they came about."""
        shared = {
            "cell": cell.name,
            "instance": cell.instance,
            "framework": self.framework,
            "device": self.device_name,
            "threads": self.threads,
            "load": load,
        }
        record = CellRecord(
            run=self.run,
            study=self.study,
            framework=self.framework,
            cell=cell.name,
            instance=cell.instance,
            settings=cell.settings,
            status=status,
            message=message,
            rows=[{**row, **shared, **_outcome(row, status, message)} for row in rows],
            command=f"python -m morphobench cell {self.study} {cell.name} --framework {self.framework} --config {self.config}",
            device=self.device_name,
            threads=self.threads,
            load=load,
            provenance=self.provenance,
            log_tail=message.splitlines()[-LOG_TAIL:],
        )
        record.message = message.splitlines()[0] if message else ""
        record.write(self.folder / f"{cell.name}.json")
        print(
            f"[{self.study} {self.framework}] {cell.name} {status}{f': {record.message}' if message else ''}",
            flush=True,
        )


def _outcome(row: Mapping[str, Any], status: str, message: str) -> dict[str, str]:
    """Return what happened to a row: a cell that ended well may hold rows that say otherwise of themselves."""
    if status == "ok" and row.get("status"):
        return {"status": row["status"], "message": row.get("message") or ""}
    return {"status": status, "message": message.splitlines()[0] if message else ""}


def run_cells(study: Study, cells: Sequence[Cell], about: Circumstances, announce: Callable[[str], None]) -> None:
    """Run cells, instance by instance.

    Parameters
    ----------
    announce : callable
        Told the cell whose work begins, so that the supervisor knows whom to blame and whose time is running.
    """
    for together in by_instance(cells):
        load = load_average()
        announce(together[0].name)
        try:
            opened = study.open_instance(
                together[0].instance, about.settings, about.framework, about.device, about.threads
            )
        except Exception as error:
            for cell in together:
                _leave_failure(study, cell, error, about, load)
            continue
        _run_instance(study, opened, together, about, load, announce)


def _run_instance(
    study: Study,
    opened: OpenInstance,
    cells: Sequence[Cell],
    about: Circumstances,
    load: float | None,
    announce: Callable[[str], None],
) -> None:
    """Prepare all cells, measure them in turns, and leave the records."""
    prepared = []
    for cell in cells:
        announce(cell.name)
        try:
            opened.prepare(cell)
        except Exception as error:
            _leave_failure(study, cell, error, about, load)
            continue
        prepared.append(cell)

    def work(cell: Cell) -> Callable[[], Mapping[str, float]]:
        def measure() -> Mapping[str, float]:
            announce(cell.name)
            return opened.measure(cell)

        return measure

    works = {cell.name: work(cell) for cell in prepared}
    measured = interleave(works, about.settings["repeats"], about.settings["cell_s"])
    for cell in prepared:
        _leave_rows(study, opened, cell, measured[cell.name], about, load)


def _leave_rows(
    study: Study, opened: OpenInstance, cell: Cell, repeated: Repeated, about: Circumstances, load: float | None
) -> None:
    if repeated.message:
        about.record(cell, "error", repeated.message, study.failed_rows(cell), load)
        return
    try:
        rows = opened.rows(cell, repeated)
    except Exception as error:
        _leave_failure(study, cell, error, about, load)
        return
    about.record(cell, "ok", "", rows, load)


def _leave_failure(study: Study, cell: Cell, error: Exception, about: Circumstances, load: float | None) -> None:
    if isinstance(error, FrameworkUnavailable):
        about.record(cell, "unavailable", str(error), study.failed_rows(cell), load)
        return
    status = "out_of_memory" if is_out_of_memory(error) else "error"
    first = f"{type(error).__name__}: {error}".splitlines()[0]
    about.record(cell, status, "\n".join([first, *innermost_frames(error)]), study.failed_rows(cell), load)


def _start_framework(framework: str) -> None:
    """Import a framework, whose threads the environment has set, before any clock runs; JAX in double precision."""
    os.environ["JAX_ENABLE_X64"] = "1"
    import_module(framework)


def main(path: Path) -> None:
    """Run the cells described in the job file of the supervisor."""
    job = read_job(path)
    study = study_module(job["study"])
    project = Project(Path(job["root"]))
    shared = {field.name: job[field.name] for field in fields(Circumstances) if field.name != "provenance"}
    about = Circumstances(**{**shared, "folder": Path(job["folder"])}, provenance=provenance(project.root))
    _start_framework(about.framework)
    progress = Path(job["progress"])
    run_cells(study, [Cell(**cell) for cell in job["cells"]], about, lambda name: write_text(progress, name))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
