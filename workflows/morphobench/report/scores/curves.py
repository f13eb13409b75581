"""How training went: the validation metric over the epochs."""

from __future__ import annotations

import math

import pandas as pd

from morphobench.contract import PRIMARY_METRIC
from morphobench.report.formatting import count, metric_title
from morphobench.report.results import Entry, RunResults
from morphobench.report.style import Absent, Drawing, entry_legend, line_styles, panels

__all__ = ["draw_training", "validation_curves"]


def validation_curves(results: RunResults, dataset: str, entry: Entry) -> pd.DataFrame:
    """Validation metric of one cell with the columns epoch, seed, metric; empty where nothing was recorded."""
    parts = []
    for seed, folder in results.trial_folders(dataset, entry):
        if (folder / "curve.csv").is_file():
            curve = pd.read_csv(folder / "curve.csv")
            parts.append(curve.loc[curve["split"] == "valid", ["epoch", "metric"]].assign(seed=seed))
    parts = [part for part in parts if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["epoch", "metric", "seed"])


def draw_training(results: RunResults) -> Drawing | Absent:
    """Validation metric of every trained method, mean and range over seeds, one panel a data set."""
    name, title = "training-curves", "Training curves"
    curves: dict[str, dict[Entry, pd.DataFrame]] = {}
    for dataset in results.dataset_names:
        found = {entry: validation_curves(results, dataset, entry) for entry in results.entries}
        curves[dataset] = {entry: curve for entry, curve in found.items() if len(curve)}
    curves = {dataset: found for dataset, found in curves.items() if found}
    if not curves:
        return Absent(name, title, "no successful trial has recorded a validation metric")
    styles = line_styles(results)
    entries = [entry for entry in results.entries if any(entry in found for found in curves.values())]
    figure, axes = panels(len(curves), below=0.2 * math.ceil(len(entries) / 2) + 0.2, single_width=5.5)
    for (dataset, found), axis in zip(curves.items(), axes, strict=True):
        for entry, curve in found.items():
            by_epoch = curve.groupby("epoch")["metric"]
            mean, low, high = by_epoch.mean(), by_epoch.min(), by_epoch.max()
            style = styles[entry]
            marker = "o" if len(mean) == 1 else None
            axis.fill_between(mean.index, low, high, color=style.colour, alpha=0.13, linewidth=0)
            axis.plot(mean.index, mean, color=style.colour, linestyle=style.line, marker=marker)
        axis.set_title(results.dataset_title(dataset), wrap=True)
        axis.set_xlabel("epoch")
        axis.set_ylabel(f"validation {metric_title(PRIMARY_METRIC[results.task(dataset)])}")
        axis.locator_params(axis="x", integer=True)
    entry_legend(figure, results, entries, line=True)
    trials = sum(curve["seed"].nunique() for found in curves.values() for curve in found.values())
    caption = (
        f"Validation metric after each epoch: mean over seeds (line) and smallest to largest seed (band), from "
        f"{count(trials, 'trial')}. The checkpoint with the highest validation metric is the one that is tested; methods that certify keep "
        "their last weights."
    )
    return Drawing(name, title, caption, "Line plots of the validation metric.", "tables/trials.csv", figure)
