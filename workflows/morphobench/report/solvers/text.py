"""The sentences about what operators and solvers cost. Every one is made from numbers and gives them."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd

from morphobench.report.formatting import count, number, power_label, scientific, seconds, sentence_list
from morphobench.report.measurements import (
    device_title,
    framework_title,
    frameworks,
    instance_name,
    measured,
    ratio_note,
    ratio_text,
)
from morphobench.report.results import RunResults
from morphobench.report.sections import Answer
from morphobench.report.solvers.networks import network_sentence
from morphobench.report.solvers.rows import (
    OURS,
    PEER,
    PIXEL_BYTES,
    bandwidths,
    benchmark_table,
    case_title,
    coupled_rows,
    growth_ratios,
    is_variational,
    layer_ratios,
    layer_rows,
    peer_ratios,
    ratio_table,
    solver_table,
    solver_title,
    within,
)

__all__ = [
    "answer",
    "bar_text",
    "device_sentences",
    "fastest_sentence",
    "growth_text",
    "ratio_sentences",
    "solver_sentences",
    "throughput_sentence",
]


def answer(results: RunResults) -> list[Answer]:
    """Return the time of the variational network, or of its layer where no network was trained."""
    return [Answer(sentence) for sentence in solver_sentences(results)[:1]]


def solver_sentences(results: RunResults) -> list[str]:
    """Cost of the variational network and its layer beside a depthwise convolution, and of solvers and peers."""
    sentences = [
        network_sentence(results),
        _layer_sentence(results),
        fastest_sentence(results),
        _peer_sentence(results),
    ]
    return [sentence for sentence in sentences if sentence]


def _layer_sentence(results: RunResults) -> str:
    """Time of the variational dilation at the largest size with the smallest window, by framework and implementation."""
    rows = layer_ratios(results)
    rows = rows[(rows["solver"] == "variational-dilation") & (rows["phase"] != "compile")]
    rows = rows[rows["image_size"] == rows["image_size"].max()]
    rows = rows[rows["kernel_size"] == rows["kernel_size"].min()]
    if rows.empty:
        return ""
    said = []
    for keys, group in rows.groupby(["framework", "device", "series"], sort=False):
        framework, device, series = map(str, np.atleast_1d(np.asarray(keys, dtype=object)))
        parts = []
        for row in group.to_dict("records"):
            ratio = f" ({number(row['ratio'])}× a {solver_title(PEER)})" if row["ratio"] == row["ratio"] else ""
            parts.append(f"{row['phase']} {seconds(row['median_s'])}{ratio}")
        name = series.replace(solver_title("variational-dilation"), "").strip(", ")
        place = ", ".join(filter(None, (framework_title(framework), name, device_title(device))))
        said.append(f"{place}: {', '.join(parts)}")
    return f"The variational dilation takes, on {instance_name(rows.iloc[0])}: {'; '.join(said)}."


def fastest_sentence(results: RunResults) -> str:
    """Which own solver reached the tightest tolerance in the least time, and the others' time over Newton's."""
    rows = coupled_rows(results)
    rows = rows[(rows["median_s"] > 0) & rows["tolerance"].notna()]
    if rows.empty:
        return ""
    tightest = rows["tolerance"].min()
    rows = rows[rows["tolerance"] == tightest]
    keys = ["framework", "family", "instance"]
    times = rows[rows["reached"] == 1].groupby([*keys, "solver"])["median_s"].median().unstack()
    cases = len(rows.groupby(keys))
    text = (
        f"At the tightest tolerance asked, {power_label(tightest)} ({count(cases, 'case')} of instance and framework)"
    )
    if times.empty:
        return f"{text}, no solver reached it."
    wins = times.idxmin(axis=1).value_counts()
    won = sentence_list(f"{solver_title(str(name))} in {times_won}" for name, times_won in wins.items())
    sentences = [f"{text}, the least time was that of {won}."]
    said = []
    for solver in times.columns:
        if solver == "newton" or "newton" not in times:
            continue
        ratios = (times[solver] / times["newton"]).dropna()
        if len(ratios):
            said.append(f"{solver_title(str(solver))} {ratio_text(ratios.to_numpy(), results.level, str(solver))}")
    if said:
        sentences.append(
            f"Time over that of Newton where both reached it ({ratio_note(results.level, 'cases')}): {'; '.join(said)}."
        )
    missed = rows[rows["reached"] == 0].groupby("solver").size()
    if len(missed):
        lost = sentence_list(
            f"{solver_title(str(name))} in {cast('Any', number_of)}" for name, number_of in missed.items()
        )
        sentences.append(f"Not reached: {lost}.")
    return " ".join(sentences)


def _peer_sentence(results: RunResults) -> str:
    """Time of other libraries over that of varmorph on the same instance to the same error, forward."""
    table = solver_table(results)
    table = table[table["role"] == "peer"]
    rows = measured(table)
    keys = ["instance", "framework", "tolerance", "phase"]
    ours = rows[rows["solver"] == OURS].groupby(keys, dropna=False)["median_s"].min().rename("ours").reset_index()
    both = rows[rows["solver"] != OURS].merge(ours, on=keys).query("phase == 'forward' and ours > 0 and median_s > 0")
    both = both[both["reached"] != 0]
    said = []
    for (solver, version), group in both.groupby(["solver", "version"]):
        ratios = (group["median_s"] / group["ours"]).to_numpy()
        said.append(f"{solver} {version} {ratio_text(ratios, results.level, str(solver))}".replace("  ", " "))
    text = (
        f"Forward time of other libraries over that of varmorph on the same instances to the same error "
        f"({ratio_note(results.level)}): {'; '.join(said)}."
        if said
        else ""
    )
    missing = sorted(set(table.loc[table["status"] == "unavailable", "solver"]))
    lost = f"Not installed: {sentence_list(missing)}." if missing else ""
    return f"{text} {lost}".strip()


def throughput_sentence(results: RunResults) -> str:
    """Highest throughput of the variational dilation, as a share of what the copy allows."""
    rows, copied = layer_rows(results), bandwidths(results)
    rows = rows[(rows["solver"] == "variational-dilation") & (rows["phase"] == "forward") & (rows["pixels_per_s"] > 0)]
    said = []
    for framework in frameworks(rows):
        best = max(rows[rows["framework"] == framework].to_dict("records"), key=lambda row: row["pixels_per_s"])
        text = f"{framework_title(framework)} {scientific(best['pixels_per_s'])} ({best['series']})"
        if framework in copied and best["dtype"] in PIXEL_BYTES:
            share = best["pixels_per_s"] * PIXEL_BYTES[best["dtype"]] / copied[framework]
            text += f", {number(100 * share)} % of the bandwidth line ({copied[framework] / 1e9:.3g} GB/s)"
        said.append(text)
    return (
        f"Highest forward throughput of the variational dilation in pixels per second: {'; '.join(said)}."
        if said
        else ""
    )


def ratio_sentences(results: RunResults) -> list[str]:
    """Times over those of what was timed in turn with the operators; empty without such benchmarks."""
    peers, growth = peer_ratios(results), growth_ratios(results)
    own = peers[peers["operator"].map(is_variational).astype(bool)]
    said = []
    for (_, operator, window, phase), rows in own.groupby(["run", "operator", "window", "phase"], sort=False):
        times = (
            f"{number(row['ratio'])} times {row['peer']} (bar {number(row['bar'])})" for row in rows.to_dict("records")
        )
        said.append(f"{case_title({'operator': operator, 'window': window})} takes, {phase}, {sentence_list(times)}")
    sentences = [f"Timed in turn with what it replaces, {'; '.join(said)}."] if said else []
    if len(peers):
        text = bar_text(peers)
        row = max(peers.to_dict("records"), key=lambda row: row["ratio"] / row["bar"])
        if row["ratio"] > row["bar"]:
            case = f"{case_title(row)} over {row['peer']}, {row['phase']}"
            text += f"; farthest over it: {case}, {number(row['ratio'])} (bar {number(row['bar'])})"
        sentences.append(f"{text}.")
    if len(growth):
        sentences.append(f"{growth_text(growth)}.")
    return sentences


def bar_text(peers: pd.DataFrame) -> str:
    """How many of the ratios to peers are within their bar."""
    return f"Within the bar that the project sets itself: {within(peers)} of {count(len(peers), 'ratio')} to a peer"


def growth_text(growth: pd.DataFrame) -> str:
    """How many of the ratios to the smallest window are within their bar."""
    return (
        f"Within a cost in proportion to the number of window elements: {within(growth)} of "
        f"{count(len(growth), 'ratio')} of a larger window to 3×3"
    )


def device_sentences(results: RunResults) -> list[str]:
    """What was not timed on a GPU; empty where nothing was timed, or where kernels were timed on one."""
    solvers = solver_table(results)
    if solvers.empty and benchmark_table(results).empty and ratio_table(results).empty:
        return []
    if solvers["device"].str.startswith("cpu").all():
        return ["No GPU was used: all times of operators are CPU times, and no kernel has been timed on a GPU."]
    if not set(solvers["backend"]) & {"kernels", "cuda"}:
        return ["No kernel has been timed on a GPU: varmorph's operators were timed there as tensor code."]
    return []
