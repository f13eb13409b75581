"""A trial: what identifies it and where it lies."""

from __future__ import annotations

import json
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

__all__ = ["Trial", "decisive_versions"]

# Of a data set, what a trial is given or its record tells; the rest are words of the report.
DATA = ("id", "task", "splits", "input_shape", "outputs", "class_names", "data_hash")
# Only these can change a prediction; a newer pandas does not make a trial another one.
NUMERICAL = ("python", "numpy", "scipy", "scikit-learn", "scikit-image", "numba")
NUMERICAL_OF = {"torch": ("torch",), "jax": ("jax", "jaxlib", "equinox", "optax")}


def decisive_versions(method: MethodInfo | BrokenPlugin) -> dict[str, str]:
    """Return the versions of the packages that can change what a method computes."""
    known = versions()
    names = (*NUMERICAL, *NUMERICAL_OF.get(getattr(method, "framework", ""), ()))
    return {name: known.get(name, "") for name in names}


@dataclass(frozen=True)
class Trial:
    """A (data set, method, variant, seed) with everything that decides its result and what its record tells of it."""

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
    versions: Mapping[str, str]

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
        """Key in the store: trials with equal keys give equal predictions, and the same record, on one machine.

        It holds every field but where the checkout lies. The limits of time and memory are among them, since a plugin is told both.
        """
        info, manifest = self.method, asdict(self.manifest)
        method = info.model_dump(mode="json", exclude={"folder"}) if isinstance(info, MethodInfo) else {"why": info.why}
        decisive = {
            "run": self.run,
            "data": {name: manifest[name] for name in DATA},
            "method": {"name": info.name, **method},
            "variant": self.variant,
            "params": self.params,
            "seed": self.seed,
            "budget": asdict(self.budget),
            "threads": self.threads,
            "tuning": dict(self.tuning),
            "device": self.device,
            "code": self.code_hash,
            "versions": dict(self.versions),
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
