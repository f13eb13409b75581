import math
import time

import numpy as np
import pytest
import torch
from torch import nn

from morphobench.contract import (
    PRIMARY_METRIC,
    Budget,
    Diverged,
    Graph,
    GraphSplit,
    InvalidPlugin,
    OutOfTime,
    Run,
    Split,
    Task,
)
from morphobench.evaluation import metrics
from morphobench.training.loop import Outcome, Tally
from morphobench.training.torch import learner as training


def make_run(tmp_path, kind="classification", outputs=2, seconds=60.0, learning_rate=1e-2, **budget):
    task = Task(kind, (1, 4, 4), outputs)
    budget = Budget(**{"epochs": 4, "batch_size": 8, **budget})
    return Run(0, time.monotonic() + seconds, tmp_path, lambda line: None, task, budget, learning_rate)


def bright_or_dark(count, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = 0.5 * rng.random((count, 1, 4, 4)) + 0.5 * labels[:, None, None, None]
    return Split(images.astype(np.float32), labels.astype(np.int64))


def linear(outputs=2):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, outputs))


def test_it_learns(tmp_path):
    model, test = linear(), bright_or_dark(20, seed=3)
    training.fit(model, bright_or_dark(40), bright_or_dark(20, seed=2), make_run(tmp_path, learning_rate=0.1))
    assert metrics.accuracy(training.predict(model, test.images), test.labels) == 1


def test_the_same_seed_gives_the_same_scores(tmp_path):
    def scores():
        model = linear()
        training.fit(model, bright_or_dark(40), bright_or_dark(20), make_run(tmp_path))
        return training.predict(model, bright_or_dark(20).images)

    np.testing.assert_array_equal(scores(), scores())


def test_every_epoch_is_recorded_for_both_splits(tmp_path):
    run = make_run(tmp_path, epochs=3)
    training.fit(linear(), bright_or_dark(20), bright_or_dark(10), run)
    assert [(row.epoch, row.split) for row in run.curve] == [(e, s) for e in (1, 2, 3) for s in ("train", "valid")]


def test_the_best_validation_epoch_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(training.TorchLearner, "judge", lambda self, images, labels: Outcome(next(losses), 0.0))
    kept = []
    monkeypatch.setattr(training.TorchLearner, "remember", remember_into(kept, training.TorchLearner.remember))
    losses = iter([2.0, 1.0, 3.0, 1.0])
    model, run = linear(), make_run(tmp_path)
    training.fit(model, bright_or_dark(20), bright_or_dark(10), run)
    assert run.best_epoch == 2
    assert torch.equal(model[1].weight, kept[-1])


def remember_into(kept, remember):
    def remember_and_tell(learner):
        remember(learner)
        kept.append(learner.model[1].weight.detach().clone())

    return remember_and_tell


@pytest.mark.parametrize(("limit", "steps"), [(None, 5), (2, 2)])
def test_steps_of_an_epoch_can_be_limited(tmp_path, limit, steps):
    class Counting(nn.Linear):
        calls = 0

        def forward(self, x):
            self.calls += self.training
            return super().forward(x.flatten(1))

    model = Counting(16, 2)
    run = make_run(tmp_path, epochs=1, steps_per_epoch=limit)
    training.fit(model, bright_or_dark(40), bright_or_dark(10), run)
    assert model.calls == steps


def test_no_batch_has_a_single_image(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2), nn.BatchNorm1d(2))  # raises for a batch of one
    training.fit(model, bright_or_dark(17), bright_or_dark(10), make_run(tmp_path, epochs=1))


def test_a_loss_that_is_not_finite_is_divergence(tmp_path):
    model = linear()
    with torch.no_grad():
        model[1].bias.fill_(math.nan)
    with pytest.raises(Diverged, match="training loss is nan"):
        training.fit(model, bright_or_dark(20), bright_or_dark(10), make_run(tmp_path))


def test_the_deadline_ends_training(tmp_path):
    with pytest.raises(OutOfTime):
        training.fit(linear(), bright_or_dark(20), bright_or_dark(10), make_run(tmp_path, seconds=-1.0))


def test_scores_of_the_wrong_shape_are_refused(tmp_path):
    with pytest.raises(InvalidPlugin, match=r"\(7, 3\), expected \(7, 2\)"):
        training.fit(linear(3), bright_or_dark(20), bright_or_dark(10), make_run(tmp_path))


def test_the_determinism_of_torch_is_restored(tmp_path):
    before = torch.are_deterministic_algorithms_enabled()
    training.fit(linear(), bright_or_dark(20), bright_or_dark(10), make_run(tmp_path, epochs=1))
    assert torch.are_deterministic_algorithms_enabled() == before


def test_prediction_is_in_evaluation_mode_and_restores_the_mode():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(16, 2)).train()
    images = bright_or_dark(6).images
    np.testing.assert_array_equal(training.predict(model, images), training.predict(model, images))
    assert model.training


def test_prediction_does_not_depend_on_the_batch_size():
    model, images = linear(), bright_or_dark(7).images
    np.testing.assert_allclose(training.predict(model, images, 2), training.predict(model, images), rtol=1e-6)


KINDS = {
    "classification": lambda rng: (rng.standard_normal((30, 3)), rng.integers(0, 3, 30)),
    "multilabel": lambda rng: (rng.standard_normal((30, 3)), rng.integers(0, 2, (30, 3)).astype(np.uint8)),
    "segmentation": lambda rng: (rng.standard_normal((5, 3, 6, 6)), rng.integers(0, 2, (5, 6, 6))),
    "restoration": lambda rng: (rng.random((5, 1, 6, 6)), rng.random((5, 1, 6, 6))),
}


@pytest.mark.parametrize("kind", KINDS)
def test_validation_uses_the_metric_of_the_scorer(kind):
    scores, labels = KINDS[kind](np.random.default_rng(1))
    task = Task(kind, (1, 6, 6), scores.shape[1])
    tally = Tally(task)
    for part in (slice(0, 2), slice(2, None)):
        found = training.outcome_of(task, torch.from_numpy(scores[part]), torch.from_numpy(labels[part]), 1.0)
        tally.add(found, labels[part])
    assert tally.metric == pytest.approx(metrics.score(kind, scores, labels)[PRIMARY_METRIC[kind]], rel=1e-6)


def test_segmentation_loss_is_cross_entropy_plus_soft_dice():
    scores, labels = torch.randn(2, 3, 4, 4, generator=torch.manual_seed(0)), torch.ones(2, 4, 4, dtype=torch.int64)
    task = Task("segmentation", (1, 4, 4), 3)
    soft_dice = training.loss_of(task, scores, labels) - nn.functional.cross_entropy(scores, labels)
    assert 0 < soft_dice < 1


def test_perfect_segmentation_has_no_loss():
    labels = torch.tensor([[[0, 1], [2, 1]]])
    scores = 100.0 * nn.functional.one_hot(labels, 3).movedim(-1, 1)
    assert training.loss_of(Task("segmentation", (1, 2, 2), 3), scores, labels) == pytest.approx(0, abs=1e-6)


def test_saved_weights_are_the_weights(tmp_path):
    from safetensors.torch import load_file

    model = linear()
    training.save_weights(model, tmp_path / "weights.safetensors")
    assert torch.equal(load_file(tmp_path / "weights.safetensors")["1.weight"], model[1].weight)


def test_frozen_parameters_are_not_counted():
    model = linear()
    model[1].bias.requires_grad = False
    assert training.count_parameters(model) == 32


def test_splits_of_two_graphs_are_refused(tmp_path):
    edges = np.array([[0], [1]])
    splits = [
        GraphSplit(Graph(np.full((2, 16), value, np.float32), edges), np.array([0]), np.array([0])) for value in (0, 1)
    ]
    run = make_run(tmp_path, kind="node_classification")
    with pytest.raises(ValueError, match="valid: found another graph than that of train"):
        training.fit(linear(), *splits, run)
