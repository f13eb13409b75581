"""The sentences about ranks."""

from __future__ import annotations

import math

from morphobench.report.formatting import count, sentence_list
from morphobench.report.results import RunResults

__all__ = ["ranking_sentences"]


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
