"""The sentences about networks that were trained in two frameworks."""

from __future__ import annotations

import math

from morphobench.report.formatting import count, number, percent, seconds, signed
from morphobench.report.results import Entry, RunResults, entry_of

__all__ = ["counterpart_sentences"]


def counterpart_sentences(results: RunResults) -> list[str]:
    """What was seen of each method beside its counterpart."""
    sentences = []
    for _, rows in results.counterparts.groupby(["method", "variant"], sort=True):
        found = rows.to_dict("records")
        entry, other = entry_of(found[0]), Entry(found[0]["counterpart"], found[0]["variant"])
        zero = sum(not math.isnan(row["low"]) and row["low"] <= 0 <= row["high"] for row in found)
        told = sum(not math.isnan(row["low"]) for row in found)
        differences = _span(signed(rows["difference"].min()), signed(rows["difference"].max()))
        ratios = _span(number(rows["fit_ratio"].min()), number(rows["fit_ratio"].max()))
        text = (
            f"“{results.title(entry)}” beside “{results.title(other)}”, the same network and batches by "
            f"{found[0]['framework']} and by {found[0]['counterpart_framework']}: over {count(len(found), 'data set')} the "
            f"mean difference of the test score is {differences}"
        )
        text += f", and {zero} of {told} {percent(results.level)} intervals contain zero" if told else ""
        text += f". Training takes {ratios} times as long"
        if rows["compile_s"].notna().any():
            text += f", after up to {seconds(rows['compile_s'].max())} of compilation in each process"
        sentences.append(f"{text}.")
    return sentences


def _span(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"
