"""The protocol: how methods were trained and tested."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from morphobench.report.formatting import count, percent, sentence_list
from morphobench.report.results import RunResults

__all__ = ["protocol"]


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
    if budget.get("shift"):
        parts.append(f"training images shifted by up to {count(int(budget['shift']), 'pixel')}")
    return ", ".join(parts) or "not stated"
