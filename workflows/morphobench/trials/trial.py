"""A trial: what identifies it, where it lies, and the store that keeps finished ones across interruptions."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from morphobench.contract import Budget
from morphobench.data.preparation import Manifest
from morphobench.plugins.discovery import BrokenPlugin, MethodInfo
from morphobench.project.files import digest
from morphobench.project.paths import Project
from morphobench.project.provenance import versions
from morphobench.settings.records import Record

__all__ = ["TRIAL_FILES", "Store", "Trial"]

# record.json comes last: where it exists, the others do.
TRIAL_FILES = ("predictions.npz", "curve.csv", "weights.safetensors", "learned.npz", "log.txt", "record.json")

# Only these can change a prediction; a newer pandas does not make a trial another one.
NUMERICAL = ("python", "numpy", "scipy", "scikit-learn", "numba")
NUMERICAL_OF = {"torch": ("torch",), "jax": ("jax", "jaxlib", "equinox", "optax")}


@dataclass(frozen=True)
class Trial:
    """A (data set, method, variant, seed) with everything that decides its result."""

    project: Project
    run: str
    manifest: Manifest
    method: MethodInfo | BrokenPlugin
    variant: str
    seed: int
    budget: Budget
    threads: int
    tuning: Mapping[str, Any]
    device: str
    code_hash: str

    @property
    def folder(self) -> Path:
        """Where its record and predictions lie."""
        return self.project.run(self.run).trial(self.manifest.id, self.method.name, self.variant, self.seed)

    @property
    def label(self) -> str:
        """What its lines in a log begin with."""
        return f"[{self.manifest.id} {self.method.name}/{self.variant} seed {self.seed}]"

    @property
    def params(self) -> dict[str, Any]:
        """Parameters of the method after its variant."""
        if isinstance(self.method, BrokenPlugin):
            return {}
        return self.method.params_of(self.variant)

    @property
    def key(self) -> str:
        """Key in the store: trials with equal keys give equal predictions on one machine."""
        budget = asdict(self.budget)
        limits = {"timeout_s", "memory_mb"}  # they stop a trial, they do not change its result
        known, framework = versions(), getattr(self.method, "framework", "")
        decisive = {
            "code": self.code_hash,
            "data": self.manifest.data_hash,
            "method": self.method.name,
            "params": self.params,
            "seed": self.seed,
            "budget": {name: value for name, value in budget.items() if name not in limits},
            "threads": self.threads,
            "tuning": dict(self.tuning),
            "device": self.device,
            "versions": {name: known.get(name, "") for name in (*NUMERICAL, *NUMERICAL_OF.get(framework, ()))},
        }
        return digest(json.dumps(decisive, sort_keys=True))

    def blank_record(self, status: str, message: str, provenance: dict[str, Any]) -> Record:
        """Return a record with everything known before the trial has run."""
        info = self.method
        return Record(
            run=self.run,
            dataset=self.manifest.id,
            task=self.manifest.task,
            method=info.name,
            variant=self.variant,
            family=info.family if isinstance(info, MethodInfo) else "",
            framework=info.framework if isinstance(info, MethodInfo) else "",
            seed=self.seed,
            status=status,
            message=" ".join(message.split()),
            budget=asdict(self.budget),
            threads=self.threads,
            code_hash=self.code_hash,
            data_hash=self.manifest.data_hash,
            key=self.key,
            provenance=provenance,
            params=self.params,
            device=self.device,
        )


@dataclass(frozen=True)
class Store:
    """Finished trials by key: Snakemake removes the outputs of an interrupted job, and here they come back from."""

    folder: Path

    def put(self, key: str, trial_folder: Path) -> None:
        """Keep the files of a finished trial (hard links: no second copy on disk)."""
        target = self.folder / key
        if target.exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{key}-", dir=self.folder))
        try:
            _link_files(trial_folder, temporary)
            temporary.rename(target)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            if not target.exists():
                raise

    def restore(self, key: str, trial_folder: Path) -> bool:
        """Bring a finished trial back; False if it is not in the store."""
        source = self.folder / key
        if not (source / "record.json").exists():
            return False
        trial_folder.mkdir(parents=True, exist_ok=True)
        _link_files(source, trial_folder)
        return True


def _link_files(source: Path, target: Path) -> None:
    for name in TRIAL_FILES:
        if not (source / name).exists():
            (target / name).unlink(missing_ok=True)
            continue
        temporary = target / f".{name}.{os.getpid()}"
        temporary.unlink(missing_ok=True)
        try:
            os.link(source / name, temporary)
        except OSError:  # another file system, or one without hard links
            shutil.copy2(source / name, temporary)
        temporary.replace(target / name)
