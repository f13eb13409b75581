"""Ranks of the methods within and over data sets; a failed trial is worse than any score.

Every function takes the table of primary test scores: dataset, task, method, variant, seed, status, value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from morphobench.statistics.tables import ENTRY

__all__ = ["FRIEDMAN", "RANKING", "friedman", "rank_methods"]

FRIEDMAN_DATASETS = 5
RANKING = ["scope", "datasets", *ENTRY, "rank", "entries", "mean", "seeds", "failed", "note"]
FRIEDMAN = ["scope", "datasets", "entries", "statistic", "p", "note"]


def rank_methods(primary: pd.DataFrame, controls: Sequence[str] = ()) -> pd.DataFrame:
    """Ranks within each data set and average ranks over data sets; 1 is best, ties share their average.

    An entry with a failed seed ranks behind every entry without one. Data sets that were not available are left out.
    Average ranks (``scope`` is "all" or a kind of task with several data sets) are taken among the entries that took
    part in every data set of that scope, without the controls, so that all are averaged over the same opponents.
    """
    standings = _standings(primary)
    rows: list[dict[str, Any]] = []
    for dataset, group in standings.groupby("dataset", sort=True):
        for rank, entry in zip(_ranks(group), group.to_dict("records"), strict=True):
            row = {"scope": "dataset", "datasets": dataset, "rank": rank, "entries": len(group)}
            row |= {key: entry[key] for key in (*ENTRY, "mean", "seeds", "failed")}
            rows.append(row | {"note": "" if entry["seeds"] else "no seed succeeded"})
    for scope, blocks in _rank_blocks(standings, controls).items():
        for entry, rank in zip(blocks.columns.to_frame(index=False).to_dict("records"), blocks.mean(), strict=True):
            row = {"scope": scope, "datasets": " ".join(blocks.index), "rank": rank, "entries": blocks.shape[1]}
            row |= dict(zip(ENTRY, entry.values(), strict=True))
            rows.append(row | {"mean": math.nan, "seeds": math.nan, "failed": math.nan, "note": ""})
    table = pd.DataFrame(rows, columns=RANKING)
    # averages first, then the data sets one by one
    table = table.assign(order=table["scope"].eq("dataset"))
    return table.sort_values(["order", "scope", "datasets", "rank"])[RANKING].reset_index(drop=True)


def _standings(primary: pd.DataFrame) -> pd.DataFrame:
    """One row a data set and entry: mean, number of scored seeds, number of failed seeds."""
    primary = primary[primary["status"] != "unavailable"]
    grouped = primary.assign(value=primary["value"].where(primary["status"] == "ok").astype(float)).groupby(
        ["dataset", "task", *ENTRY], sort=True
    )
    table = grouped["value"].agg(mean="mean", seeds="count", trials="size").reset_index()
    return table.assign(failed=table["trials"] - table["seeds"])


def _ranks(group: pd.DataFrame) -> np.ndarray:
    """Ranks by (failed seeds, mean), best first; entries without a score tie for the last places."""
    best = group["mean"].max()
    best = 0.0 if pd.isna(best) else best
    keys = list(zip(group["failed"] / group["trials"], best - group["mean"].fillna(-math.inf), strict=True))
    order = {key: place for place, key in enumerate(sorted(set(keys)))}
    return stats.rankdata([order[key] for key in keys])


def _rank_blocks(standings: pd.DataFrame, controls: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Per scope a table of ranks: data sets by entries that took part in every one of them."""
    competing = standings[~standings["method"].isin(controls)]
    tasks = sorted(competing["task"].unique())
    scopes = {"all": competing} | ({task: competing[competing["task"] == task] for task in tasks} if tasks[1:] else {})
    blocks: dict[str, pd.DataFrame] = {}
    for scope, part in scopes.items():
        if part.empty or (scope != "all" and part["dataset"].nunique() < 2):
            continue
        took_part = part.groupby(ENTRY)["dataset"].nunique()
        common = took_part[took_part == part["dataset"].nunique()].index
        kept = part[pd.MultiIndex.from_frame(part[ENTRY]).isin(common)]
        if kept.empty:
            continue
        rows = {}
        for dataset, group in kept.groupby("dataset", sort=True):
            rows[dataset] = pd.Series(_ranks(group), index=pd.MultiIndex.from_frame(group[ENTRY]))
        blocks[scope] = pd.DataFrame(rows).T
    return blocks


def friedman(primary: pd.DataFrame, controls: Sequence[str] = ()) -> pd.DataFrame:
    """Friedman's test that all entries rank alike; below five data sets or three entries the reason why not."""
    rows = []
    for scope, blocks in _rank_blocks(_standings(primary), controls).items():
        count, entries = blocks.shape
        row = {"scope": scope, "datasets": count, "entries": entries, "statistic": math.nan, "p": math.nan, "note": ""}
        if count < FRIEDMAN_DATASETS:
            row["note"] = f"not tested: {count} data sets, {FRIEDMAN_DATASETS} needed"
        elif entries < 3:
            row["note"] = f"not tested: {entries} entries took part in every data set, 3 needed"
        else:
            result = stats.friedmanchisquare(*blocks.to_numpy().T)
            row |= {"statistic": float(result.statistic), "p": float(result.pvalue)}
        rows.append(row)
    return pd.DataFrame(rows, columns=FRIEDMAN)
