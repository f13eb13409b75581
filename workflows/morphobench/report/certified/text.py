"""The sentences about certified and attacked accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from morphobench.report.certified.rows import certified_means, faults, untried
from morphobench.report.formatting import score, sentence_list
from morphobench.report.results import RunResults, entry_of
from morphobench.report.sections import Answer

__all__ = ["answer", "certified_sentences"]

MAJORITY = "majority"


def answer(results: RunResults) -> list[Answer]:
    """Who proves most, at each epsilon; before all that, proofs that do not hold."""
    sentences = [*_false_proofs(results), *_leaders(results)]
    return [Answer(sentences[0], sentences[1:])] if sentences else []


def certified_sentences(results: RunResults) -> list[str]:
    """What holds, who proves most, the variational networks beside the others, and what could not be tried."""
    means = certified_means(results)
    sentences = [*_false_proofs(results), *_leaders(results), *_constants(results), *_beside_others(results, means)]
    if len(means):
        attacked = int(means["proofs_attacked"].sum())
        sentences.append(
            f"Of {attacked} proofs that were attacked, by projected gradients on two losses, none fell; proof, attack and prediction are"
            " those of the network in float64, and the margin is reduced by a bound of its rounding errors."
        )
    for row in untried(results).to_dict("records"):
        where = results.dataset_title(row["dataset"])
        sentences.append(f"“{results.title(entry_of(row))}” could not be tried on {where}: {row['message']}.")
    return sentences


def _false_proofs(results: RunResults) -> Iterator[str]:
    for row in faults(results).drop_duplicates(["dataset", "method", "variant"]).to_dict("records"):
        where = results.dataset_title(row["dataset"])
        yield f"“{results.title(entry_of(row))}” on {where}: {row['message']}; none of its proofs is shown."


def _best(rows: pd.DataFrame) -> dict[Any, Any]:
    return rows.nlargest(1, "certified").to_dict("records")[0]


def _leaders(results: RunResults) -> Iterator[str]:
    means = certified_means(results)
    for dataset in results.datasets_in(means):
        told = []
        for epsilon, rows in means[means["dataset"] == dataset].groupby("epsilon"):
            best = _best(rows)
            told.append(
                f"{score(best['certified'], 'accuracy')} at {epsilon:g} (“{results.title(entry_of(best))}”, clean "
                f"{score(best['clean'], 'accuracy')})"
            )
        yield f"{results.dataset_title(dataset)}: the highest certified accuracy is {sentence_list(told)}."


def _constants(results: RunResults) -> Iterator[str]:
    """Which networks are right no more often than the commonest class is: their proofs are those of one answer for all images."""
    means = results.means
    means = means[(means["split"] == "test") & (means["metric"] == "accuracy")]
    certifying = set(map(entry_of, certified_means(results).to_dict("records")))
    for dataset in results.datasets_in(certified_means(results)):
        rows = means[means["dataset"] == dataset].to_dict("records")
        common = max((row["mean"] for row in rows if row["method"] == MAJORITY), default=0.0)
        no_better = [row for row in rows if entry_of(row) in certifying and row["mean"] <= common]
        if no_better:
            names = sentence_list(f"“{results.title(entry_of(row))}”" for row in no_better)
            yield (
                f"{results.dataset_title(dataset)}: {names} are right no more often than the commonest class is"
                f" ({score(common, 'accuracy')} of the test images): what they prove is one answer for all images."
            )


def _beside_others(results: RunResults, means: pd.DataFrame) -> Iterator[str]:
    """The best variational network beside each other family's best, epsilon by epsilon."""
    means = means.assign(family=[results.family(entry_of(row)) for row in means.to_dict("records")])
    for dataset in results.datasets_in(means):
        ahead: list[str] = []
        behind: list[str] = []
        for epsilon, rows in means[means["dataset"] == dataset].groupby("epsilon"):
            own, others = rows[rows["family"] == "variational"], rows[rows["family"] != "variational"]
            if len(own) and len(others):
                mine, theirs = _best(own), _best(others)
                between = f"{epsilon:g} ({score(mine['certified'], 'accuracy')} against {score(theirs['certified'], 'accuracy')})"
                (ahead if mine["certified_min"] > theirs["certified_max"] else behind).append(between)
        if ahead:
            yield (
                f"{results.dataset_title(dataset)}: every seed of the best variational network is ahead of every seed of the best other one"
                f" at {sentence_list(ahead)}."
            )
        if behind:
            yield (
                f"{results.dataset_title(dataset)}: at {sentence_list(behind)} the seeds of the best variational network and of the best"
                " other one overlap, or the other is ahead."
            )
