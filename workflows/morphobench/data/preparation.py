"""Prepares a data set once for all trials: arrays on disk, a manifest beside the results.

Trials read the arrays and never import dataset plugins; they are given no test labels: `labels_of_test` is for scoring.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from morphobench.contract import SPLITS, AnySplit, DataUnavailable, GraphSplit, InvalidPlugin, Split, Task
from morphobench.contract.graphs import flaw_of, same_graph
from morphobench.data.splits import arrays_of, content_digest, split_from
from morphobench.plugins.code_hash import first_change, hash_of, snapshot
from morphobench.plugins.discovery import BrokenPlugin, DatasetInfo, read_dataset, split_dataset_id
from morphobench.plugins.loading import load_dataset
from morphobench.project.files import atomic, digest, write_json
from morphobench.project.paths import Project, cache_folder, dataset_cache

__all__ = [
    "Manifest",
    "images_of_test",
    "labels_of_test",
    "load_test_inputs",
    "load_training_data",
    "manifest_of",
    "on_images_of",
    "prepare_dataset",
    "read_manifest",
    "restore_prepared",
    "task_of",
    "write_manifest",
]


@dataclass(frozen=True)
class Manifest:
    """What a run knows of a data set.

    ``status`` is ok, unavailable or invalid. ``arrays`` holds the digest of each prepared array: whoever reads one checks it.
    """

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
    arrays: Mapping[str, str] = field(default_factory=dict)


def prepare_dataset(project: Project, identifier: str, planned_code: str | None = None) -> Manifest:
    """Prepare one data set; whatever stands in the way becomes the manifest's status and message.

    Parameters
    ----------
    planned_code : str, optional
        The `code_hash` of the data set when the run was planned; it is not prepared by any other code. None: as it lies there.
    """
    name, variant = split_dataset_id(identifier)
    info = read_dataset(project.datasets / name)
    if isinstance(info, BrokenPlugin):
        return _empty(identifier, info, "invalid", info.why)
    try:
        sources = snapshot(project, info)
        if planned_code not in (None, hash_of(sources)):
            raise DataUnavailable(
                f"datasets/{name}, or code that it runs, changed after the run was planned; run again"
            )
        splits = _load_all(project, info, variant)
        changed = first_change(sources, snapshot(project, info))
        if changed:
            raise DataUnavailable(f"{changed} changed while the data were prepared; run again")
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
    digests = {name: content_digest({name: arrays[name]}) for name in sorted(arrays)}
    data_hash = digest(json.dumps(digests))
    folder = _arrays_folder(project, identifier, data_hash)
    for name, array in arrays.items():
        # Whatever lies there may be damaged.
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
        arrays=digests,
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


def restore_prepared(project: Project, manifest: Manifest) -> None:
    """See to it that all that a trial reads is there as it was prepared, preparing it again if it is not.

    Raises
    ------
    DataUnavailable
        If that gives other data.
    """
    for name in manifest.arrays:
        if name != "test_labels":
            _array(project, manifest, name)


def load_training_data(project: Project, manifest: Manifest) -> tuple[AnySplit, AnySplit]:
    """Return the training and the validation split, images as float32 in [0, 1], in arrays of the caller's own."""
    read = _reader(project, manifest)
    train, valid = (split_from(read, name, graph=_is_graph(manifest)).as_float() for name in ("train", "valid"))
    return train, valid


def load_test_inputs(project: Project, manifest: Manifest) -> AnySplit:
    """Return the test split WITHOUT LABELS; images as float32 in [0, 1]."""
    return split_from(_reader(project, manifest), "test", graph=_is_graph(manifest), labelled=False).as_float()


def _reader(project: Project, manifest: Manifest) -> Callable[[str], np.ndarray]:
    return functools.cache(functools.partial(_array, project, manifest))  # splits of one graph share its arrays


def _is_graph(manifest: Manifest) -> bool:
    return manifest.task == "node_classification"


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
    """Read one array; where the cache was emptied or is damaged it is filled again and must give the same data.

    Raises
    ------
    DataUnavailable
        If that gives other data.
    """
    path = _arrays_folder(project, manifest.id, manifest.data_hash) / f"{name}.npy"
    array = _intact_array(path, name, manifest)
    if array is not None:
        return array
    with FileLock(path.parent.with_name(f".{path.parent.name}.lock")):  # workers side by side find the same damage
        array = _intact_array(path, name, manifest)
        if array is None:
            again = prepare_dataset(project, manifest.id)
            array = _intact_array(path, name, manifest) if again.data_hash == manifest.data_hash else None
    if array is None:
        raise DataUnavailable(
            f"{path}: the prepared data are gone or damaged and preparing them again gave other data (found "
            f"{again.data_hash or again.message}, expected {manifest.data_hash}): remove the manifest of {manifest.id} "
            "in the results of the run and run again"
        )
    return array


def _intact_array(path: Path, name: str, manifest: Manifest) -> np.ndarray | None:
    """Read an array; None if it is not there, cannot be read, or is not the one that was prepared."""
    try:
        array: np.ndarray = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError) as error:
        print(f"{path}: not readable ({error}); the data are prepared again", flush=True)
        return None
    if content_digest({name: array}) != manifest.arrays.get(name):
        print(f"{path}: not what was prepared; the data are prepared again", flush=True)
        return None
    return array
