"""The sentences about corrupted test images."""

from __future__ import annotations

from itertools import groupby

from morphobench.contract import PRIMARY_METRIC
from morphobench.report.formatting import metric_title, score, signed
from morphobench.report.results import Entry, RunResults, entry_of
from morphobench.report.robustness.rows import NOISES, corrupted_means, losses, robustness_table

__all__ = ["noise_sentences", "robustness_sentences"]


def robustness_sentences(results: RunResults) -> list[str]:
    """Which method loses least on each data set, beside the baseline, and what could not be tried."""
    sentences = []
    for dataset, group in groupby(losses(results), key=lambda loss: loss["dataset"]):
        rows, metric = list(group), PRIMARY_METRIC[results.task(dataset)]
        said = [
            f"{how} by “{results.title(entry_of(row))}” ({signed(-row['all'], metric)} from {score(row['clean'], metric)})"
            for how, row in (("least", rows[0]), ("most", rows[-1]))
        ]
        text = (
            f"{results.dataset_title(dataset)}: over all corruptions and severities {metric_title(metric)} falls {said[0]}, "
            f"{said[1]}"
        )
        baseline = [signed(-row["all"], metric) for row in rows if entry_of(row) == results.baseline]
        sentences.append(f"{text}; the baseline changes by {baseline[0]}." if baseline else f"{text}.")
    sentences += noise_sentences(results)
    table = robustness_table(results)
    failed = table[table["status"] != "ok"]
    for row in failed.drop_duplicates(["dataset", "method", "variant"]).to_dict("records"):
        sentences.append(
            f"“{results.title(entry_of(row))}” could not be tried on {results.dataset_title(row['dataset'])}: {row['message']}."
        )
    return sentences


def noise_sentences(results: RunResults) -> list[str]:
    """Mean score over all levels of noise on each data set: who keeps most and least, and the baseline."""
    means, sentences = corrupted_means(results), []
    means = means[means["corruption"].isin(NOISES)]
    for dataset in results.datasets_in(means):
        metric = PRIMARY_METRIC[results.task(dataset)]
        mine = means[means["dataset"] == dataset]
        by_entry = mine.groupby(["method", "variant"])["mean"].mean().sort_values(ascending=False)
        entries = [Entry(*map(str, key)) for key in by_entry.index]
        told = [
            f"“{results.title(entry)}” {score(value, metric)}"
            for entry, value in zip(entries, by_entry, strict=True)
            if entry in (entries[0], entries[-1], results.baseline)
        ]
        sentences.append(
            f"{results.dataset_title(dataset)} under uniform and normal noise, mean {metric_title(metric)} over all levels above "
            f"none: {'; '.join(dict.fromkeys(told))} (highest, {'baseline, ' if len(told) > 2 else ''}lowest)."
        )
    return sentences
