"""What the report says of networks that were trained in two frameworks: a table and a sentence for each."""

from __future__ import annotations

import math

from morphobench.report.formatting import count, interval, metric_title, number, seconds, signed
from morphobench.report.results import Entry, RunResults, entry_of
from morphobench.report.scores.figures import percent
from morphobench.report.scores.tables import Cell, Exhibit, number_cell

__all__ = ["counterpart_sentences", "counterparts"]


def counterparts(results: RunResults) -> Exhibit:
    """Every method beside its counterpart: paired difference, time of training and prediction, compilation."""
    order = {name: place for place, name in enumerate(results.dataset_names)}
    rows = []
    for row in sorted(results.counterparts.to_dict("records"), key=lambda row: (row["method"], order[row["dataset"]])):
        bounds = interval(row["low"], row["high"], row["metric"], difference=True) or f"({row['interval']})"
        rows.append(
            [
                Cell(results.title(entry_of(row))),
                Cell(results.title(Entry(row["counterpart"], row["variant"]))),
                Cell(results.dataset_title(row["dataset"])),
                Cell(metric_title(row["metric"])),
                Cell(signed(row["difference"], row["metric"]), float(row["difference"]), detail=bounds),
                number_cell(row["seeds"]),
                number_cell(row["fit_s"], seconds),
                number_cell(row["counterpart_fit_s"], seconds),
                number_cell(row["fit_ratio"]),
                number_cell(row["predict_ratio"]),
                number_cell(row["compile_s"], seconds),
            ]
        )
    columns = [
        *("Method", "Beside", "Data set", "Metric", "Difference", "Pairs", "Training", "Training beside"),
        *("Ratio of training", "Ratio of prediction", "Compilation, not in these"),
    ]
    caption = (
        "The same trial in two frameworks: test score minus that of the counterpart, paired by seed [interval]; median times "
        "and median ratios of the pairs"
    )
    return Exhibit("counterparts", caption, columns, rows, "counterparts.csv", frozenset(range(4, 11)))


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
