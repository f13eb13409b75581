"""A made-up run with what a real one can show: every failure, a missing cell, equal seeds, a lost data set."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from study_tables import gradient_table, solver_table

from morphobench.contract import PRIMARY_METRIC, Split
from morphobench.project.files import write_table
from morphobench.project.paths import Project, RunFolder
from morphobench.report import style
from morphobench.report.drawing import draw_figures
from morphobench.report.results import RunResults, read_run_results
from morphobench.statistics import inference
from morphobench.statistics.comparisons import compare_methods
from morphobench.studies import benchmarks
from morphobench.studies.tables import study_table

SEEDS = range(6)
METHODS = {  # title, family, framework, tasks, level of skill, parameters
    "backbone-depthwise": ("Backbone, depthwise convolution", "cnn", "torch", "cs", 0.96, 7_000),
    "backbone-maxplus": ("Backbone, max-plus", "morphology", "torch", "cs", 0.945, 7_100),
    "backbone-none": ("Backbone without spatial operator", "cnn", "torch", "cs", 0.80, 5_900),
    "backbone-variational": ("Backbone, variational operator", "variational", "torch", "cs", 0.95, 8_300),
    "broken": ("broken", "control", "numpy", "cs", 0.0, 0),
    "chance": ("Chance", "control", "numpy", "cs", 0.1, 0),
    "linear": ("Linear model", "classical", "numpy", "c", 0.90, 7_850),
    "majority": ("Majority <class> & co", "control", "numpy", "cs", 0.11, 0),
    "resnet18": ("ResNet-18", "cnn", "torch", "c", 0.985, 11_000_000),
    "unet": ("U-Net", "cnn", "torch", "s", 0.93, 480_000),
}
DATASETS = {
    "digits": ("Digits (8×8)", "classification", "ok"),
    "mnist5k": ("MNIST, 5,000 images", "classification", "ok"),
    "degraded-digits": ("Degraded digits", "segmentation", "ok"),
    "vessels": ("Synthetic vessels", "segmentation", "ok"),
    "medmnist.breast": ("BreastMNIST", "classification", "unavailable"),
}
FAILURES = {
    ("digits", "resnet18", 3): ("timeout", "the time limit of 600 s has passed"),
    ("mnist5k", "linear", 1): ("error", "ValueError: <b>bad</b> input & more"),
    ("vessels", "backbone-maxplus", 0): ("diverged", "loss is nan in epoch 2"),
    ("vessels", "backbone-maxplus", 4): ("diverged", "loss is nan in epoch 1"),
    **{("vessels", "unet", seed): ("out_of_memory", "6000 MiB exceeded") for seed in SEEDS},
}
OTHER_METRICS = {"classification": ("auc", "ece"), "segmentation": ("iou", "cldice", "hd95")}


def cells() -> list[tuple[str, str, str]]:
    """Every (data set, method, variant) of the made-up run; resnet18 runs on digits alone."""
    found = []
    for dataset, (_, task, _) in DATASETS.items():
        for method, (_, _, _, tasks, _, _) in METHODS.items():
            if task[0] in tasks and not (method == "resnet18" and dataset != "digits"):
                variants = ("default", "two-sided") if method == "backbone-variational" else ("default",)
                found += [(dataset, method, variant) for variant in variants]
    return found


def outcome(dataset: str, method: str, seed: int) -> tuple[str, str]:
    """Status and message of a trial."""
    if DATASETS[dataset][2] != "ok":
        return "unavailable", "not available: breastmnist.npz is not in MORPHOBENCH_DATA and there is no network"
    if method == "broken":
        return "invalid", "methods/broken/method.py, line 3: syntax error: invalid syntax"
    return FAILURES.get((dataset, method, seed), ("ok", ""))


def test_split(dataset: str) -> Split:
    """Eight images with a bright disc each; the truth is the disc."""
    rng = np.random.default_rng(len(dataset))
    grid = np.indices((24, 24))
    centres = rng.uniform(7, 17, (8, 2, 1, 1))
    truth = (((grid - centres) ** 2).sum(axis=1) < 36).astype(np.int64)
    images = np.clip(0.25 + 0.5 * truth[:, None] + rng.normal(0, 0.12, (8, 1, 24, 24)), 0, 1)
    return Split(images.astype(np.float32), truth)


test_split.__test__ = False  # type: ignore[attr-defined]


def write_run(scratch: Project, name: str = "made-up", seeds: range = SEEDS) -> RunFolder:
    """Write the results of a run below ``scratch`` and return its folders."""
    run = scratch.run(name)
    (run.results / "tables").mkdir(parents=True)
    baseline = {"baseline": "backbone-depthwise", "alpha": 0.05}
    config = {"run": name, "datasets": list(DATASETS), "seeds": list(seeds), "budget": {"epochs": 5, "batch_size": 64}}
    config |= {"statistics": baseline, "report": {"include": []}, "threads": 1, "tuning": {"mode": "stored"}}
    (run.results / "config.yaml").write_text(yaml.safe_dump(config))
    _write_manifests(run)
    trials, scores = [], []
    for dataset, method, variant in cells():
        for seed in seeds:
            trial, rows = _trial(run, dataset, method, variant, seed)
            trials.append(trial)
            scores += rows
    write_table(run.tables / "trials", pd.DataFrame(trials))
    write_table(run.tables / "scores", pd.DataFrame(scores))
    _write_studies(run.studies)
    return run


def _write_manifests(run: RunFolder) -> None:
    for folder in ("plugins", "data"):
        (run.results / folder).mkdir(parents=True, exist_ok=True)
    for method, (title, family, framework, tasks, _, _) in METHODS.items():
        kinds = [kind for kind in ("classification", "segmentation") if kind[0] in tasks]
        content = {"name": method, "title": title, "family": family, "framework": framework, "tasks": kinds}
        content |= {"summary": f"What {title} does.", "references": ["10.1007/978-3-319-18720-4_40"]}
        content |= {"citation": f"Author, {title}, 2020", "status": "ok", "message": "", "params": {"width": 16}}
        if method == "broken":
            content = {"name": method, "title": method, "status": "invalid", "message": outcome("digits", method, 0)[1]}
        (run.results / "plugins" / f"{method}.json").write_text(json.dumps(content))
    for dataset, (title, task, status) in DATASETS.items():
        content = {"id": dataset, "title": title, "task": task, "licence": "CC BY 4.0", "citation": f"Owner of {title}"}
        content |= {"status": status, "message": outcome(dataset, "unet", 0)[1] if status != "ok" else ""}
        content |= {"splits": {"train": 800, "valid": 100, "test": 200} if status == "ok" else {}, "summary": ""}
        content |= {
            "input_shape": [1, 24, 24],
            "outputs": 2,
            "class_names": ["a", "b"],
            "data_hash": "0123456789abcdef",
        }
        (run.results / "data" / f"{dataset}.json").write_text(json.dumps(content))
    environment = {"versions": {"python": "3.11.2", "torch": "2.13.0"}, "commit": "cf22065" + 33 * "0", "dirty": True}
    environment["hardware"] = {"processor": "Example CPU", "cores": 2, "memory_gb": 15.6, "system": "Linux x86_64"}
    (run.results / "environment.json").write_text(json.dumps(environment))


def _trial(run: RunFolder, dataset: str, method: str, variant: str, seed: int) -> tuple[dict, list[dict]]:
    _, family, framework, _, skill, parameters = METHODS[method]
    task = DATASETS[dataset][1]
    status, message = outcome(dataset, method, seed)
    rng = np.random.default_rng([seed, *map(ord, dataset + method + variant)])
    key = {"run": run.results.name, "dataset": dataset, "task": task, "method": method, "variant": variant}
    done = status == "ok"
    fit = (0.01 if framework == "numpy" else 3 + parameters**0.4) * rng.uniform(0.9, 1.2)
    trial = key | {"family": family, "framework": framework, "seed": seed, "status": status, "message": message}
    trial |= {"device": "cpu", "threads": 1, "fit_s": fit if done else None, "predict_s": fit / 40 if done else None}
    trial |= {"compile_s": None, "import_s": 2.5, "peak_rss_mb": 400 + parameters / 1e4, "peak_device_mb": None}
    trained = done and framework == "torch"
    trial |= {"parameters": parameters if done else None, "epochs": 5 if trained else None}
    trial |= {"learning_rate": 1e-3 if trained else None, "commit": "cf22065", "code_hash": "aa", "data_hash": "bb"}
    key |= {"framework": framework, "seed": seed, "status": status}
    primary = PRIMARY_METRIC[task]
    if not done:
        return trial, [key | {"split": "test", "metric": primary, "value": None}]
    spread = 0.0 if method == "majority" else 0.006
    value = float(np.clip(skill - 0.02 * (task[0] == "s") + rng.normal(0, spread), 0, 1))
    rows = [key | {"split": "test", "metric": primary, "value": value}]
    for metric in OTHER_METRICS[task]:
        other = {"ece": 1 - value, "hd95": 20 * (1 - value)}.get(metric, math.sqrt(value))
        rows.append(key | {"split": "test", "metric": metric, "value": other})
    folder = run.trial(dataset, method, variant, seed)
    folder.mkdir(parents=True)
    if trained:
        rows.append(key | {"split": "valid", "metric": primary, "value": value + 0.003})
        _write_curve(folder, value, rng)
        _write_learned(folder, family, rng)
    if task == "segmentation":
        _write_predictions(folder, dataset, value, rng)
    return trial, rows


def _write_curve(folder: Path, value: float, rng: np.random.Generator) -> None:
    rows = []
    for epoch in range(1, 6):
        metric = value * (1 - 0.6 * math.exp(-epoch)) + rng.normal(0, 0.004)
        rows += [(epoch, split, 1 - metric, metric, 1.5 * epoch) for split in ("train", "valid")]
    pd.DataFrame(rows, columns=["epoch", "split", "loss", "metric", "seconds"]).to_csv(
        folder / "curve.csv", index=False
    )


def _write_learned(folder: Path, family: str, rng: np.random.Generator) -> None:
    if family not in ("variational", "morphology"):
        return
    learned = {}
    for layer in ("stage1.0.operator", "stage2.0.operator"):
        learned[f"{layer}:bias"] = rng.normal(0, 0.4, (16, 3, 3)).astype(np.float32)
        if family == "variational":
            learned[f"{layer}:weight"] = np.exp(rng.normal(0, 0.4, (16, 3, 3))).astype(np.float32)
            learned[f"{layer}:level"] = rng.uniform(0.05, 0.95, 16).astype(np.float32)
    np.savez(folder / "learned.npz", **learned)


def _write_predictions(folder: Path, dataset: str, value: float, rng: np.random.Generator) -> None:
    truth = test_split(dataset).labels
    wrong = rng.random(truth.shape) > value
    predicted = np.where(wrong, 1 - truth, truth)
    scores = np.stack([1.0 - predicted, predicted], axis=1).astype(np.float32)
    np.savez(folder / "predictions.npz", scores=scores, index=np.arange(len(truth)))


def _write_studies(folder: Path) -> None:
    write_table(folder / "gradients", gradient_table())
    write_table(folder / "solvers", solver_table())
    rows = []
    for phase in ("forward", "backward"):
        for operator, implementation, seconds in (
            ("variational dilation", "varmorph (kernel)", 14e-3),
            ("dilation", "varmorph (kernel)", 1.2e-3),
            ("dilation", "SciPy", 210e-3),
            ("dilation", "kornia", 340e-3),
            ("max-pooling", "max_pool2d", 46e-3),
            ("convolution", "depthwise Conv2d", 9.7e-3),
        ):
            time = {"median_s": seconds, "q25_s": 0.95 * seconds, "q75_s": 1.1 * seconds}
            case = {"window": "3x3", "shape": "4x8x64x64", "phase": phase, "threads": 1, "processor": "Example CPU"}
            ratio = {"ratio_depthwise_conv": seconds / 9.7e-3}
            rows.append({"operator": operator, "implementation": implementation} | case | time | ratio)
    write_table(folder / "benchmarks", study_table(rows, benchmarks.COLUMN_TYPES))
    write_table(folder / "ratios", study_table(_ratio_rows(), benchmarks.RATIO_TYPES))


def _ratio_rows() -> list[dict]:
    rows = []
    for operator, window, peer, ratio, bar in (
        ("variational_dilation", 3, "a depthwise Conv2d, contiguous", 1.9, 2.2),
        ("variational_dilation", 3, "a depthwise Conv2d, channels last", 1.25, 2.2),
        ("dilation, non-flat", 3, "max_pool2d, contiguous", 0.5, 0.8),
        ("dilation, non-flat", 3, "kornia, unfold", 0.06, 0.03),
        *(("variational_dilation", window, "3 x 3", ratio, window**2 / 9) for window, ratio in ((5, 2.5), (15, 30.0))),
    ):
        row = {"operator": operator, "window": f"{window}x{window}", "shape": "4x8x64x64", "threads": 1}
        row |= {"phase": "forward and backward", "peer": peer, "ratio": ratio, "bar": bar, "rounds": 50}
        rows.append(row | {"processor": "Example CPU"})
    return rows


@pytest.fixture(scope="session", autouse=True)
def _few_resamples() -> Iterator[None]:
    """A tenth of the resamples, to save time; no test here asks for the third digit of an interval."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "RESAMPLES", 999)
        yield


@pytest.fixture(scope="session")
def made_up_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="session")
def made_up_run(made_up_project: Project) -> RunFolder:
    run = write_run(made_up_project)
    config = yaml.safe_load((run.results / "config.yaml").read_text())
    compare_methods(run.tables, run.statistics, config)
    return run


@pytest.fixture(scope="session")
def made_up_figures(made_up_run: RunFolder) -> list[dict]:
    """The figures of the made-up run, as SVG alone to save time; what ``figures.json`` holds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "FORMATS", ("svg",))
        patch.setattr(RunResults, "test_split", lambda results, dataset: test_split(dataset))
        return draw_figures(made_up_run, made_up_run.report / "figures")


@pytest.fixture
def empty(tmp_path: Path) -> RunResults:
    """What is known of a run that has nothing."""
    return read_run_results(Project(tmp_path).run("made-up"))
