"""Scores of saved models on corrupted test images. Runs in a process that trains nothing.

The corruptions are those of Hendrycks and Dietterich (2019) that keep their meaning on grey images of any size; the same pixels
are changed for every method and seed. The noises are those by which geodesic layers were judged (BMVC 2022): uniform and normal,
at 20 levels.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import ndimage

from morphobench.contract import PRIMARY_METRIC, FrameworkUnavailable, InvalidPlugin
from morphobench.data.preparation import Manifest, images_of_test, labels_of_test, read_manifest, task_of
from morphobench.evaluation import metrics
from morphobench.plugins.discovery import MethodInfo
from morphobench.plugins.loading import Method, load_method
from morphobench.project.files import write_table
from morphobench.runs.plan import Plan
from morphobench.settings.records import Record
from morphobench.training.frameworks import framework_of

__all__ = [
    "COLUMNS",
    "CORRUPTIONS",
    "NOISES",
    "add_noise",
    "collect_robustness",
    "corrupt",
    "noise_levels",
    "rows_of_saved_model",
    "score_corrupted",
]

STREAM = 11  # names the random stream of the corruptions
COLUMNS = [
    *["run", "dataset", "task", "method", "variant", "seed", "corruption", "severity", "strength", "metric", "value"],
    *["status", "message"],
]


def _salt_and_pepper(images: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    chosen, white = rng.random(images.shape) < share, rng.random(images.shape) < 0.5
    return np.where(chosen, white, images)


def _gaussian(images: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    return images + deviation * rng.standard_normal(images.shape)


def _blur(images: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    return ndimage.gaussian_filter(images, (0, 0, deviation, deviation), mode="nearest")


def _contrast(images: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    centre = images.mean(axis=(2, 3), keepdims=True)
    return centre + factor * (images - centre)


# What each does at severity 1 to 5: share of pixels, standard deviation in grey values (the range is 1), standard deviation in
# pixels, factor of the distance to the mean grey value. Fixed before any run.
CORRUPTIONS: dict[str, tuple[Callable[[np.ndarray, float, np.random.Generator], np.ndarray], tuple[float, ...]]] = {
    "salt-and-pepper": (_salt_and_pepper, (0.02, 0.05, 0.1, 0.2, 0.3)),
    "gaussian-noise": (_gaussian, (0.05, 0.1, 0.15, 0.2, 0.3)),
    "blur": (_blur, (0.5, 0.75, 1.0, 1.5, 2.0)),
    "contrast": (_contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),
}


def corrupt(images: np.ndarray, corruption: str, severity: int) -> np.ndarray:
    """Return corrupted images.

    Parameters
    ----------
    images : ndarray
        (N, C, H, W), float32 in [0, 1].
    corruption : str
        Key of `CORRUPTIONS`.
    severity : int
        1 to 5.

    Returns
    -------
    ndarray
        The same shape, float32 in [0, 1]; the same for equal arguments.
    """
    function, strengths = CORRUPTIONS[corruption]
    rng = np.random.default_rng([STREAM, zlib.crc32(corruption.encode()), severity])
    return np.clip(function(images, strengths[severity - 1], rng), 0, 1).astype(np.float32)


# Noise of standard deviation 1.
NOISES: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "uniform": lambda rng, shape: rng.uniform(-(3**0.5), 3**0.5, shape),
    "normal": lambda rng, shape: rng.standard_normal(shape),
}
GREATEST_NOISE = 0.5  # standard deviation in grey values


def noise_levels(count: int) -> np.ndarray:
    """Return so many standard deviations, equally spaced, from none to the greatest.

    Examples
    --------
    >>> noise_levels(3).tolist()
    [0.0, 0.25, 0.5]
    """
    return np.linspace(0.0, GREATEST_NOISE, count)


def add_noise(images: np.ndarray, noise: str, deviation: float) -> np.ndarray:
    """Return images (N, C, H, W) in [0, 1] with one of `NOISES`, float32 and cut to [0, 1]; one draw for all levels."""
    rng = np.random.default_rng([STREAM, zlib.crc32(noise.encode())])
    return np.clip(images + deviation * NOISES[noise](rng, images.shape), 0, 1).astype(np.float32)


class Case(NamedTuple):
    """What is done to the test images, and how strongly."""

    corruption: str
    severity: int
    strength: float


def _cases(severities: Sequence[int], levels: int) -> dict[Case, Callable[[np.ndarray], np.ndarray]]:
    cases: dict[Case, Callable[[np.ndarray], np.ndarray]] = {Case("none", 0, 0.0): lambda images: images}
    for name, (_, strengths) in CORRUPTIONS.items():
        for level in severities:
            cases[Case(name, level, strengths[level - 1])] = partial(corrupt, corruption=name, severity=level)
    for name in NOISES if levels else ():
        for level, deviation in enumerate(noise_levels(levels)[1:].tolist(), start=1):
            cases[Case(f"{name}-noise", level, deviation)] = partial(add_noise, noise=name, deviation=deviation)
    return cases


def score_corrupted(plan: Plan, cell: tuple[str, str, str]) -> None:
    """Write ``robustness.csv`` and ``.parquet`` of one cell (data set, method, variant) beside its trials.

    One row a seed, corruption and severity, with the primary metric of the task; severity 0 is the test set as it is. Of the
    ``noise_datasets`` uniform and normal noise at so many ``noise_levels`` too, the first being none. A model that is not to be
    had is a row with the reason.
    """
    project, run, wanted = plan.project, plan.run, plan.configuration.robustness
    dataset, method, variant = cell
    levels = wanted.noise_levels if dataset in wanted.noise_datasets else 0
    manifest = read_manifest(run.results / "data" / f"{dataset}.json")
    rows: list[dict[str, object]] = []
    if manifest.status == "ok":
        images = images_of_test(project, manifest)
        cases = {case: spoil(images) for case, spoil in _cases(wanted.severities, levels).items()}
        labels, primary = labels_of_test(project, manifest), PRIMARY_METRIC[manifest.task]
        metric = metrics.METRICS[manifest.task][primary]
        shared = {"run": run.results.name, "dataset": dataset, "task": manifest.task, "method": method}
        shared |= {"variant": variant, "metric": primary}
        for seed in plan.configuration.seeds[: wanted.seeds]:
            folder = run.trial(dataset, method, variant, seed)
            found = _rows_of_seed(plan, manifest, folder, cases, lambda scores: metric(scores, labels))
            rows += [{**shared, "seed": seed, **row} for row in found]
    write_table(run.trials.joinpath(*cell, "robustness"), pd.DataFrame(rows, columns=COLUMNS))


def collect_robustness(plan: Plan) -> None:
    """Write the table ``robustness`` of a run from those of its cells."""
    run = plan.run
    parts = [pd.read_parquet(run.trials.joinpath(*cell, "robustness.parquet")) for cell in plan.corrupted_cells]
    parts = [part.astype({"value": "float64"}) for part in parts if len(part)]
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)
    write_table(run.tables / "robustness", table)


def _rows_of_seed(
    plan: Plan,
    manifest: Manifest,
    folder: Path,
    cases: Mapping[Case, np.ndarray],
    judge: Callable[[np.ndarray], float],
) -> list[dict[str, object]]:
    def score(method: Method, model: Any) -> list[dict[str, object]]:
        # A copy, since the images serve every seed and a plugin may write into what it is given.
        return [
            {**case._asdict(), "value": judge(method.predict(model, images.copy())), "status": "ok", "message": ""}
            for case, images in cases.items()
        ]

    nothing = {**Case("none", 0, 0.0)._asdict(), "value": None}
    return rows_of_saved_model(plan, manifest, folder, score, nothing)


def rows_of_saved_model(
    plan: Plan,
    manifest: Manifest,
    folder: Path,
    measure: Callable[[Method, Any], list[dict[str, Any]]],
    nothing: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Return what is measured on the model that a trial saved; where it cannot be, the row ``nothing`` with status and reason."""
    record = Record.read(folder / "record.json")
    status, message = record.status, record.message
    if status == "ok":
        try:
            return measure(*_saved_model(plan, manifest, record, folder))
        except FrameworkUnavailable as error:
            status, message = "unavailable", str(error)
        except Exception as error:  # a model that cannot be read is a row of the table
            status, message = "error", f"{type(error).__name__}: {error}"
    return [{**nothing, "status": status, "message": message}]


def _saved_model(plan: Plan, manifest: Manifest, record: Record, folder: Path) -> tuple[Method, Any]:
    info = plan.plugins.methods[record.method]
    if not isinstance(info, MethodInfo):
        raise InvalidPlugin(info.why)
    framework_of(info.framework).configure_process(plan.configuration.threads)
    method = load_method(info, record.variant)
    model = method.build(task_of(manifest))
    method.framework.load_weights(model, folder / "weights.safetensors")
    return method, model
