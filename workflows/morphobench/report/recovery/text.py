"""The sentences about operator recovery: how often each operator recovered the element, and whether dense gradients helped."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd
from scipy import stats

from morphobench.report.formatting import count, number, percent, sentence_list, signed
from morphobench.report.recovery.rows import CASE, operator_names, operator_title, recovery_runs, success_counts
from morphobench.report.results import RunResults
from morphobench.statistics.inference import proportion_difference, proportion_interval

__all__ = ["Compared", "compare_with", "recovery_sentences"]

SPARSE = "max-plus"  # whose gradient reaches one neighbour of each window
NAMED = 4  # more cases than these are counted instead


class Compared(NamedTuple):
    """One case: successes and runs of an operator and of the max-plus operator, their difference and its interval."""

    case: str
    own: tuple[int, int]
    other: tuple[int, int]
    difference: float
    low: float
    high: float


def compare_with(runs: pd.DataFrame, operator: str, level: float) -> list[Compared]:
    """Compare an operator with the max-plus operator, case by case."""
    counts = success_counts(runs, [*CASE, "operator"])
    found = []
    for (*case, name), own in counts.items():
        other = counts.get((*case, SPARSE))
        if name == operator and other is not None:
            source, operation, element, start = case
            found.append(
                Compared(
                    f"{operation} by {element}, {source}, start {start}",
                    own,
                    other,
                    *proportion_difference(own, other, level),
                )
            )
    return found


def recovery_sentences(results: RunResults) -> list[str]:
    """How often each operator recovered the element, and each variational one beside the max-plus operator."""
    runs = recovery_runs(results)
    if runs.empty:
        return []
    operators, counts = operator_names(runs), success_counts(runs, ["operator"])
    shares = runs.groupby("operator")["gradient_share"].median()
    told = []
    for operator in operators:
        good, tried = counts[(operator,)]
        low, high = proportion_interval(good, tried, results.level)
        told.append(
            f"{operator_title(operator)} {100 * good / tried:.0f} % [{100 * low:.0f}, {100 * high:.0f}] with gradient at "
            f"{number(round(100 * shares[operator], 1))} % of the window"
        )
    cases = len(runs.drop_duplicates(CASE))
    sentences = [
        f"Elements recovered in {count(cases, 'case')} (images, operation, element, start) with "
        f"{count(runs['seed'].nunique(), 'seed')} each, all runs taken together ({percent(results.level)} score interval) and "
        f"the median share of the window with gradient: {'; '.join(told)}."
    ]
    sentences += _start_sentences(runs, operators)
    sentences += _density_sentence(runs)
    if SPARSE in operators:
        sentences += [
            _beside(operator, compare_with(runs, operator, results.level))
            for operator in operators
            if operator != SPARSE
        ]
    return sentences


def _start_sentences(runs: pd.DataFrame, operators: list[str]) -> list[str]:
    """How often each operator recovered the element from each start."""
    starts = list(dict.fromkeys(runs["initialisation"]))
    counts = success_counts(runs, ["initialisation", "operator"])
    told = []
    for start in starts:
        shares = [
            f"{operator_title(operator)} {100 * counts[start, operator][0] / counts[start, operator][1]:.0f} %"
            for operator in operators
            if (start, operator) in counts
        ]
        told.append(f"{start}: {sentence_list(shares)}")
    return [f"By start, {'; '.join(told)}."] if len(starts) > 1 else []


def _density_sentence(runs: pd.DataFrame) -> list[str]:
    """Whether runs whose gradient reaches more of the window recover the element more often."""
    means = runs.groupby([*CASE, "operator"])[["gradient_share", "success"]].mean()
    if len(means) < 3 or means.nunique().min() < 2:
        return []
    correlation = float(stats.spearmanr(means["gradient_share"], means["success"]).statistic)
    return [
        f"Over all {len(means)} combinations of case and operator, the rank correlation (Spearman) between the share of the window "
        f"with gradient and the share of runs that recovered the element is {signed(correlation)}: 1 would mean that the denser "
        f"gradient always recovers more, 0 that density alone tells nothing."
    ]


def _beside(operator: str, compared: list[Compared]) -> str:
    """Say in how many cases an operator recovered the element at least as often as max-plus, and where it did not."""
    worse = sorted((one for one in compared if one.difference < 0), key=lambda one: one.difference)
    surely = [one for one in compared if one.low > 0]
    text = (
        f"{operator_title(operator).capitalize() if operator.startswith('v') else operator_title(operator)} recovered the element "
        f"at least as often as max-plus in {len(compared) - len(worse)} of {count(len(compared), 'case')}, and more often with an "
        f"interval above 0 in {len(surely)}"
    )
    if not worse:
        return f"{text}."
    listed = [
        f"{one.case} ({one.own[0]} against {one.other[0]} of {one.other[1]}, difference {one.difference:+.2f} "
        f"[{one.low:+.2f}, {one.high:+.2f}])".replace("-0", "−0").replace("-1", "−1")
        for one in worse[:NAMED]
    ]
    rest = f", and {count(len(worse) - NAMED, 'further one')} in the table" if len(worse) > NAMED else ""
    return f"{text}; less often in {sentence_list(listed)}{rest}."
