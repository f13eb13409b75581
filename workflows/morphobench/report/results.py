"""Everything that figures and report are made from: tables, studies and manifests of a run and of those it includes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml

from morphobench.evaluation.robustness import COLUMNS as ROBUSTNESS
from morphobench.project.paths import RunFolder
from morphobench.statistics import comparisons as statistics
from morphobench.statistics import counterparts, ranking
from morphobench.studies.gradients.study import COLUMNS as GRADIENTS
from morphobench.studies.nonsmooth.study import COLUMNS as NONSMOOTH
from morphobench.studies.recovery.study import COLUMNS as RECOVERY
from morphobench.studies.solvers.study import COLUMNS as SOLVERS

__all__ = [
    "BENCHMARKS",
    "GRADIENTS",
    "NONSMOOTH",
    "RATIOS",
    "RECOVERY",
    "SOLVERS",
    "Entry",
    "RunResults",
    "entry_of",
    "read_run_results",
    "typed",
]

STUDY_TEXTS = {
    *["cell", "instance", "role", "family", "operator", "data", "solver", "version", "framework", "backend", "dtype"],
    *["device", "mode", "setting", "parameter", "phase", "status", "message", "run"],
    *["dataset", "source", "operation", "element", "method", "initialisation"],
    *["layer", "position", "way"],
}
STUDY_FLAGS = {"kink", "reached", "singular", "success"}
BENCHMARKS = [
    *["operator", "implementation", "window", "shape", "phase", "threads", "median_s", "q25_s", "q75_s"],
]
RATIOS = ["operator", "window", "shape", "phase", "threads", "peer", "ratio", "bar", "rounds", "processor"]
FAMILY_ORDER = ("variational", "morphology", "implicit", "cnn", "classical", "control")


class Entry(NamedTuple):
    """What is compared: a method in one variant."""

    method: str
    variant: str


def entry_of(row: Mapping[Any, Any] | pd.Series) -> Entry:
    """Method and variant of a row."""
    return Entry(row["method"], row["variant"])


@dataclass(frozen=True)
class RunResults:
    """The tables of the merged runs and what plugins, data sets and machines say about themselves."""

    config: Mapping[str, Any]
    folders: Mapping[str, RunFolder]
    trials: pd.DataFrame
    scores: pd.DataFrame
    means: pd.DataFrame
    differences: pd.DataFrame
    ranking: pd.DataFrame
    friedman: pd.DataFrame
    counterparts: pd.DataFrame
    published: pd.DataFrame
    reference: pd.DataFrame
    gradients: pd.DataFrame
    solvers: pd.DataFrame
    recovery: pd.DataFrame
    nonsmooth: pd.DataFrame
    benchmarks: pd.DataFrame
    ratios: pd.DataFrame
    robustness: pd.DataFrame
    methods: Mapping[str, Mapping[str, Any]]
    datasets: Mapping[str, Mapping[str, Any]]
    environments: Mapping[str, Mapping[str, Any]]
    dropped: int = field(default=0)  # trials of included runs that an earlier run has too

    @property
    def run(self) -> str:
        """Name of the run the report is about."""
        return next(iter(self.folders))

    @property
    def level(self) -> float:
        """Nominal coverage of the intervals."""
        return 1 - float(self.config.get("statistics", {}).get("alpha", 0.05))

    @property
    def baseline(self) -> Entry | None:
        """The entry that differences are taken to."""
        named = self.config.get("statistics", {}).get("baseline")
        return Entry(*statistics.parse_entry(named, self.trials)) if named else None

    @property
    def entries(self) -> list[Entry]:
        """Every method and variant with a trial, by family, then by name."""
        found = self.trials.drop_duplicates(["method", "variant"])
        order = {name: place for place, name in enumerate(FAMILY_ORDER)}
        rows = [
            (order.get(family, len(order)), method, variant != "default", variant)
            for family, method, variant in found[["family", "method", "variant"]].itertuples(index=False)
        ]
        return [Entry(method, variant) for _, method, _, variant in sorted(rows)]

    def entries_in(self, table: pd.DataFrame) -> list[Entry]:
        """Those of the entries that a table with columns method and variant holds, in their order."""
        held = set(table[["method", "variant"]].itertuples(index=False, name=None))
        return [entry for entry in self.entries if entry in held]

    @property
    def dataset_names(self) -> list[str]:
        """Data sets in the order of the configuration, then those that only included runs have."""
        listed = [entry if isinstance(entry, str) else entry["name"] for entry in self.config.get("datasets", [])]
        known = {*self.trials["dataset"].unique(), *self.datasets}
        return [name for name in listed if name in known] + sorted(known - set(listed))

    def family(self, entry: Entry) -> str:
        """Family of the method."""
        rows = self.trials.loc[self.trials["method"] == entry.method, "family"]
        return str(rows.iloc[0]) if len(rows) else str(self.methods.get(entry.method, {}).get("family", "control"))

    def is_control(self, entry: Entry) -> bool:
        """Whether the method is a control (chance, majority)."""
        return self.family(entry) == "control"

    def is_shown_beside_counterpart(self, entry: Entry) -> bool:
        """Whether the method is the same network as another of the run, in another framework."""
        return entry.method in set(self.counterparts["method"])

    def title(self, entry: Entry) -> str:
        """Title of the method, with its variant unless that is the default one."""
        title = str(self.methods.get(entry.method, {}).get("title", entry.method))
        return title if entry.variant == "default" else f"{title} ({entry.variant})"

    def dataset_title(self, dataset: str) -> str:
        """Title of the data set."""
        return str(self.datasets.get(dataset, {}).get("title", dataset))

    def task(self, dataset: str) -> str:
        """Kind of task of the data set."""
        rows = self.trials.loc[self.trials["dataset"] == dataset, "task"]
        return str(rows.iloc[0]) if len(rows) else str(self.datasets.get(dataset, {}).get("task", ""))

    def primary_means(self) -> pd.DataFrame:
        """Means of the primary metric on the test split."""
        return self.means[(self.means["split"] == "test") & self.means["primary"].astype(bool)]

    def trial_folders(self, dataset: str, entry: Entry) -> Iterator[tuple[int, Path]]:
        """Seed and folder of every successful trial of a cell, by seed."""
        rows = self.trials[
            (self.trials["dataset"] == dataset)
            & (self.trials["method"] == entry.method)
            & (self.trials["variant"] == entry.variant)
            & (self.trials["status"] == "ok")
        ]
        for run, seed in rows.sort_values("seed")[["run", "seed"]].itertuples(index=False):
            yield int(seed), self.folders[run].trial(dataset, *entry, int(seed))

    def arrays(self, dataset: str, entry: Entry, name: str) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Seed and contents of an npz file of every successful trial that has it."""
        for seed, folder in self.trial_folders(dataset, entry):
            if (folder / name).is_file():
                with np.load(folder / name, allow_pickle=False) as content:
                    yield seed, dict(content)


def read_run_results(run: RunFolder) -> RunResults:
    """Read a run and the runs that its configuration includes; what does not exist is empty.

    Raises
    ------
    FileNotFoundError
        If an included run has no results.
    ValueError
        If a table lacks a column.
    """
    config = _read_yaml(run.results / "config.yaml")
    include = list(config.get("report", {}).get("include", []))
    folders = {run.results.name: run}
    for name in include:
        folders[name] = RunFolder(run.results.parent / name, run.report.parent / name)
        if not folders[name].tables.is_dir():
            raise FileNotFoundError(
                f"{run.results / 'config.yaml'}: report.include names {name!r}, but {folders[name].tables} is not there"
            )
    runs = list(folders.values())
    trials = statistics.read_trials(run.tables, include)
    everything = sum(len(statistics.read_table(part.tables / "trials.csv", statistics.TRIALS)) for part in runs)

    def computed(name: str, columns: Sequence[str]) -> pd.DataFrame:
        return statistics.read_table(run.statistics / f"{name}.csv", columns)

    def joined(folder: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for part in reversed(runs):
            found |= {
                path.stem: json.loads(path.read_text()) for path in sorted((part.results / folder).glob("*.json"))
            }
        return found

    def measured(name: str, columns: Sequence[str]) -> pd.DataFrame:
        parts = [(key, statistics.read_table(part.studies / f"{name}.csv", columns)) for key, part in folders.items()]
        filled = [part.assign(run=key) for key, part in parts if len(part)]
        return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=[*columns, "run"])

    return RunResults(
        config=config,
        folders=folders,
        trials=trials,
        scores=statistics.read_scores(run.tables, include),
        means=computed("means", statistics.MEANS),
        differences=computed("differences", statistics.DIFFERENCES),
        ranking=computed("ranking", ranking.RANKING),
        friedman=computed("friedman", ranking.FRIEDMAN),
        counterparts=computed("counterparts", counterparts.COUNTERPARTS),
        published=computed("published", statistics.PUBLISHED),
        reference=computed("reference", statistics.REFERENCE),
        gradients=typed(measured("gradients", GRADIENTS)),
        solvers=typed(measured("solvers", SOLVERS)),
        recovery=typed(measured("recovery", RECOVERY)),
        nonsmooth=typed(measured("nonsmooth", NONSMOOTH)),
        benchmarks=measured("benchmarks", BENCHMARKS),
        ratios=measured("ratios", RATIOS),
        robustness=statistics.merge_tables(
            statistics.run_tables(run.tables, include), "robustness", ROBUSTNESS, ["dataset", "method", "variant"]
        ),
        methods=joined("plugins"),
        datasets=joined("data"),
        environments={key: _read_json(part.results / "environment.json") for key, part in folders.items()},
        dropped=everything - len(trials),
    )


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """Give the columns of a study one type each, whatever was missing from the file.

    Texts are texts ("" if missing), all else numbers (NaN if missing); a flag is 1, 0 or NaN.

    Examples
    --------
    >>> typed(pd.DataFrame({"mode": [None], "kink": ["True"], "value": [""]})).to_dict("records")
    [{'mode': '', 'kink': 1.0, 'value': nan}]
    """
    columns: dict[str, pd.Series] = {}
    for name in map(str, table.columns):
        if name in STUDY_TEXTS:
            columns[name] = table[name].where(table[name].notna(), "").astype(str)
        elif name in STUDY_FLAGS:
            known = {"true": 1.0, "1": 1.0, "1.0": 1.0, "false": 0.0, "0": 0.0, "0.0": 0.0}
            columns[name] = table[name].astype(str).str.lower().map(known).astype(float)
        else:
            columns[name] = pd.to_numeric(table[name], errors="coerce").astype(float)
    return pd.DataFrame(columns, index=table.index)


def _read_yaml(path: Path) -> dict[str, Any]:
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.is_file() else {}


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
