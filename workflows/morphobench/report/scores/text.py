"""The sentences of the report about scores. Every one is made from numbers and gives them; none judges without one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from morphobench.report.formatting import count, interval, metric_title, score, sentence_list, signed
from morphobench.report.gradients.text import gradient_sentences
from morphobench.report.results import Entry, RunResults, entry_of
from morphobench.report.scores.figures import percent
from morphobench.report.solvers.text import solver_sentences
from morphobench.statistics.inference import seeds_needed

__all__ = [
    "coverage_sentence",
    "difference_sentence",
    "protocol",
    "question",
    "ranking_sentences",
    "short_answer",
    "significance_sentence",
    "variational_differences",
]

Row = Mapping[Any, Any]


def question(results: RunResults) -> str:
    """Return the question the run asks."""
    baseline = results.baseline
    other = f"“{results.title(baseline)}”" if baseline else "the other methods"
    return (
        "Does a variational morphological operator, put in the place of the spatial operator of an otherwise equal "
        f"network, score higher than {other}? How exact are its gradients, and what does it cost?"
    )


def short_answer(results: RunResults) -> list[str]:
    """Return the answer: the variational methods against the baseline, then gradients, cost and coverage."""
    asked = variational_differences(results)
    first = "There is no comparison: no data set has a score of a variational method and of the baseline."
    if asked:
        first = _summary(results, asked)
    rest = [significance_sentence(results), *gradient_sentences(results)[:1], *solver_sentences(results)[:1]]
    return [first, *rest, coverage_sentence(results)]


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
        found = means.loc[[of]].iloc[0]
        return f"{score(found['mean'], metric)} {interval(found['low'], found['high'], metric)}".strip()

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


def coverage_sentence(results: RunResults) -> str:
    """How many cells hold a score, and why the others do not."""
    ok = results.trials["status"] == "ok"
    cells = results.trials.assign(ok=ok).groupby(["dataset", "method", "variant"])
    total, complete, some = cells.ngroups, int(cells["ok"].all().sum()), cells["ok"].any()
    empty = cells["status"].first()[~some].str.replace("_", " ")
    reasons = [f"{reason} {times}" for reason, times in empty.value_counts().items()]
    text = f"Of {count(total, 'cell')} (data set × method), {complete} have a score from every seed"
    text += f", {int(some.sum()) - complete} from some seeds and {len(empty)} have none"
    return f"{text} ({', '.join(reasons)})." if reasons else f"{text}."


def ranking_sentences(results: RunResults) -> list[str]:
    """What the average ranks rest on, and whether Friedman's test applies."""
    sentences = []
    for scope, rows in results.ranking[results.ranking["scope"] != "dataset"].groupby("scope", sort=True):
        names = str(rows["datasets"].iloc[0]).split()
        what = "all data sets" if scope == "all" else f"the {str(scope).replace('_', ' ')} data sets"
        sentences.append(
            f"Average rank over {what} ({len(names)}: {sentence_list(map(results.dataset_title, names))}) among the "
            f"{count(len(rows), 'method')} that took part in every one of them, controls left out."
        )
    for row in results.friedman.to_dict("records"):
        if row["scope"] == "all":
            told = f"χ² = {row['statistic']:.3g}, p = {row['p']:.3g}" if not math.isnan(row["p"]) else row["note"]
            sentences.append(f"Friedman's test that all of them rank alike: {told}.")
    return sentences


def protocol(results: RunResults) -> list[tuple[str, str]]:
    """Terms and values of the training and testing protocol."""
    config = results.config
    budget = dict(config.get("budget", {}))
    special = [entry for entry in config.get("datasets", []) if isinstance(entry, dict) and entry.get("budget")]
    done = results.trials[results.trials["status"] == "ok"]
    tuning = config.get("tuning", {})
    modes = {
        "stored": "the one stored in each method.yaml",
        "grid": f"the best on the validation split of {sentence_list(f'{rate:g}' for rate in tuning.get('grid', []))}",
    }
    seeds = config.get("seeds", sorted(results.trials["seed"].unique()))
    alpha = 1 - results.level
    rows = [
        ("Budget of a trial", _budget(budget)),
        *((f"Budget on {results.dataset_title(entry['name'])}", _budget(entry["budget"])) for entry in special),
        ("Seeds", f"{', '.join(map(str, seeds))}; every method gets the same ones, so that differences are paired"),
        ("Learning rate", modes.get(tuning.get("mode", ""), "as each method states it")),
        ("Threads of a trial", str(config.get("threads", "not stated"))),
        ("Devices of the trials", sentence_list(sorted(map(str, done["device"].unique()))) or "none"),
        (
            "Test data",
            "read once, by the step that scores the predictions; the checkpoint is chosen on validation data",
        ),
        (
            "Intervals",
            f"{percent(results.level)}, BCa bootstrap over seeds (9,999 resamples); none below three seeds or if all "
            "seeds agree. With few seeds such an interval covers less often than its level says.",
        ),
        (
            "Tests",
            f"sign-flip permutation of paired differences, Holm within a data set, family-wise error {alpha:g}; "
            "reported only where the number of seeds can reach it",
        ),
        (
            "Failures",
            "a method with a failed seed ranks behind every method without one; means are over the seeds that "
            "succeeded",
        ),
    ]
    if results.dropped:
        rows.append(("Included runs", f"{count(results.dropped, 'trial')} that an earlier run has too were left out"))
    return rows


def _budget(budget: Mapping[str, Any]) -> str:
    titles = {
        "batch_size": "batches of {}",
        "steps_per_epoch": "not more than {} batches an epoch",
        "timeout_s": "time limit {} s",
        "memory_mb": "memory limit {} MiB",
    }
    parts = [count(int(budget["epochs"]), "epoch")] if budget.get("epochs") else []
    parts += [text.format(budget[key]) for key, text in titles.items() if budget.get(key) is not None]
    return ", ".join(parts) or "not stated"
