"""The sentence about coverage."""

from __future__ import annotations

from morphobench.report.formatting import count
from morphobench.report.results import RunResults
from morphobench.report.sections import Answer

__all__ = ["answer", "coverage_sentence"]


def answer(results: RunResults) -> list[Answer]:
    """Return how many cells hold a score."""
    return [Answer(coverage_sentence(results))]


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
