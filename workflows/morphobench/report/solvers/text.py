"""The sentences of the report about what operators and solvers cost. Every one is made from numbers and gives them."""

from __future__ import annotations

import numpy as np

from morphobench.report.formatting import count, number, seconds, sentence_list
from morphobench.report.results import RunResults
from morphobench.report.solvers.coupled_solvers import OURS, fastest_sentence, solver_title
from morphobench.report.solvers.layers import PEER, layer_ratios
from morphobench.report.solvers.ratios import case_title, growth_ratios, is_variational, peer_ratios, within
from morphobench.report.study_rows import (
    FRAMEWORK_TITLES,
    device_title,
    instance_name,
    measured,
    ratio_note,
    ratio_text,
)

__all__ = ["device_sentences", "ratio_sentences", "solver_sentences"]


def solver_sentences(results: RunResults) -> list[str]:
    """Cost of the variational dilation beside a depthwise convolution, and of solvers and peers; empty without a study."""
    sentences = [_layer_sentence(results), fastest_sentence(results), _peer_sentence(results)]
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
        place = ", ".join(filter(None, (FRAMEWORK_TITLES.get(framework, framework), name, device_title(device))))
        said.append(f"{place}: {', '.join(parts)}")
    return f"The variational dilation takes, on {instance_name(rows.iloc[0])}: {'; '.join(said)}."


def _peer_sentence(results: RunResults) -> str:
    """Time of other libraries over that of varmorph on the same instance to the same error, forward."""
    table = results.solvers[results.solvers["role"] == "peer"]
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
        text = f"Within the bar that the project sets itself: {within(peers)} of {count(len(peers), 'ratio')} to a peer"
        row = max(peers.to_dict("records"), key=lambda row: row["ratio"] / row["bar"])
        if row["ratio"] > row["bar"]:
            case = f"{case_title(row)} over {row['peer']}, {row['phase']}"
            text += f"; farthest over it: {case}, {number(row['ratio'])} (bar {number(row['bar'])})"
        sentences.append(f"{text}.")
    if len(growth):
        sentences.append(
            f"Within a cost in proportion to the number of window elements: {within(growth)} of "
            f"{count(len(growth), 'ratio')} of a larger window to 3×3."
        )
    return sentences


def device_sentences(results: RunResults) -> list[str]:
    """What was not timed on a GPU; empty where nothing was timed, or where kernels were timed on one."""
    solvers = results.solvers
    if solvers.empty and results.benchmarks.empty and results.ratios.empty:
        return []
    if solvers["device"].str.startswith("cpu").all():
        return ["No GPU was used: all times of operators are CPU times, and no kernel has been timed on a GPU."]
    if not set(solvers["backend"]) & {"kernels", "cuda"}:
        return ["No kernel has been timed on a GPU: varmorph's operators were timed there as tensor code."]
    return []
