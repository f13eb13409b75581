"""What a trial and a cell of a study leave behind: what was asked, what happened, what it cost."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from morphobench.project.files import write_json
from morphobench.settings.model import Number
from morphobench.settings.reading import check

__all__ = ["CellRecord", "Record", "Timings"]

TrialStatus = Annotated[
    str, StringConstraints(pattern="^(ok|error|timeout|out_of_memory|diverged|invalid|unavailable)$")
]
CellStatus = Annotated[str, StringConstraints(pattern="^(ok|error|timeout|out_of_memory|unavailable)$")]
FrameworkName = Annotated[str, StringConstraints(pattern="^(torch|jax)$")]


class Written(BaseModel):
    """A record that says when it was written."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        use_attribute_docstrings=True,
        validate_by_name=True,
        serialize_by_alias=True,
        json_schema_serialization_defaults_required=True,
    )

    finished: str = ""
    """When the record was written (ISO 8601, UTC)."""
    version: Literal[1] = Field(default=1, alias="schema")
    """Version of this format."""

    def write(self, path: Path) -> None:
        """Stamp, check and write the record, whole or not at all.

        Raises
        ------
        UserError
            If a value does not fit the model.
        """
        self.finished = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        values = json.loads(json.dumps(self.model_dump(warnings=False), allow_nan=False, default=_python))
        check(type(self), values, str(path))
        write_json(path, values)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a record that `write` wrote."""
        return check(cls, json.loads(path.read_text(encoding="utf-8")), str(path))


def _python(value: Any) -> Any:
    """Return a number of NumPy or of a framework, which plugins count with, as Python's."""
    if getattr(value, "shape", None) == ():
        return value.item()
    raise TypeError(f"a record holds {type(value).__name__}, expected numbers, text, lists and mappings")


class Timings(BaseModel):
    """Seconds, each synchronised with the device; null where the phase did not happen or cannot be told apart.

    import_s and compile_s are those of the process that trained the trial: seeds that shared it share them. compile_s (XLA) is part
    of neither fit_s nor predict_s.
    """

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_serialization_defaults_required=True)

    import_s: Number | None = None
    compile_s: Number | None = None
    fit_s: Number | None = None
    predict_s: Number | None = None


class Record(Written):
    """What one trial leaves behind, whatever happened to it."""

    model_config = ConfigDict(title="record.json")

    run: str
    """Name of the run."""
    dataset: str
    """Data set as name or name.variant."""
    task: str
    """Kind of task."""
    method: str
    """Name of the method."""
    variant: str
    """Variant of the method."""
    family: str
    """Family of the method."""
    framework: str
    """Framework of the method."""
    seed: int
    """Seed of every generator of the trial."""
    status: TrialStatus
    """ok, or why there is no score. unavailable: the data set is not to be had or the framework is not installed, which is not the
    method's fault."""
    message: str
    """One line for the tables; empty for ok."""
    budget: dict[str, Any]
    """Budget the trial ran under."""
    threads: int
    """Threads the trial was given."""
    code_hash: str
    """Digest of the plugin and of the harness modules that decide its result."""
    data_hash: str
    """Digest of the prepared data."""
    key: str
    """Key of the trial in the store; equal keys mean equal predictions."""
    provenance: dict[str, Any]
    """Versions, commit, dirtiness and hardware."""
    params: dict[str, Any] = {}
    """Parameters of the method after its variant."""
    learning_rate: Number | None = None
    """Learning rate used."""
    tuning: dict[str, Any] = {}
    """Validation metric of each learning rate tried (mode grid)."""
    log_tail: list[str] = []
    """Last lines of the log."""
    device: str = "cpu"
    """cpu or the name of the GPU."""
    timings: Timings = Field(default_factory=Timings)
    peak_rss_mb: Number | None = None
    """Largest resident memory of the process in MiB."""
    peak_device_mb: Number | None = None
    """Largest memory allocated on the GPU in MiB."""
    parameters: int | None = None
    """Learnable parameters."""
    epochs: int | None = None
    """Epochs trained."""
    best_epoch: int | None = None
    """Epoch of the checkpoint chosen by validation."""


class CellRecord(Written):
    """What one cell of a study leaves behind, whatever happened to it."""

    model_config = ConfigDict(title="cells/<study>/<framework>/<cell>.json")

    run: str
    """Name of the run."""
    study: str
    """The study."""
    framework: FrameworkName
    """The one framework of the process that ran the cell."""
    cell: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    """Name of the cell."""
    instance: str
    """The instance that the cell belongs to."""
    settings: Mapping[str, Any]
    """What the study needs to run the cell."""
    status: CellStatus
    """ok, or why the rows hold no measurement."""
    message: str
    """One line for the tables; empty for ok."""
    rows: list[dict[str, Any]]
    """Rows of the study's table; null stands for what was not measured."""
    command: str
    """The command that runs this cell alone."""
    device: str
    """cpu with the processor or the name of the GPU."""
    threads: int
    """Threads the cell was given."""
    load: Number | None
    """Load average over one minute when the instance was opened."""
    provenance: Mapping[str, Any]
    """Versions, commit, dirtiness and hardware."""
    log_tail: list[str] = []
    """Last lines of the log."""

    def write(self, path: Path) -> None:
        """Stamp, check and write the record, whole or not at all; what is not finite in a row becomes null."""
        self.rows = [{key: _finite(value) for key, value in row.items()} for row in self.rows]
        super().write(path)


def _finite(value: Any) -> Any:
    """Return a number of NumPy as Python's, and None for one that is not finite."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
