"""What every data set owes the harness."""

import socket
from urllib.error import URLError

import numpy as np
import pytest

from morphobench.contract import SPLITS, DataUnavailable, GraphSplit
from morphobench.contract.graphs import flaw_of, same_graph
from morphobench.data.preparation import labels_of_test, on_images_of, prepare_dataset
from morphobench.plugins.discovery import DatasetInfo, discover_datasets, split_dataset_id
from morphobench.plugins.loading import load_dataset
from morphobench.project.paths import dataset_cache


@pytest.fixture
def loaded(dataset_identifier, project, monkeypatch):
    """Return the splits of a data set that is here; a data set that needs a download is not fetched by a test."""
    name, variant = split_dataset_id(dataset_identifier)
    info = discover_datasets(project.datasets)[name]
    assert isinstance(info, DatasetInfo), f"{name} is invalid: {info.why}"
    module = load_dataset(info)
    cache = dataset_cache(project, name, variant)
    monkeypatch.setattr("urllib.request.urlopen", _no_network)
    try:
        module.prepare(variant, cache)
    except DataUnavailable as error:
        pytest.skip(f"{dataset_identifier} is not in MORPHOBENCH_DATA: {str(error)[:120]}")
    return info, variant, {split: module.load(variant, cache, split) for split in SPLITS}


def _no_network(*arguments, **options):
    raise URLError(socket.gaierror(socket.EAI_NONAME, "tests do not use the network"))


def test_the_plugin_is_valid_and_documented(dataset_name, project):
    info = discover_datasets(project.datasets)[dataset_name]
    assert isinstance(info, DatasetInfo), f"{dataset_name} is invalid: {info.why}"
    assert (info.folder / "README.md").is_file(), (
        f"datasets/{dataset_name} needs a README.md: what, source, licence, split"
    )
    for variant in info.variants:
        assert info.variant_task(variant) == "restoration" or len(info.variant_classes(variant)) >= 2, (
            f"datasets/{dataset_name}/dataset.yaml: {variant} needs the names of its classes"
        )


def test_splits_keep_the_contract(loaded):
    info, variant, splits = loaded
    task, classes = info.variant_task(variant), len(info.variant_classes(variant))
    if task == "node_classification":
        check_graph_splits(splits, classes)
        return
    shapes = {split.images.shape[1:] for split in splits.values()}
    assert len(shapes) == 1, f"the splits differ in image shape: {shapes}"
    for name, split in splits.items():
        assert split.images.ndim == 4, f"{name}: images are {split.images.shape}, expected (N, C, H, W)"
        assert split.images.dtype in (np.uint8, np.float32), f"{name}: images are {split.images.dtype}"
        assert len(split.images) == len(split.labels) > 0, (
            f"{name}: {len(split.images)} images, {len(split.labels)} labels"
        )
        if task in ("classification", "ordinal", "segmentation"):
            assert split.labels.dtype == np.int64, f"{name}: labels are {split.labels.dtype}, expected int64"
            assert split.labels.min() >= 0, f"{name}: negative label"
            assert split.labels.max() < classes, f"{name}: label {split.labels.max()} of {classes} classes"


def check_graph_splits(splits, classes):
    for name, split in splits.items():
        assert isinstance(split, GraphSplit), f"{name}: {type(split).__name__}, expected GraphSplit"
        assert len(split) > 0, f"{name}: no nodes"
        assert not flaw_of(split, classes), f"{name}: {flaw_of(split, classes)}"
        assert same_graph(split.graph, splits["train"].graph), f"{name}: another graph than that of train"


def test_every_class_occurs_in_training(loaded):
    info, variant, splits = loaded
    if info.variant_task(variant) in ("classification", "ordinal", "segmentation", "node_classification"):
        found = np.unique(splits["train"].labels)
        assert len(found) == len(info.variant_classes(variant)), f"classes found in train: {found}"


def test_no_test_image_is_trained_on(loaded):
    _, _, splits = loaded
    if isinstance(splits["test"], GraphSplit):
        nodes = np.concatenate([split.nodes for split in splits.values()])
        assert len(np.unique(nodes)) == len(nodes), "a node belongs to two splits"
        return
    seen = {image.tobytes() for name in ("train", "valid") for image in splits[name].images}
    again = sum(image.tobytes() in seen for image in splits["test"].images)
    assert again <= 0.01 * len(splits["test"].images), f"{again} test images occur in train or valid"


def test_a_graph_made_of_images_goes_back_to_them(dataset_identifier, project, loaded):
    info, variant, splits = loaded
    if not info.variant_images(variant):
        return
    name, images_variant = split_dataset_id(info.variant_images(variant))
    images = discover_datasets(project.datasets)[name]
    assert isinstance(images, DatasetInfo), f"variant {variant} names images of {name}: {images.why}"
    assert images.variant_task(images_variant) == "segmentation"
    prepared = prepare_dataset(project, info.variant_images(variant))
    classes = len(info.variant_classes(variant))
    on_images = on_images_of(project, info, dataset_identifier)
    found, masks = on_images(np.random.default_rng(0).random((len(splits["test"]), classes)))
    assert np.array_equal(masks, labels_of_test(project, prepared)), (
        "other images than those of the data set that is named"
    )
    assert found.shape == (len(masks), classes, *masks.shape[1:])


def test_preparing_twice_gives_the_same_data(dataset_identifier, project, loaded):
    first, second = prepare_dataset(project, dataset_identifier), prepare_dataset(project, dataset_identifier)
    assert first.status == "ok", first.message
    assert first.data_hash == second.data_hash, "prepare is not idempotent, or draws from an unseeded generator"
