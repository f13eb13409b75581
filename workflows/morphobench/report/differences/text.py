"""The sentences about differences to the baseline. Every one is made from numbers and gives them; none judges without one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from morphobench.report.formatting import (
    count,
    interval,
    mean_and_interval,
    metric_title,
    percent,
    sentence_list,
    signed,
)
from morphobench.report.results import Entry, RunResults, entry_of
from morphobench.report.sections import Answer
from morphobench.statistics.inference import seeds_needed

__all__ = ["answer", "difference_sentence", "significance_sentence", "variational_differences"]

Row = Mapping[Any, Any]


def answer(results: RunResults) -> list[Answer]:
    """Return the variational methods against the baseline, one by one, and what may be called significant."""
    asked = variational_differences(results)
    first = "There is no comparison: no data set has a score of a variational method and of the baseline."
    if asked:
        first = _summary(results, asked)
    return [Answer(first, [difference_sentence(results, row) for row in asked]), Answer(significance_sentence(results))]


def variational_differences(results: RunResults) -> list[Row]:
    """Rows of the differences that are about variational methods, in the order of the data sets."""
    order = {name: place for place, name in enumerate(results.dataset_names)}
    rows = [row for row in results.differences.to_dict("records") if results.family(entry_of(row)) == "variational"]
    return sorted(rows, key=lambda row: order[row["dataset"]])


def _verdict(row: Row) -> str:
    if math.isnan(row["low"]):
        return "none"
    return "higher" if row["low"] > 0 else "lower" if row["high"] < 0 else "undecided"


def _summary(results: RunResults, rows: Sequence[Row]) -> str:
    """Count the comparisons by where their interval lies."""
    verdicts = [_verdict(row) for row in rows]
    methods = sentence_list(dict.fromkeys(f"“{results.title(entry_of(row))}”" for row in rows))
    says = {
        "higher": "above zero (the variational method scores higher)",
        "lower": "below zero (the variational method scores lower)",
        "undecided": "on both sides of zero (neither is shown)",
    }
    parts = [f"in {verdicts.count(key)} it lies {text}" for key, text in says.items()]
    if "none" in verdicts:
        parts.append(f"in {verdicts.count('none')} there is none")
    base = f"“{results.title(results.baseline)}”" if results.baseline else "the baseline"
    return (
        f"{methods} against {base}: {count(len(rows), 'comparison')} (one a method and data set). Of the "
        f"{percent(results.level)} intervals of the paired difference, {'; '.join(parts)}."
    )


def difference_sentence(results: RunResults, row: Row) -> str:
    """One paired difference with its interval, and the two means it is between."""
    metric, entry = row["metric"], entry_of(row)
    means = results.primary_means()
    means = means[means["dataset"] == row["dataset"]].set_index(["method", "variant"])

    def mean(of: Entry | None) -> str:
        if of is None or of not in means.index:
            return "—"
        return mean_and_interval(means.loc[[of]].iloc[0])

    bounds = interval(row["low"], row["high"], metric, difference=True)
    verdict = {
        "higher": "higher, the interval excludes zero",
        "lower": "lower, the interval excludes zero",
        "undecided": "the interval contains zero",
        "none": f"no interval: {row['interval']}",
    }[_verdict(row)]
    text = (
        f"{results.dataset_title(row['dataset'])}, “{results.title(entry)}”: test {metric_title(metric)} "
        f"{mean(entry)} against {mean(results.baseline)}; difference {signed(row['difference'], metric)} {bounds}"
    )
    return f"{text.strip()} over {count(int(row['seeds']), 'paired seed')} ({verdict})."


def significance_sentence(results: RunResults) -> str:
    """What may be called significant, and how many seeds would do."""
    tested = results.differences[results.differences["comparisons"] > 0]
    if tested.empty:
        return "No significance is claimed: nothing was compared with the baseline."
    alpha = 1 - results.level
    claims = tested[tested["claim"].isin(["higher", "lower"])]
    reported = tested[tested["p"].notna()]
    family = int(tested["comparisons"].max())
    text = (
        f"With {count(int(tested['seeds'].max()), 'seed')} and {count(family, 'comparison')} on a data set (Holm), a "
        f"two-sided sign-flip test at {alpha:g} needs {count(seeds_needed(family, alpha), 'seed')}; a single "
        f"comparison needs {seeds_needed(1, alpha)}"
    )
    if reported.empty:
        return f"No significance is claimed. {text}."
    return f"{text}. Of {count(len(reported), 'tested comparison')}, {len(claims)} are significant after Holm."
