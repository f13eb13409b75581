"""Prepares a data set once for all trials: arrays on disk, a manifest beside the results.

Trials read the arrays and never import dataset plugins; they are given no test labels: `labels_of_test` is for scoring.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from morphobench.contract import SPLITS, AnySplit, DataUnavailable, GraphSplit, InvalidPlugin, Split, Task
from morphobench.contract.graphs import flaw_of, same_graph
from morphobench.data.splits import arrays_of, split_from
from morphobench.plugins.discovery import BrokenPlugin, DatasetInfo, read_dataset, split_dataset_id
from morphobench.plugins.loading import load_dataset
from morphobench.project.files import atomic, digest, write_json
from morphobench.project.paths import Project, cache_folder, dataset_cache

__all__ = [
    "Manifest",
    "images_of_test",
    "labels_of_test",
    "load_trial_data",
    "manifest_of",
    "on_images_of",
    "prepare_dataset",
    "read_manifest",
    "task_of",
    "write_manifest",
]


@dataclass(frozen=True)
class Manifest:
    """What a run knows of a data set; ``status`` is ok, unavailable or invalid."""

    id: str
    title: str
    task: str
    licence: str
    citation: str
    summary: str
    status: str
    message: str
    splits: Mapping[str, int]
    input_shape: tuple[int, ...]
    outputs: int
    class_names: tuple[str, ...]
    data_hash: str
    sweep: str = ""
    at: float | None = None
    images: str = ""


def prepare_dataset(project: Project, identifier: str) -> Manifest:
    """Prepare one data set; whatever stands in the way becomes the manifest's status and message."""
    name, variant = split_dataset_id(identifier)
    info = read_dataset(project.datasets / name)
    if isinstance(info, BrokenPlugin):
        return _empty(identifier, info, "invalid", info.why)
    try:
        splits = _load_all(project, info, variant)
        return _write_arrays(project, identifier, info, variant, splits)
    except DataUnavailable as error:
        return _empty(identifier, info, "unavailable", f"not available: {error}")
    except InvalidPlugin as error:
        return _empty(identifier, info, "invalid", str(error))


def _load_all(project: Project, info: DatasetInfo, variant: str) -> dict[str, AnySplit]:
    module = load_dataset(info)
    cache = dataset_cache(project, info.name, variant)
    try:
        module.prepare(variant, cache)
        splits = {split: module.load(variant, cache, split) for split in SPLITS}
    except (DataUnavailable, InvalidPlugin):
        raise
    except Exception as error:
        raise InvalidPlugin(f"datasets/{info.name}/dataset.py: {type(error).__name__}: {error}") from error
    where = f"datasets/{info.name}/dataset.py: load({variant!r}, cache, "
    for split, data in splits.items():
        _check_split(f"{where}{split!r})", data, info, variant)
    if info.variant_task(variant) == "node_classification":
        _check_one_graph(f"{where}split)", splits)
    return splits


def _check_one_graph(where: str, splits: Mapping[str, GraphSplit]) -> None:
    first, *others = splits.values()
    if not all(same_graph(first.graph, other.graph) for other in others):
        raise InvalidPlugin(f"{where}: found a graph of its own for each split, expected one for all")
    nodes = np.concatenate([split.nodes for split in splits.values()])
    if len(np.unique(nodes)) != len(nodes):
        raise InvalidPlugin(f"{where}: found {len(nodes) - len(np.unique(nodes))} nodes in two splits, expected none")


def _check_split(where: str, split: Any, info: DatasetInfo, variant: str) -> None:
    if info.variant_task(variant) == "node_classification":
        if not isinstance(split, GraphSplit):
            raise InvalidPlugin(f"{where}: found {type(split).__name__}, expected morphobench.contract.GraphSplit")
        flaw = flaw_of(split, len(info.variant_classes(variant)))
        if flaw:
            raise InvalidPlugin(f"{where}: {flaw}")
        return
    if not isinstance(split, Split):
        raise InvalidPlugin(f"{where}: found {type(split).__name__}, expected morphobench.contract.Split")
    images, labels = split.images, split.labels
    if images.ndim != 4 or images.dtype not in (np.uint8, np.float32):
        raise InvalidPlugin(
            f"{where}: images: found {images.dtype} {images.shape}, expected uint8 or float32 (N, C, H, W)"
        )
    task, classes = info.variant_task(variant), len(info.variant_classes(variant))
    expected: dict[str, tuple[int, ...]] = {
        "multilabel": (len(images), classes),
        "segmentation": (len(images), *images.shape[2:]),
        "restoration": (len(images), labels.shape[1] if labels.ndim == 4 else 0, *images.shape[2:]),
    }
    shape = expected.get(task, (len(images),))
    if labels.shape != shape:
        raise InvalidPlugin(f"{where}: labels: found shape {labels.shape}, expected {shape} for {task}")
    if task in ("classification", "ordinal", "segmentation") and (labels.min() < 0 or labels.max() >= classes):
        raise InvalidPlugin(f"{where}: labels: found {labels.min()} to {labels.max()}, expected 0 to {classes - 1}")
    finite = np.isfinite(images).all() if images.dtype == np.float32 else True
    if not finite:
        raise InvalidPlugin(f"{where}: images: found values that are not finite")


def _write_arrays(
    project: Project, identifier: str, info: DatasetInfo, variant: str, splits: Mapping[str, AnySplit]
) -> Manifest:
    arrays = arrays_of(splits)
    parts: list[str | bytes] = []
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        parts += [name, str(array.dtype), str(array.shape), array.tobytes()]
    data_hash = digest(*parts)
    folder = _arrays_folder(project, identifier, data_hash)
    for name, array in arrays.items():
        if not (folder / f"{name}.npy").exists():
            with atomic(folder / f"{name}.npy") as temporary:
                np.save(temporary, array, allow_pickle=False)
    train = splits["train"]
    task, classes = info.variant_task(variant), info.variant_classes(variant)
    return Manifest(
        id=identifier,
        title=info.variant_title(variant),
        task=task,
        licence=info.licence,
        citation=info.citation,
        summary=info.summary,
        status="ok",
        message="",
        splits={split: len(data) for split, data in splits.items()},
        input_shape=tuple((train.graph.x if isinstance(train, GraphSplit) else train.images).shape[1:]),
        outputs=train.labels.shape[1] if task == "restoration" else len(classes),
        class_names=classes,
        data_hash=data_hash,
        sweep=info.sweep,
        at=info.variant_number(variant),
        images=info.variant_images(variant),
    )


def _empty(identifier: str, info: DatasetInfo | BrokenPlugin, status: str, message: str) -> Manifest:
    blank = Manifest(
        id=identifier,
        title=identifier,
        task="",
        licence="",
        citation="",
        summary="",
        status=status,
        message=" ".join(message.split()),
        splits={},
        input_shape=(),
        outputs=0,
        class_names=(),
        data_hash="",
    )
    if isinstance(info, BrokenPlugin):
        return blank
    _, variant = split_dataset_id(identifier)
    return replace(
        blank,
        title=info.variant_title(variant),
        task=info.variant_task(variant),
        licence=info.licence,
        citation=info.citation,
        summary=info.summary,
        class_names=info.variant_classes(variant),
        sweep=info.sweep,
        at=info.variant_number(variant),
        images=info.variant_images(variant),
    )


def _arrays_folder(project: Project, identifier: str, data_hash: str) -> Path:
    return cache_folder(project) / "prepared" / f"{identifier}-{data_hash}"


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write a manifest as JSON."""
    write_json(path, asdict(manifest))


def read_manifest(path: Path) -> Manifest:
    """Read a manifest that `write_manifest` wrote."""
    return manifest_of(json.loads(path.read_text(encoding="utf-8")))


def manifest_of(values: Mapping[str, Any]) -> Manifest:
    """Return the manifest of what JSON holds of it, where tuples are lists."""
    return Manifest(**{**values, **{key: tuple(values[key]) for key in ("input_shape", "class_names")}})


def task_of(manifest: Manifest, device: str = "cpu") -> Task:
    """Return the task that a method is asked to learn."""
    return Task(manifest.task, manifest.input_shape, manifest.outputs, manifest.class_names, device)  # type: ignore[arg-type]


def load_trial_data(project: Project, manifest: Manifest) -> tuple[AnySplit, AnySplit, AnySplit]:
    """Return the training split, the validation split, and the test split WITHOUT LABELS; images as float32 in [0, 1]."""
    read = functools.cache(functools.partial(_array, project, manifest))  # splits of one graph share its arrays
    graph = manifest.task == "node_classification"
    train, valid = (split_from(read, name, graph=graph).as_float() for name in ("train", "valid"))
    return train, valid, split_from(read, "test", graph=graph, labelled=False).as_float()


def labels_of_test(project: Project, manifest: Manifest) -> np.ndarray:
    """Return the test labels; for scoring and for the report, never for training."""
    return _array(project, manifest, "test_labels")


def on_images_of(
    project: Project, info: DatasetInfo | BrokenPlugin, identifier: str
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return what takes scores of the test nodes to the pixels of the images that the graph is made of; for scoring.

    Raises
    ------
    InvalidPlugin
        If the plugin is not valid or does not import.
    """
    if isinstance(info, BrokenPlugin):
        raise InvalidPlugin(info.why)
    _, variant = split_dataset_id(identifier)
    return functools.partial(load_dataset(info).on_images, variant, dataset_cache(project, info.name, variant))


def images_of_test(project: Project, manifest: Manifest) -> np.ndarray:
    """Return the test images as float32 in [0, 1]."""
    images = _array(project, manifest, "test_images")
    return Split(images, np.zeros(len(images))).as_float().images


def _array(project: Project, manifest: Manifest, name: str) -> np.ndarray:
    """Read one array; a cache that was emptied since is filled again and must give the same data."""
    path = _arrays_folder(project, manifest.id, manifest.data_hash) / f"{name}.npy"
    if not path.exists():
        again = prepare_dataset(project, manifest.id)
        if again.data_hash != manifest.data_hash:
            raise DataUnavailable(
                f"{manifest.id}: the prepared data are gone and preparing them again gave other data "
                f"(found {again.data_hash or again.message}, expected {manifest.data_hash})"
            )
    return np.load(path, allow_pickle=False)
