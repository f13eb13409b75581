"""The tables of scores and trials as statistics read them: of one run, or of several merged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from morphobench.contract import PRIMARY_METRIC

__all__ = [
    "ENTRY",
    "SCORES",
    "TRIALS",
    "TRIAL_KEY",
    "merge_runs",
    "parse_entry",
    "primary_scores",
    "read_scores",
    "read_table",
    "read_trials",
]

ENTRY = ["method", "variant"]
SCORES = ["run", "dataset", "task", *ENTRY, "framework", "seed", "status", "split", "metric", "value"]
TRIALS = [
    *["run", "dataset", "task", *ENTRY, "family", "framework", "seed", "status", "message", "device", "threads"],
    *["fit_s", "predict_s", "compile_s", "peak_rss_mb", "peak_device_mb", "parameters", "epochs", "learning_rate"],
]
TRIAL_KEY = ["dataset", *ENTRY, "seed"]


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read a CSV table; a missing or empty file gives an empty table with ``columns``.

    Raises
    ------
    ValueError
        If the file lacks one of ``columns``.
    """
    if not path.is_file() or path.stat().st_size == 0:
        return pd.DataFrame(columns=list(columns))
    # "NA", "None" or "null" may be the name of a method; only an empty field is missing
    table = pd.read_csv(path, keep_default_na=False, na_values=["", "nan", "NaN"])
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(f"{path}: columns {', '.join(missing)} are missing; found {', '.join(table.columns)}")
    return table


def run_tables(tables: Path, include: Sequence[str] = ()) -> list[Path]:
    """Return ``tables`` and the table folders of the runs ``include`` that lie beside its run."""
    return [tables, *(tables.parent.parent / name / "tables" for name in include)]


def merge_tables(folders: Sequence[Path], name: str, columns: Sequence[str], key: Sequence[str]) -> pd.DataFrame:
    """Concatenate one table of several runs; of rows with equal ``key`` in two runs those of the first run stay."""
    # the folder says which run it is: results that were copied under another name stay together
    parts = [read_table(folder / f"{name}.csv", columns).assign(run=folder.parent.name) for folder in folders]
    return merge_runs(parts, columns, key)


def merge_runs(parts: Sequence[pd.DataFrame], columns: Sequence[str], key: Sequence[str]) -> pd.DataFrame:
    """Concatenate tables with a column ``run``; of rows with equal ``key`` in two runs those of the first run stay."""
    parts = [part for part in parts if len(part)]
    if not parts:
        return pd.DataFrame(columns=list(columns))
    table = pd.concat(parts, ignore_index=True)
    first = table.groupby(list(key), dropna=False)["run"].transform("first")
    return table[table["run"] == first].reset_index(drop=True)


def read_scores(tables: Path, include: Sequence[str] = ()) -> pd.DataFrame:
    """Scores of the run and of the included runs (see `merge_tables` on duplicates)."""
    return merge_tables(run_tables(tables, include), "scores", SCORES, TRIAL_KEY)


def read_trials(tables: Path, include: Sequence[str] = ()) -> pd.DataFrame:
    """Trials of the run and of the included runs (see `merge_tables` on duplicates)."""
    return merge_tables(run_tables(tables, include), "trials", TRIALS, TRIAL_KEY)


def primary_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Test scores of each task's primary metric; failed trials have an empty value."""
    wanted = scores["task"].map(PRIMARY_METRIC)
    table = scores[(scores["metric"] == wanted) & ((scores["split"] == "test") | (scores["status"] != "ok"))]
    return table.drop_duplicates([*TRIAL_KEY])


def parse_entry(name: str, scores: pd.DataFrame) -> tuple[str, str]:
    """Split ``method`` or ``method/variant``; a bare method means its variant "default", else its first one."""
    method, _, variant = name.partition("/")
    variants = sorted(scores.loc[scores["method"] == method, "variant"].unique())
    if not variant:
        variant = "default" if "default" in variants or not variants else variants[0]
    return method, variant
