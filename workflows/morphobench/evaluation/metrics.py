"""Scores of predictions against test labels; established libraries compute what they can.

Every function takes raw scores as ``predict`` returns them. What ranks or decides looks at these and never at probabilities, which
floating-point numbers near 1 cannot tell apart. Metrics are named in `METRICS`; higher is better except for ``ece`` and ``hd95``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import numpy as np
from scipy import ndimage, special

from morphobench.training.metrics import dice, multilabel_auc

__all__ = ["METRICS", "score", "score_on_images"]


def accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """Share of images whose largest score is at the true class."""
    return float((scores.argmax(axis=1) == labels).mean())


def macro_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean over classes of the one-versus-rest area under the ROC curve; of two classes that of the second.

    Images are ranked by the log-odds of the class. That is the order of its probability, by which medmnist's Evaluator ranks, without
    the ties of a softmax that has saturated. Classes that do not occur in ``labels``, or alone, have no curve and are left out.
    """
    classes = np.arange(scores.shape[1]) if scores.shape[1] > 2 else np.array([1])
    return multilabel_auc(_log_odds(scores)[:, classes], labels[:, None] == classes)


def _log_odds(scores: np.ndarray) -> np.ndarray:
    """Return log(p / (1 - p)) of the softmax p of scores (N, K): each score less the log-sum-exp of the others."""
    exact = scores.astype(np.float64)
    others = [special.logsumexp(np.delete(exact, k, axis=1), axis=1) for k in range(exact.shape[1])]
    return exact - np.stack(others, axis=1)


def balanced_accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean over classes of the recall."""
    predicted = scores.argmax(axis=1)
    return float(np.mean([(predicted[labels == k] == k).mean() for k in np.unique(labels)]))


def calibration_error(scores: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error with equal-width bins (Guo et al. 2017, section 2)."""
    probabilities = special.softmax(scores.astype(np.float64), axis=1)
    confidence, correct = probabilities.max(axis=1), scores.argmax(axis=1) == labels
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(correct[place == k].mean() - confidence[place == k].mean()) * (place == k).mean() for k in set(place)]
    return float(np.sum(gaps))


def multilabel_accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """Share of (image, label) pairs predicted rightly at probability 1/2, as medmnist's Evaluator computes it."""
    return float(((scores > 0) == labels.astype(bool)).mean())


def _masks(scores: np.ndarray, labels: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (predicted, true) masks of every image and every class but the background."""
    predicted = scores.argmax(axis=1)
    return [(p == k, t == k) for p, t in zip(predicted, labels, strict=True) for k in range(1, scores.shape[1])]


def mean_dice(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean over images and foreground classes of the Dice coefficient; two empty masks agree (1)."""
    return float(np.mean([dice((p & t).sum(), p.sum() + t.sum()) for p, t in _masks(scores, labels)]))


def iou(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean over images and foreground classes of |P and T| / |P or T|; two empty masks agree (1)."""
    pairs = _masks(scores, labels)
    return float(np.mean([(p & t).sum() / (p | t).sum() if (p | t).any() else 1.0 for p, t in pairs]))


def centreline_dice(scores: np.ndarray, labels: np.ndarray) -> float:
    """ClDice: harmonic mean of the skeletons' shares inside the other mask (Shit et al. 2021, section 3)."""
    from skimage.morphology import skeletonize

    values = []
    for predicted, true in _masks(scores, labels):
        if not predicted.any() or not true.any():
            values.append(float(predicted.any() == true.any()))
            continue
        precision = true[skeletonize(predicted)].mean()
        sensitivity = predicted[skeletonize(true)].mean()
        both = precision + sensitivity
        values.append(2 * precision * sensitivity / both if both else 0.0)
    return float(np.mean(values))


def hausdorff_95(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean over images and classes of the 95th percentile of surface distances in pixels.

    If exactly one of the masks is empty the distance counts as the image's diagonal; two empty masks have distance 0.
    """
    values = []
    for predicted, true in _masks(scores, labels):
        if not predicted.any() or not true.any():
            values.append(0.0 if predicted.any() == true.any() else float(np.hypot(*true.shape)))
            continue
        edges = [mask & ~ndimage.binary_erosion(mask) for mask in (predicted, true)]
        distances = [ndimage.distance_transform_edt(~edge) for edge in edges]
        values.append(float(np.percentile(np.hstack([distances[1][edges[0]], distances[0][edges[1]]]), 95)))
    return float(np.mean(values))


def psnr(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean over images of the peak signal-to-noise ratio in dB for images in [0, 1]; capped at 100 dB."""
    errors = ((scores.astype(np.float64) - labels) ** 2).reshape(len(labels), -1).mean(axis=1)
    return float(np.mean(-10 * np.log10(np.maximum(errors, 1e-10))))


def ssim(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean structural similarity for images in [0, 1] (scikit-image)."""
    from skimage.metrics import structural_similarity

    window = min(7, *(size - (size + 1) % 2 for size in labels.shape[2:]))
    pairs = zip(scores.astype(np.float64), labels.astype(np.float64), strict=True)
    values = [structural_similarity(p, t, data_range=1.0, channel_axis=0, win_size=window) for p, t in pairs]
    return float(np.mean(values))


Metric = Callable[[np.ndarray, np.ndarray], float]
_CLASSES: dict[str, Metric] = {
    "accuracy": accuracy,
    "auc": macro_auc,
    "balanced_accuracy": balanced_accuracy,
    "ece": calibration_error,
}
METRICS: Mapping[str, Mapping[str, Metric]] = {
    "classification": _CLASSES,
    "ordinal": _CLASSES,
    "node_classification": _CLASSES,
    "multilabel": {"auc": multilabel_auc, "accuracy": multilabel_accuracy},
    "segmentation": {"dice": mean_dice, "iou": iou, "cldice": centreline_dice, "hd95": hausdorff_95},
    "restoration": {"psnr": psnr, "ssim": ssim},
}


def score(task: str, scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return every metric of the task; one that is not defined for these labels is left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = {name: metric(scores, labels) for name, metric in METRICS[task].items()}
    return {name: value for name, value in values.items() if np.isfinite(value)}


OnImages = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def score_on_images(on_images: OnImages, scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the Dice coefficient of the pixels of images for scores (nodes, K) of their parts, and for the true classes.

    Parameters
    ----------
    on_images : callable
        Takes scores of nodes to the pixels: returns scores (N, K, H, W) and masks (N, H, W).
    """
    true = np.eye(scores.shape[1])[labels]
    return {"dice": mean_dice(*on_images(scores)), "dice_limit": mean_dice(*on_images(true))}
