"""Scores finished trials. The only step that reads test labels, in a process that trains nothing."""

from __future__ import annotations

import csv
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from morphobench.contract import PRIMARY_METRIC
from morphobench.data.preparation import labels_of_test, on_images_of, read_manifest
from morphobench.evaluation import metrics
from morphobench.project.errors import UserError
from morphobench.project.files import write_table
from morphobench.project.paths import RunFolder
from morphobench.runs.plan import Plan
from morphobench.settings.records import Record
from morphobench.statistics.tables import SCORES

__all__ = ["collect_tables", "score_dataset", "tried_learning_rates"]


def score_dataset(plan: Plan, dataset: str) -> None:
    """Write ``scores.csv`` of one data set: a row for each seed, split and metric; a failed seed has an empty value."""
    run, project = plan.run, plan.project
    manifest = read_manifest(run.results / "data" / f"{dataset}.json")
    labels = labels_of_test(project, manifest) if manifest.status == "ok" else None
    of_images = manifest.images and manifest.status == "ok"
    on_images = on_images_of(project, plan.datasets[dataset], dataset) if of_images else None
    rows: list[dict[str, object]] = []
    for _, method, variant in (cell for cell in plan.cells if cell[0] == dataset):
        for seed in plan.configuration.seeds:
            rows += _rows(run.trial(dataset, method, variant, seed), labels, on_images)
    write_table(run.trials / dataset / "scores", pd.DataFrame(rows, columns=SCORES).astype({"value": "float64"}))


def _rows(folder: Path, labels: np.ndarray | None, on_images: metrics.OnImages | None) -> list[dict[str, object]]:
    """Rows of one trial."""
    record = Record.read(folder / "record.json")
    primary = PRIMARY_METRIC.get(record.task, "")
    if labels is None or record.status != "ok":
        return [_row(record, "test", primary, None)]
    scores, truth = _predictions(folder, labels)
    found = metrics.score(record.task, scores, truth)
    if on_images is not None:
        found |= metrics.score_on_images(on_images, scores, truth)
    rows = [_row(record, "test", name, value) for name, value in found.items()]
    validation = _validation_score(folder, record)
    if validation is not None:
        rows.append(_row(record, "valid", primary, validation))
    return rows


def _predictions(folder: Path, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores of one trial in the order of the test samples, and their labels."""
    path = folder / "predictions.npz"
    try:
        with np.load(path, allow_pickle=False) as predictions:
            scores, index = predictions["scores"], predictions["index"]
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: not readable ({error}); remove its folder and run again") from error
    order = np.argsort(index)
    return scores[order], labels[index[order]]


def _validation_score(folder: Path, record: Record) -> float | None:
    """Validation metric of the checkpoint that was kept, as the training loop saw it."""
    if record.status != "ok" or record.best_epoch is None:
        return None
    with (folder / "curve.csv").open(encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            if row["split"] == "valid" and int(row["epoch"]) == record.best_epoch:
                return float(row["metric"])
    return None


def _row(record: Record, split: str, metric: str, value: float | None) -> dict[str, object]:
    shared = ("run", "dataset", "task", "method", "variant", "framework", "seed", "status")
    return {name: getattr(record, name) for name in shared} | {"split": split, "metric": metric, "value": value}


def collect_tables(plan: Plan) -> None:
    """Write the tables ``trials`` and ``scores`` of a run from its records and from the scores of each data set."""
    run = plan.run
    folders = [run.trial(*cell, seed) for cell in plan.cells for seed in plan.configuration.seeds]
    trials = [_trial_row(Record.read(folder / "record.json")) for folder in folders]
    write_table(run.tables / "trials", pd.DataFrame(trials))
    datasets = dict.fromkeys(dataset for dataset, _, _ in plan.cells)
    scores = [pd.read_parquet(run.trials / dataset / "scores.parquet") for dataset in datasets]
    write_table(run.tables / "scores", pd.concat(scores, ignore_index=True))


def _trial_row(record: Record) -> dict[str, object]:
    timings = record.timings
    return {
        "run": record.run,
        "dataset": record.dataset,
        "task": record.task,
        "method": record.method,
        "variant": record.variant,
        "family": record.family,
        "framework": record.framework,
        "seed": record.seed,
        "status": record.status,
        "message": record.message,
        "device": _device_name(record),
        "threads": record.threads,
        "fit_s": timings.fit_s,
        "predict_s": timings.predict_s,
        "compile_s": timings.compile_s,
        "import_s": timings.import_s,
        "peak_rss_mb": record.peak_rss_mb,
        "peak_device_mb": record.peak_device_mb,
        "parameters": record.parameters,
        "epochs": record.epochs,
        "learning_rate": record.learning_rate,
        "commit": record.provenance.get("commit", ""),
        "code_hash": record.code_hash,
        "data_hash": record.data_hash,
    }


def tried_learning_rates(run: RunFolder) -> pd.DataFrame:
    """Return the validation score of every learning rate that the trials of a run tried."""
    rows = []
    for path in sorted(run.trials.glob("*/*/*/seed-*/record.json")):
        record = Record.read(path)
        commit = record.provenance.get("commit", "")[:10]
        rows += [
            {
                "dataset": record.dataset,
                "method": record.method,
                "variant": record.variant,
                "learning_rate": float(rate),
                "validation_score": score,
                "commit": commit,
            }
            for rate, score in record.tuning.items()
        ]
    return pd.DataFrame(rows)


def _device_name(record: Record) -> str:
    """Name the processor or GPU that ran the trial."""
    hardware = record.provenance.get("hardware", {})
    named = hardware.get("gpus", []) if record.device == "cuda" else [hardware.get("processor", "")]
    return f"{record.device} ({named[0]})" if named and named[0] else record.device
