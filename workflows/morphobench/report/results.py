"""Everything that figures and report are made from: tables, studies and manifests of a run and of those it includes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from morphobench.contract import Split
from morphobench.project.paths import RunFolder, find_project
from morphobench.settings.reading import read_yaml
from morphobench.statistics import comparisons, counterparts, ranking, references
from morphobench.statistics.tables import SCORES, TRIAL_KEY, TRIALS, merge_runs, parse_entry
from morphobench.studies.tables import study_table

__all__ = ["Entry", "RunResults", "by_kind", "entry_of", "read_run_results", "rows_of"]

FAMILY_ORDER = ("variational", "morphology", "implicit", "cnn", "classical", "control")
CELL = ["dataset", "method", "variant"]


class Entry(NamedTuple):
    """What is compared: a method in one variant."""

    method: str
    variant: str


def entry_of(row: Mapping[Any, Any] | pd.Series) -> Entry:
    """Method and variant of a row."""
    return Entry(row["method"], row["variant"])


def rows_of(table: pd.DataFrame, entry: Entry) -> pd.DataFrame:
    """Rows of a method in one variant."""
    return table[(table["method"] == entry.method) & (table["variant"] == entry.variant)]


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
    tables: Mapping[str, pd.DataFrame]  # of trials, besides these: robustness
    studies: Mapping[str, pd.DataFrame]  # every table of studies/: text is "" where missing, all else a number or NaN
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
        return Entry(*parse_entry(named, self.trials)) if named else None

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

    def datasets_in(self, table: pd.DataFrame) -> list[str]:
        """Those of the data sets that a table with a column dataset holds, in their order."""
        held = set(table["dataset"])
        return [name for name in self.dataset_names if name in held]

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

    def study(self, name: str, columns: Mapping[str, type]) -> pd.DataFrame:
        """Return a table of a study, each row with its ``run``; without rows if no run has it.

        Raises
        ------
        ValueError
            If the table lacks one of ``columns``.
        """
        found = self.studies.get(name)
        if found is None:
            return by_kind(study_table([], {**columns, "run": str}))
        return _checked(name, found, columns)

    def trial_folders(self, dataset: str, entry: Entry) -> Iterator[tuple[int, Path]]:
        """Seed and folder of every successful trial of a cell, by seed."""
        rows = rows_of(self.trials, entry)
        rows = rows[(rows["dataset"] == dataset) & (rows["status"] == "ok")]
        for run, seed in rows.sort_values("seed")[["run", "seed"]].itertuples(index=False):
            yield int(seed), self.folders[run].trial(dataset, *entry, int(seed))

    def arrays(self, dataset: str, entry: Entry, name: str) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Seed and contents of an npz file of every successful trial that has it."""
        for seed, folder in self.trial_folders(dataset, entry):
            if (folder / name).is_file():
                with np.load(folder / name, allow_pickle=False) as content:
                    yield seed, dict(content)

    def test_split(self, dataset: str) -> Split:
        """Test samples of a data set with their labels, from the prepared data of this checkout."""
        from morphobench.data.preparation import images_of_test, labels_of_test, read_manifest

        project = find_project()
        paths = [folder.results / "data" / f"{dataset}.json" for folder in self.folders.values()]
        manifest = read_manifest(next(path for path in paths if path.is_file()))
        return Split(images_of_test(project, manifest), labels_of_test(project, manifest))


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
    folders = {run.results.name: run}
    for name in config.get("report", {}).get("include", []):
        folders[name] = RunFolder(run.results.parent / name, run.report.parent / name)
        if not folders[name].tables.is_dir():
            raise FileNotFoundError(
                f"{run.results / 'config.yaml'}: report.include names {name!r}, but {folders[name].tables} is not there"
            )
    tables = _read_tables({name: part.tables for name, part in folders.items()})
    studies = _read_tables({name: part.studies for name, part in folders.items()})
    trials = tables.pop("trials", [])
    merged = merge_runs(trials, TRIALS, TRIAL_KEY)
    scores = merge_runs(tables.pop("scores", []), SCORES, TRIAL_KEY)

    def computed(name: str, columns: list[str]) -> pd.DataFrame:
        path = run.statistics / f"{name}.parquet"
        return _checked(name, pd.read_parquet(path), columns) if path.is_file() else pd.DataFrame(columns=columns)

    return RunResults(
        config=config,
        folders=folders,
        trials=_checked("trials", merged, TRIALS),
        scores=_checked("scores", scores, SCORES),
        means=computed("means", comparisons.MEANS),
        differences=computed("differences", comparisons.DIFFERENCES),
        ranking=computed("ranking", ranking.RANKING),
        friedman=computed("friedman", ranking.FRIEDMAN),
        counterparts=computed("counterparts", counterparts.COUNTERPARTS),
        published=computed("published", references.PUBLISHED),
        reference=computed("reference", references.REFERENCE),
        tables={name: merge_runs(parts, [], CELL) for name, parts in tables.items()},
        studies={name: by_kind(pd.concat(parts, ignore_index=True)) for name, parts in studies.items()},
        methods=_read_manifests(folders.values(), "plugins"),
        datasets=_read_manifests(folders.values(), "data"),
        environments={name: _read_json(part.results / "environment.json") for name, part in folders.items()},
        dropped=sum(map(len, trials)) - len(merged),
    )


def _read_tables(folders: Mapping[str, Path]) -> dict[str, list[pd.DataFrame]]:
    """Every table with rows in the folders of the runs, by name; the column ``run`` says whose folder it is from."""
    found: dict[str, list[pd.DataFrame]] = {}
    for run, folder in folders.items():
        for path in sorted(folder.glob("*.parquet")):
            table = pd.read_parquet(path).assign(run=run)
            if len(table):
                found.setdefault(path.stem, []).append(table)
    return found


def _checked(name: str, table: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    missing = [column for column in columns if column not in table]
    if missing:
        raise ValueError(f"{name}: columns {', '.join(missing)} are missing; found {', '.join(table.columns)}")
    return table


def by_kind(table: pd.DataFrame) -> pd.DataFrame:
    """Give numbers and flags one type, and all else text.

    Examples
    --------
    >>> by_kind(pd.DataFrame({"mode": ["a", None], "kink": [True, False], "value": [1, 2]})).to_dict("records")
    [{'mode': 'a', 'kink': 1.0, 'value': 1.0}, {'mode': '', 'kink': 0.0, 'value': 2.0}]
    """
    columns = {
        name: column.astype("float64")
        if is_numeric_dtype(column) or is_bool_dtype(column)
        else column.where(column.notna(), "").astype(str)
        for name, column in table.items()
    }
    return pd.DataFrame(columns, index=table.index)


def _read_manifests(runs: Iterable[RunFolder], folder: str) -> dict[str, Any]:
    """What the JSON files in a folder of the runs hold, by their names; those of the first run go before."""
    found: dict[str, Any] = {}
    for run in runs:
        for path in sorted((run.results / folder).glob("*.json")):
            found.setdefault(path.stem, json.loads(path.read_text(encoding="utf-8")))
    return found


def _read_yaml(path: Path) -> dict[str, Any]:
    return (read_yaml(path) or {}) if path.is_file() else {}


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
