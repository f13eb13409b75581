"""The sentences of the report about the studies. Every one is made from numbers and gives them."""

from __future__ import annotations

from typing import cast

import pandas as pd

from morphobench.figures.evidence import Evidence
from morphobench.figures.gradients import best_differences, clean_gradients
from morphobench.figures.ratios import case_title, growth_ratios, is_variational, peer_ratios, within
from morphobench.figures.solvers import BACKEND_TITLES, device_title, instance_size
from morphobench.figures.wording import count, number, scientific, seconds, sentence_list

__all__ = ["device_sentences", "gradient_sentences", "ratio_sentences", "solver_sentences"]


def gradient_sentences(evidence: Evidence) -> list[str]:
    """Errors of the gradients by the way they were computed; empty without a study."""
    table = clean_gradients(evidence)
    if table.empty:
        return []
    instances = count(table["instance"].nunique(), "instance")
    said = []
    for series, rows in table[table["mode"].isin(["implicit", "one-step"])].groupby("series"):
        errors = rows["error"]
        said.append(f"{series}: median {scientific(errors.median())}, largest {scientific(errors.max())}")
    sentences = [
        f"Relative error of the gradients against the float64 reference over {instances} and "
        f"{count(table['parameter'].nunique(), 'parameter group')}: {'; '.join(said)}."
    ]
    differences = table[table["mode"] == "finite-differences"]
    if len(differences):
        best = "; ".join(best_differences(table))
        sentences.append(
            f"Finite differences, smallest median error over the steps and the step it is reached at: {best}."
        )
    sentences += [_hull_sentence(evidence.gradients)] if _has_hull(evidence.gradients) else []
    return sentences


def _has_hull(table: pd.DataFrame) -> bool:
    return "hull" in table and bool(table["hull"].notna().any())


def _hull_sentence(table: pd.DataFrame) -> str:
    rows = table[table["hull"].notna()]
    share, outside = float(rows["hull"].min()), float(rows["hull_violation"].max())
    return (
        f"At ties, over {count(rows['instance'].nunique(), 'instance')} made to have them, at least "
        f"{100 * share:.4g} % of the entries of the implicit Jacobian lie between their one-sided derivatives; the "
        f"farthest outside is off by {scientific(outside)}."
    )


def solver_sentences(evidence: Evidence) -> list[str]:
    """Cost of the variational operator beside a depthwise convolution at the largest size; empty without a study."""
    table = evidence.solvers
    table = table[table["phase"].isin(["forward", "backward"]) & pd.to_numeric(table["median_s"]).gt(0)]
    if table.empty:
        return []
    table = table.assign(values=[instance_size(name).values for name in table["instance"]])
    sentences = []
    largest = table[table["values"] == table["values"].max()]
    for key, rows in largest.groupby(["instance", "device"]):
        instance, device = map(str, cast("tuple[str, str]", key))
        times = rows.astype({"median_s": float}).groupby(["solver", "backend", "phase"])["median_s"].median()
        said = []
        for backend in dict.fromkeys(rows.loc[rows["solver"] == "variational", "backend"]):
            for phase in ("forward", "backward"):
                own, peer = ("variational", backend, phase), ("depthwise-convolution", "torch", phase)
                if own in times.index:
                    text = f"{phase} {seconds(times[own])}"
                    if peer in times.index:
                        text += f" ({times[own] / times[peer]:.3g}× a depthwise convolution)"
                    said.append(f"{BACKEND_TITLES.get(str(backend), str(backend))} {text}")
        if said:
            place = f"{instance.replace('x', '×')} ({device_title(device)})"
            sentences.append(f"The variational operator takes, on {place}: {'; '.join(said)}.")
    return sentences


def ratio_sentences(evidence: Evidence) -> list[str]:
    """Times over those of what was timed in turn with the operators; empty without such benchmarks."""
    peers, growth = peer_ratios(evidence), growth_ratios(evidence)
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


def device_sentences(evidence: Evidence) -> list[str]:
    """What was not timed on a GPU; empty where nothing was timed, or where kernels were timed on one."""
    solvers = evidence.solvers
    if solvers.empty and evidence.benchmarks.empty and evidence.ratios.empty:
        return []
    if solvers["device"].astype(str).str.startswith("cpu").all():
        return ["No GPU was used: all times of operators are CPU times, and no kernel has been timed on a GPU."]
    if "cuda" not in set(solvers["backend"]):
        return ["No kernel has been timed on a GPU: varmorph's operators were timed there as tensor code."]
    return []
