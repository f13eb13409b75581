"""Graphs through the harness: preparation, trials, and the places that take no graphs."""

import json

import numpy as np
import pytest
import yaml

from morphobench.contract import InvalidPlugin, Task
from morphobench.project.errors import UserError
from morphobench.project.paths import Project
from morphobench.runs.plan import load_plan
from morphobench.settings.records import Record

DATASET = """\
import numpy as np
from morphobench.contract import Graph, GraphSplit

def prepare(variant, cache):
    pass

def load(variant, cache, split):
    first = 8 * ("train", "valid", "test").index(split)
    labels = np.arange(24) % 2
    x = np.stack([labels, 1 - labels], axis=1).astype(np.float32)
    edges = np.stack([np.arange(22), np.arange(2, 24)])
    nodes = np.arange(first, first + 8)
    return GraphSplit(Graph(x, edges), nodes, labels[nodes])
"""

METHOD = """\
import torch

class Gathered(torch.nn.Module):
    def __init__(self, features, outputs):
        super().__init__()
        self.linear = torch.nn.Linear(features, outputs)

    def forward(self, x, edges):
        return self.linear(x.index_add(0, edges[1], x[edges[0]]))

def build(task, params):
    return Gathered(task.input_shape[0], task.outputs)
"""

CONFIG = """\
run: try
datasets: [{name: graph, budget: {epochs: 40}}]
seeds: [0]
statistics: {baseline: gathered}
"""


@pytest.fixture
def graphs(scratch):
    """A checkout with two components of a graph, a class each, and a method that scores nodes."""
    scratch.add_dataset("graph", code=DATASET)
    described = yaml.safe_load((scratch.root / "datasets/graph/dataset.yaml").read_text())
    (scratch.root / "datasets/graph/dataset.yaml").write_text(
        yaml.safe_dump(described | {"task": "node_classification"})
    )
    folder = scratch.add_method("gathered", code=METHOD)
    text = (folder / "method.yaml").read_text()
    text = text.replace("framework: numpy", "framework: torch").replace("[classification]", "[node_classification]")
    (folder / "method.yaml").write_text(text + "params: {learning_rate: 0.1}\n")
    scratch.write_config(CONFIG)
    return scratch


def prepared(scratch):
    done = scratch.morphobench("prepare", "--dataset", "graph", "--output", "results/try/data/graph.json")
    assert done.returncode == 0, done.stderr
    return json.loads((scratch.root / "results/try/data/graph.json").read_text())


def test_a_trial_predicts_the_test_nodes(graphs):
    manifest = prepared(graphs)
    assert manifest["splits"] == {"train": 8, "valid": 8, "test": 8}
    assert manifest["input_shape"] == [2]
    arguments = ["--dataset", "graph", "--method", "gathered", "--variant", "default", "--seeds", "0"]
    done = graphs.morphobench("run-trials", "--config", "config.yaml", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    trial = Project(graphs.root).run("try").trial("graph", "gathered", "default", 0)
    assert Record.read(trial / "record.json").status == "ok"
    with np.load(trial / "predictions.npz") as predictions:
        scores = predictions["scores"]
    assert scores.shape == (8, 2)
    assert scores.argmax(axis=1).tolist() == [0, 1] * 4


@pytest.mark.parametrize(
    ("found", "instead", "why"),
    [
        (
            "    return GraphSplit",
            "    edges = edges[:, first // 8 :]\n    return GraphSplit",
            "a graph of its own for each",
        ),
        (
            "np.arange(first, first + 8)",
            "np.arange(first // 2, first // 2 + 8)",
            "8 nodes in two splits, expected none",
        ),
    ],
)
def test_splits_that_do_not_belong_to_one_graph_are_refused(graphs, found, instead, why):
    assert found in DATASET
    (graphs.root / "datasets/graph/dataset.py").write_text(DATASET.replace(found, instead))
    manifest = prepared(graphs)
    assert manifest["status"] == "invalid"
    assert why in manifest["message"]


def test_robustness_refuses_a_graph(graphs):
    path = graphs.write_config(CONFIG + "robustness: {datasets: [graph]}\n")
    with pytest.raises(UserError, match=r"robustness.*'graph' is a graph .*expected a data set of images"):
        load_plan(path, Project(graphs.root))


def test_jax_refuses_a_graph():
    pytest.importorskip("equinox", reason="equinox is not installed")
    pytest.importorskip("optax", reason="optax is not installed")
    from morphobench.training.frameworks import framework_of

    framework = framework_of("jax")
    with pytest.raises(InvalidPlugin, match="found task node_classification, expected one of images"):
        framework.build(object(), Task("node_classification", (2,), 2, ("a", "b")), {})
