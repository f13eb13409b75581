import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morphobench.evaluation import metrics

RNG = np.random.default_rng(7)


def one_hot_scores(labels, classes, size=8.0):
    return size * np.moveaxis(np.eye(classes, dtype=np.float32)[labels], -1, 1)


def test_a_perfect_classifier_scores_one():
    labels = np.arange(12) % 3
    values = metrics.score("classification", one_hot_scores(labels, 3), labels)
    assert values["accuracy"] == values["auc"] == values["balanced_accuracy"] == 1.0
    assert values["ece"] < 0.01


@pytest.mark.parametrize(
    ("task", "kind", "classes"), [("classification", "multi-class", 4), ("classification", "binary-class", 2)]
)
def test_auc_and_accuracy_equal_those_of_medmnist(task, kind, classes, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    evaluator = pytest.importorskip("medmnist.evaluator")
    labels = RNG.integers(0, classes, 60)
    scores = RNG.standard_normal((60, classes)).astype(np.float32) + 2 * np.eye(classes)[labels]
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    ours = metrics.score(task, scores, labels)
    assert ours["auc"] == pytest.approx(evaluator.getAUC(labels[:, None], probabilities, kind), abs=1e-12)
    assert ours["accuracy"] == pytest.approx(evaluator.getACC(labels[:, None], probabilities, kind), abs=1e-12)


SATURATED = [98.095, 98.4612, 98.1145, 98.1506, 97.6037, 98.9425, 99.2644, 99.5014, 99.728, 99.6595]
SATURATED += [99.6931, 99.4667, 99.9623, 99.8949, 99.8768]


@pytest.mark.parametrize("unlikely", [[], [-300.0], [-50.0, -70.0]])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_auc_ranks_images_whose_softmax_has_saturated(dtype, unlikely):
    """One negative, above one of 14 positives: 13 / 14, though the probability of the second class rounds to 1 in every image."""
    scores = np.array([[0, score, *unlikely] for score in SATURATED], dtype)
    labels = np.array([0] + 14 * [1])
    assert metrics.macro_auc(scores, labels) == pytest.approx(13 / 14)
    assert metrics.score("classification", scores, labels)["auc"] == pytest.approx(13 / 14)


def test_multilabel_auc_ranks_images_whose_sigmoid_has_saturated():
    scores = np.array(SATURATED, np.float32)[:, None] * [1, -1]
    labels = np.array([0] + 14 * [1])[:, None] == [1, 0]
    assert metrics.score("multilabel", scores, labels)["auc"] == pytest.approx(13 / 14)


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_scores_at_the_ends_of_float32_have_finite_metrics(task):
    scores = np.array([[-3e38, 3e38], [3e38, -3e38], [0, 1e-45]], np.float32)
    labels = np.array([[0, 1], [1, 0], [0, 1]])
    found = metrics.score(task, scores, labels if task == "multilabel" else labels.argmax(axis=1))
    assert found["auc"] == found["accuracy"] == 1.0


def test_calibration_takes_the_class_that_the_scores_decide():
    """Both probabilities round to 1/2, yet the second score is larger."""
    scores, labels = np.full((8, 2), [1e-20, 2e-20]), np.ones(8, np.int64)
    assert metrics.score("classification", scores, labels)["ece"] == pytest.approx(0.5)


def test_multilabel_metrics_equal_those_of_medmnist(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    evaluator = pytest.importorskip("medmnist.evaluator")
    labels = RNG.integers(0, 2, (50, 5))
    scores = RNG.standard_normal((50, 5)) + labels
    probabilities = 1 / (1 + np.exp(-scores))
    ours = metrics.score("multilabel", scores, labels)
    assert ours["auc"] == pytest.approx(evaluator.getAUC(labels, probabilities, "multi-label, binary-class"), abs=1e-12)
    assert ours["accuracy"] == pytest.approx(
        evaluator.getACC(labels, probabilities, "multi-label, binary-class"), abs=1e-12
    )


@given(seed=st.integers(0, 2**16))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_dice_and_iou_agree_image_by_image(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (1, 9, 9))
    scores = rng.standard_normal((1, 2, 9, 9))
    values = metrics.score("segmentation", scores, labels)
    assert values["dice"] == pytest.approx(2 * values["iou"] / (1 + values["iou"]))


def test_a_shifted_square_has_a_known_dice_and_hausdorff_distance():
    labels = np.zeros((1, 16, 16), dtype=np.int64)
    labels[:, 4:10, 4:10] = 1
    shifted = np.roll(labels, 2, axis=2)
    values = metrics.score("segmentation", one_hot_scores(shifted, 2), labels)
    assert values["dice"] == pytest.approx(2 * 24 / 72)
    assert values["hd95"] == pytest.approx(2.0)


def test_two_empty_masks_agree_and_one_empty_mask_is_as_wrong_as_it_can_be():
    empty, full = np.zeros((1, 8, 8), dtype=np.int64), np.ones((1, 8, 8), dtype=np.int64)
    assert metrics.score("segmentation", one_hot_scores(empty, 2), empty)["dice"] == 1.0
    missed = metrics.score("segmentation", one_hot_scores(empty, 2), full)
    assert missed["dice"] == 0.0
    assert missed["hd95"] == pytest.approx(np.hypot(8, 8))
    assert missed["cldice"] == 0.0


def test_centreline_dice_sees_a_broken_line_that_dice_hardly_sees():
    labels = np.zeros((1, 24, 24), dtype=np.int64)
    labels[:, 8:15, 2:22] = 1
    thin = labels.copy()
    thin[:, 8:10, :] = thin[:, 13:15, :] = 0
    values = metrics.score("segmentation", one_hot_scores(thin, 2), labels)
    assert values["cldice"] > values["dice"]


def test_psnr_of_a_known_error():
    labels = np.zeros((2, 1, 8, 8), dtype=np.float32)
    assert metrics.score("restoration", labels + 0.1, labels)["psnr"] == pytest.approx(20.0, abs=1e-4)


def test_a_metric_that_is_not_defined_is_left_out_rather_than_made_up():
    labels = np.zeros(5, dtype=np.int64)
    values = metrics.score("classification", one_hot_scores(labels, 3), labels)
    assert "auc" not in values
    assert values["accuracy"] == 1.0
