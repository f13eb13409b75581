"""Data sets of graphs: what they are made of, and that a pickle runs nothing."""

import os
import pickle
from functools import partial

import numpy as np
import pytest

from morphobench.contract import SPLITS, Graph, GraphSplit
from morphobench.contract.graphs import flaw_of
from morphobench.data.download import CorruptFile
from morphobench.evaluation.metrics import score_on_images
from morphobench.project.paths import data_folders


class Malicious:
    def __reduce__(self):
        return os.mkdir, (os.environ["MALICE"],)


def test_a_pickle_that_names_anything_else_is_refused_and_not_run(plugin, tmp_path, monkeypatch):
    monkeypatch.setenv("MALICE", str(tmp_path / "malice"))
    path = tmp_path / "ind.cora.x"
    path.write_bytes(pickle.dumps(Malicious(), protocol=2))
    with pytest.raises(CorruptFile, match=r"found the name posix\.mkdir, expected one of"):
        plugin("cora").read_pickle(path)
    assert not (tmp_path / "malice").exists()


def test_cora_has_the_split_of_planetoid(plugin, tmp_path):
    if not any((folder / "cora" / "ind.cora.x").is_file() for folder in data_folders()):
        pytest.skip("MORPHOBENCH_DATA names no folder that holds cora/ind.cora.x")
    plugin("cora").prepare("default", tmp_path)
    splits = {split: plugin("cora").load("default", tmp_path, split) for split in SPLITS}
    assert {name: len(split) for name, split in splits.items()} == {"train": 140, "valid": 500, "test": 1000}
    x, edges = splits["train"].graph
    assert (x.shape, edges.shape) == ((2708, 1433), (2, 10556))
    np.testing.assert_allclose(x.sum(axis=1), 1, rtol=1e-5)
    assert np.bincount(splits["train"].labels).tolist() == [20] * 7


@pytest.mark.parametrize("length", [5, 10, 100])
def test_only_the_first_node_of_a_chain_says_its_class(plugin, length):
    split = plugin("chains").make(length)["train"]
    x = split.graph.x.reshape(40, length, 100)
    assert not x[:, 1:].any()
    assert np.array_equal(x[:, 0].argmax(axis=1)[split.nodes // length], split.labels)
    assert np.all(split.graph.edges[1] - split.graph.edges[0] == 1)
    assert not np.any(split.graph.edges[1] % length == 0)


@pytest.mark.parametrize(
    ("change", "flaw"),
    [
        ({"nodes": np.array([0, 0])}, "nodes: found"),
        ({"labels": np.array([0, 2])}, "labels: found"),
        ({"graph": Graph(np.zeros((3, 1)), np.array([[0], [1]]))}, "x: found float64"),
        ({"graph": Graph(np.zeros((3, 1), np.float32), np.array([[0], [0]]))}, "edges: found one twice"),
    ],
)
def test_flaws_of_a_graph_split_are_named(change, flaw):
    graph = Graph(np.zeros((3, 1), np.float32), np.array([[0], [1]]))
    good = {"graph": graph, "nodes": np.array([0, 1]), "labels": np.array([0, 1])}
    assert flaw_of(GraphSplit(**good), 2) == ""
    assert flaw_of(GraphSplit(**{**good, **change}), 2).startswith(flaw)


def test_superpixels_that_touch_are_joined_in_both_directions(plugin):
    segments = np.array([[0, 0, 1], [0, 2, 1]])
    image = np.array([[0.0, 0.0, 1.0], [0.6, 0.5, 1.0]])
    graph = plugin("superpixels").graph_of(image, segments)
    assert graph.edges.tolist() == [[0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1]]
    np.testing.assert_allclose(graph.x[:, 0], [0.2, 1.0, 0.5], rtol=1e-6)
    assert plugin("superpixels").majority((image > 0.55).astype(int), segments).tolist() == [0, 1, 0]


def test_features_of_superpixels_are_standardised_over_the_training_nodes_alone(plugin):
    x = np.array([[1.0, 5.0], [3.0, 5.0], [100.0, 7.0]], np.float32)
    found = plugin("superpixels").standardised(x, np.array([True, True, False]))
    np.testing.assert_allclose(found, [[-1, 0], [1, 0], [98, 2]])
    assert found.dtype == np.float32


@pytest.fixture(scope="module")
def superpixel_cache(plugin, tmp_path_factory):
    folder = tmp_path_factory.mktemp("superpixels")
    plugin("superpixels").prepare("degraded-digits", folder)
    return folder


def test_pixels_have_the_scores_of_their_superpixel(plugin, superpixel_cache):
    superpixels, digits = plugin("superpixels"), plugin("degraded-digits")
    test = superpixels.load("degraded-digits", superpixel_cache, "test")
    numbers = np.arange(len(test), dtype=float)
    on_images, masks = superpixels.on_images("degraded-digits", superpixel_cache, np.stack([-numbers, numbers], axis=1))
    pictures = digits.load("small", superpixel_cache / "degraded-digits", "test")
    assert on_images.shape == (100, 2, 32, 32)
    assert np.array_equal(masks, pictures.labels)
    nodes, areas = np.unique(on_images[:, 1], return_counts=True)
    assert np.array_equal(nodes, numbers)
    grey = np.bincount(on_images[:, 1].astype(int).ravel(), pictures.as_float().images.ravel()) / areas
    x = test.graph.x[test.nodes, 0]  # standardised, so equal but for shift and scale
    assert np.corrcoef(grey, x)[0, 1] > 1 - 1e-6


def test_the_true_classes_reach_the_limit_and_no_others_more(plugin, superpixel_cache):
    test = plugin("superpixels").load("degraded-digits", superpixel_cache, "test")
    on_images = partial(plugin("superpixels").on_images, "degraded-digits", superpixel_cache)
    found = score_on_images(on_images, np.eye(2)[test.labels], test.labels)
    assert found["dice"] == found["dice_limit"]
    assert 0.8 < found["dice_limit"] < 0.9
    background = score_on_images(on_images, np.eye(2)[np.zeros_like(test.labels)], test.labels)
    assert background == {"dice": 0.0, "dice_limit": found["dice_limit"]}


def test_small_variants_are_the_first_pictures(plugin, cache_of, splits_of):
    for name in ("degraded-digits", "vessels"):
        small = plugin(name).load("small", cache_of(name), "test")
        assert np.array_equal(small.images, splits_of(name)["test"].images[:100])
        assert np.array_equal(small.labels, splits_of(name)["test"].labels[:100])
