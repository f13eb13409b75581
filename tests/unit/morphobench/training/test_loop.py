"""The protocol that every framework trains by, on a learner that learns nothing."""

import math
import time

import numpy as np
import pytest

from morphobench.contract import Budget, Diverged, InvalidPlugin, OutOfTime, Run, Split, Task
from morphobench.training import loop
from morphobench.training.loop import Outcome


class Recorder:
    """A learner that notes what it is asked, and answers with the losses and metrics it was given."""

    def __init__(self, judged=None, loss=1.0):
        self.judged, self.loss = iter(judged or [Outcome(1.0)] * 99), loss
        self.batches, self.rates, self.kept, self.recalled = [], [], [], 0

    def step(self, images, labels, rate):
        self.batches.append(images[:, 0, 0, 0].tolist())
        self.rates.append(rate)
        return Outcome(self.loss, float(len(images)))

    def judge(self, images, labels):
        return next(self.judged)

    def seconds(self):
        return float(len(self.rates))

    def remember(self):
        self.kept.append(len(self.rates))

    def recall(self):
        self.recalled += 1


def numbered(count):
    return Split(
        np.arange(count, dtype=np.float32)[:, None, None, None] * np.ones((1, 1, 2, 2), np.float32),
        np.zeros(count, int),
    )


def make_run(tmp_path, seconds=60.0, learning_rate=1.0, kind="classification", **budget):
    budget = Budget(**{"epochs": 4, "batch_size": 8, **budget})
    task = Task(kind, (1, 2, 2), 2)
    return Run(0, time.monotonic() + seconds, tmp_path, lambda line: None, task, budget, learning_rate)


def test_an_epoch_sees_every_image_once_in_an_order_of_its_own(tmp_path):
    learner = Recorder()
    loop.train(learner, numbered(20), numbered(5), make_run(tmp_path, epochs=2))
    first, second = (np.concatenate(part).tolist() for part in (learner.batches[:3], learner.batches[3:]))
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second


def test_the_order_depends_on_the_seed_alone(tmp_path):
    learners = [Recorder(), Recorder(loss=2.0)]
    for learner in learners:
        loop.train(learner, numbered(20), numbered(5), make_run(tmp_path))
    assert learners[0].batches == learners[1].batches


def test_shifted_images_are_slices_of_larger_ones_whose_border_is_repeated():
    images = np.random.default_rng(0).random((6, 3, 4, 5))
    by = np.array([[0, 0], [1, 0], [0, -1], [-2, 2], [2, 2], [-4, 1]])
    found = loop.shifted(images, by)
    for image, moved, (down, right) in zip(images, found, by, strict=True):
        larger = np.pad(image, ((0, 0), (4, 4), (4, 4)), mode="edge")
        np.testing.assert_array_equal(moved, larger[:, 4 - down : 8 - down, 4 - right : 9 - right])
    np.testing.assert_array_equal(loop.shifted(images[:, 0], by), found[:, 0])


class Keeper(Recorder):
    """Keeps what it learns from."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def step(self, images, labels, rate):
        self.seen.append((images, labels))
        return super().step(images, labels, rate)


@pytest.mark.parametrize("kind", ["classification", "segmentation", "restoration"])
def test_training_images_are_shifted_afresh_each_time_and_the_truth_with_them(tmp_path, kind):
    images = np.random.default_rng(0).random((8, 1, 6, 6)).astype(np.float32)
    labels = {"classification": np.arange(8), "segmentation": (9 * images[:, 0]).astype(int), "restoration": images / 2}
    split = Split(images, labels[kind])
    plain, moved, again = Keeper(), Keeper(), Keeper()
    for learner, shift in ((plain, 0), (moved, 2), (again, 2)):
        loop.train(learner, split, split, make_run(tmp_path, epochs=3, kind=kind, shift=shift))
    for (still, truth), (found, given), (same, _) in zip(plain.seen, moved.seen, again.seen, strict=True):
        assert found.shape == still.shape
        assert found.dtype == still.dtype
        assert not np.array_equal(found, still)
        np.testing.assert_array_equal(found, same)
        expected = {"classification": truth, "segmentation": (9 * found[:, 0]).astype(int), "restoration": found / 2}
        np.testing.assert_array_equal(given, expected[kind])
    assert len({learned.tobytes() for learned, _ in moved.seen}) == 3


@pytest.mark.parametrize("images", [8, 9, 17, 33, 100])
def test_sizes_of_batches_differ_by_at_most_one(images):
    sizes = [len(batch) for batch in loop.batches_to_learn(images, Budget(batch_size=8), np.random.default_rng(0))]
    assert max(sizes) <= 8
    assert max(sizes) - min(sizes) <= 1


def test_the_learning_rate_falls_at_half_and_three_quarters(tmp_path):
    learner = Recorder()
    loop.train(learner, numbered(8), numbered(5), make_run(tmp_path, epochs=8))
    assert learner.rates == pytest.approx([1.0] * 4 + [0.1] * 2 + [0.01] * 2)


def test_every_epoch_is_recorded_for_both_splits_with_the_learners_own_seconds(tmp_path):
    run = make_run(tmp_path, epochs=2)
    loop.train(Recorder(), numbered(20), numbered(5), run)
    found = [(row.epoch, row.split, row.metric, row.seconds) for row in run.curve]
    assert found == [(1, "train", 1.0, 3.0), (1, "valid", 0.0, 0.0), (2, "train", 1.0, 3.0), (2, "valid", 0.0, 0.0)]


def test_the_best_epoch_has_the_best_metric_then_the_lowest_loss_then_comes_first(tmp_path):
    run = make_run(tmp_path, epochs=5)
    learner = Recorder([Outcome(1.0, 2.0), Outcome(2.0, 4.0), Outcome(1.0, 4.0), Outcome(1.0, 4.0), Outcome(0.5, 3.0)])
    loop.train(learner, numbered(8), numbered(5), run)
    assert run.best_epoch == 3
    assert learner.kept == [1, 2, 3]
    assert learner.recalled == 1


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_divergence(tmp_path, loss):
    with pytest.raises(Diverged, match="epoch 1: the training loss is"):
        loop.train(Recorder(loss=loss), numbered(8), numbered(5), make_run(tmp_path))
    with pytest.raises(Diverged, match="epoch 1: the validation loss is"):
        loop.train(Recorder([Outcome(loss)]), numbered(8), numbered(5), make_run(tmp_path))


def test_the_deadline_ends_training(tmp_path):
    with pytest.raises(OutOfTime):
        loop.train(Recorder(), numbered(8), numbered(5), make_run(tmp_path, seconds=-1.0))


def test_scores_of_the_wrong_shape_are_refused():
    with pytest.raises(InvalidPlugin, match=r"shape \(7, 3\), expected \(7, 2\)"):
        loop.check_score_shape((7, 3), (7, 2))
