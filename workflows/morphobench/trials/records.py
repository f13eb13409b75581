"""The record of a trial: what was asked, what happened, what it cost."""

from __future__ import annotations

import datetime
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from morphobench.project.files import write_json
from morphobench.project.paths import find_project
from morphobench.project.validation import validate

__all__ = ["STATUSES", "Record", "Timings", "read_record", "write_record"]

STATUSES = ("ok", "error", "timeout", "out_of_memory", "diverged", "invalid", "unavailable")


@dataclass
class Timings:
    """Seconds of each phase; None where the phase did not happen or cannot be told apart."""

    import_s: float | None = None
    compile_s: float | None = None
    fit_s: float | None = None
    predict_s: float | None = None


@dataclass
class Record:
    """One ``record.json`` (see ``workflows/schemas/record.schema.yaml``)."""

    run: str
    dataset: str
    task: str
    method: str
    variant: str
    family: str
    framework: str
    seed: int
    status: str
    message: str
    budget: dict[str, Any]
    threads: int
    code_hash: str
    data_hash: str
    key: str
    provenance: dict[str, Any]
    params: dict[str, Any] = field(default_factory=dict)
    learning_rate: float | None = None
    tuning: dict[str, Any] = field(default_factory=dict)
    log_tail: list[str] = field(default_factory=list)
    device: str = "cpu"
    timings: Timings = field(default_factory=Timings)
    peak_rss_mb: float | None = None
    peak_device_mb: float | None = None
    parameters: int | None = None
    epochs: int | None = None
    best_epoch: int | None = None
    finished: str = ""
    schema: int = 1


def write_record(path: Path, record: Record) -> None:
    """Stamp, check and write a record, whole or not at all."""
    record.finished = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    values = json.loads(json.dumps(asdict(record), allow_nan=False))
    validate(values, find_project(path.parent).schemas / "record.schema.yaml", str(path))
    write_json(path, values)


def read_record(path: Path) -> Record:
    """Read a record that `write_record` wrote."""
    values = json.loads(path.read_text(encoding="utf-8"))
    return Record(**{**values, "timings": Timings(**values["timings"])})
