"""The study of certificates on a method whose proofs are right, and on one whose proofs are not."""

import pandas as pd
import pytest

from morphobench.project.paths import Project

METHOD = """\
import torch
from torch import nn
from morphobench.training.torch.lipschitz import certified_by_margin
class Mean(nn.Module):
    lipschitz = 1.0
    def __init__(self):
        super().__init__()
        self.threshold = nn.Parameter(torch.zeros(()))
    def forward(self, x):
        score = x.mean((1, 2, 3)) - self.threshold
        return torch.stack((-score, score), 1)
def build(task, params):
    return Mean()
def fit(model, train, valid, run):
    means = [float(train.images[train.labels == k].mean()) for k in (0, 1)]
    model.threshold.data.fill_(sum(means) - 1)
def certified(model, images, truth, epsilon):
    return certified_by_margin(model, images, truth, epsilon)
"""

CONFIG = """\
run: try
datasets: [toy]
seeds: [0, 1]
statistics: {baseline: honest}
certified: {datasets: [toy], epsilons: [0.3, 0.01], proofs: 3, steps: 5, restarts: 1, seeds: 2}
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory, new_scratch):
    scratch = new_scratch(tmp_path_factory.mktemp("certified"))
    scratch.add_dataset("toy")
    scratch.add_method("honest", framework="torch", code=METHOD)
    scratch.add_method("liar", framework="torch", code=METHOD.replace("truth, epsilon)\n", "truth, 0.0)\n"))
    scratch.add_method(
        "broken", framework="torch", code=METHOD.replace("means = [", "raise ValueError('no'); means = [")
    )
    scratch.add_method("silent", framework="torch", code=METHOD.replace("def certified", "def other"))
    scratch.write_config(CONFIG)
    done = scratch.snakemake("results/try/tables/certified.csv")
    assert done.returncode == 0, done.stdout + done.stderr
    return pd.read_csv(Project(scratch.root).run("try").tables / "certified.csv")


def test_shares_are_in_order_and_proofs_hold(table):
    honest = table[table["method"] == "honest"]
    assert honest["epsilon"].tolist() == [0.01, 0.3] * 2
    assert (honest["status"] == "ok").all()
    assert (honest["certified"] <= honest["attacked"]).all()
    assert (honest["attacked"] <= honest["clean"]).all()
    small, large = (honest[honest["epsilon"] == epsilon].iloc[0] for epsilon in (0.01, 0.3))
    assert small["certified"] > large["certified"]
    assert small["proofs_attacked"] == 3
    # The score is the mean of all pixels: what the attack leaves is what is proven, but for its last step and rounding.
    assert large["attacked"] == pytest.approx(large["certified"], abs=0.05)


def test_a_false_proof_is_an_error_that_names_the_images(table):
    liar = table[(table["method"] == "liar") & (table["epsilon"] == 0.3)]
    assert len(liar) == 2
    assert (liar["status"] == "error").all()
    assert liar["message"].str.contains(r"false proof at epsilon 0.3: test images \[").all()
    assert (liar["proofs_broken"] > 0).all()


def test_a_model_that_is_not_there_is_a_row_and_a_method_without_proofs_has_none(table):
    broken = table[table["method"] == "broken"]
    assert len(broken) == 2
    assert broken["message"].str.contains("no").all()
    assert broken["epsilon"].isna().all()
    assert not (table["method"] == "silent").any()
