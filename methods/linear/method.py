"""Logistic regression on grey values, or on the features of the nodes of a graph (scikit-learn)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from morphobench.contract import AnySplit, Graph, GraphSplit, Run, Split, Task

PIXELS = 3  # names the random stream that draws the training pixels, beside the seed of the trial
UNSEEN = -30.0  # score of a class that the training split does not show


class Linear:
    """Weights (features, K) and intercepts (K,) of scores that are linear in the centred grey values, or in the features."""

    def __init__(self, task: Task, params: Mapping[str, Any]):
        self.task, self.params = task, params
        self.weights = np.zeros((0, task.outputs))
        self.intercepts = np.zeros(task.outputs)


def build(task: Task, params: Mapping[str, Any]) -> Linear:
    """Return the untrained model."""
    return Linear(task, params)


def fit(model: Linear, train: AnySplit, valid: AnySplit, run: Run) -> None:
    """Fit one multinomial model, or one binary model for each label of a multilabel task."""
    if isinstance(train, GraphSplit):
        fit_nodes(model, train, valid, run)
        return
    if model.task.kind == "segmentation":
        features, labels = sampled_windows(train, model.params, np.random.default_rng([run.seed, PIXELS]))
    else:
        features, labels = flattened(train.images), train.labels
    model.weights = np.zeros((features.shape[1], model.task.outputs))
    if model.task.kind == "multilabel":
        for label in range(model.task.outputs):
            run.check_deadline()
            weights, intercepts = regression(features, labels[:, label], 2, model.params, run)
            model.weights[:, label] = weights[:, 1] - weights[:, 0]
            model.intercepts[label] = intercepts[1] - intercepts[0]
    else:
        model.weights, model.intercepts = regression(features, labels, model.task.outputs, model.params, run)


def fit_nodes(model: Linear, train: GraphSplit, valid: GraphSplit, run: Run) -> None:
    """Fit one multinomial model to the features of the training nodes; the penalty is the one best on the validation nodes.

    Features have no scale that data sets share, as grey values have, so that no penalty is right for all.
    """
    x, best = train.graph.x, -1.0
    for inverse_penalty in model.params["inverse_penalties"]:
        run.check_deadline()
        params = {**model.params, "inverse_penalty": inverse_penalty}
        weights, intercepts = regression(x[train.nodes], train.labels, model.task.outputs, params, run)
        found = (x[valid.nodes] @ weights + intercepts).argmax(axis=1)
        accuracy = float((found == valid.labels).mean())
        run.log(f"inverse penalty {inverse_penalty:g}: validation accuracy {accuracy:.4f}")
        if accuracy > best:
            best, model.weights, model.intercepts = accuracy, weights, intercepts


def regression(
    features: np.ndarray, labels: np.ndarray, classes: int, params: Mapping[str, Any], run: Run
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (features, classes) and intercepts (classes,) of logistic regression."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    weights, intercepts = np.zeros((features.shape[1], classes)), np.full(classes, UNSEEN)
    seen = np.unique(labels).astype(int)
    if len(seen) == 1:
        intercepts[seen] = 0
        return weights, intercepts
    regressor = LogisticRegression(C=params["inverse_penalty"], max_iter=params["iterations"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        regressor.fit(features, labels)
    if regressor.n_iter_.max() >= params["iterations"]:
        run.log(f"logistic regression stopped after {params['iterations']} iterations")
    if len(seen) == 2:  # scikit-learn keeps one row of weights for two classes: the second against the first
        weights[:, seen[1]], intercepts[seen[0]], intercepts[seen[1]] = regressor.coef_[0], 0, regressor.intercept_[0]
    else:
        weights[:, seen], intercepts[seen] = regressor.coef_.T, regressor.intercept_
    return weights, intercepts


def predict(model: Linear, images: np.ndarray | Graph) -> np.ndarray:
    """Return scores (N, K), in segmentation (N, K, H, W)."""
    if isinstance(images, Graph):
        return (images.x @ model.weights + model.intercepts).astype(np.float32)
    if model.task.kind != "segmentation":
        return (flattened(images) @ model.weights + model.intercepts).astype(np.float32)
    scores = np.empty(model.task.score_shape(images), dtype=np.float32)
    for image, score in zip(images, scores, strict=True):  # one by one: windows take window^2 times an image's memory
        each = windows(image, model.params["window"]).reshape(-1, len(model.weights)) @ model.weights + model.intercepts
        score[...] = each.T.reshape(score.shape)
    return scores


def flattened(images: np.ndarray) -> np.ndarray:
    """Return images (N, C, H, W) as centred features (N, C H W)."""
    return images.reshape(len(images), -1) - 0.5


def windows(image: np.ndarray, side: int) -> np.ndarray:
    """Return the centred grey values (H, W, C side side) around every pixel of an image (C, H, W), reflected at the border."""
    reach = (side // 2, side - 1 - side // 2)
    padded = np.pad(image - 0.5, ((0, 0), reach, reach), mode="symmetric")
    view = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2))
    return np.moveaxis(view, 0, 2).reshape(*image.shape[1:], -1)


def sampled_windows(
    train: Split, params: Mapping[str, Any], generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the same number of pixels from every training image; return windows and labels."""
    height, width = train.labels.shape[1:]
    count = min(height * width, -(-params["pixels"] // len(train)))
    features, labels = [], []
    for image, label in zip(train.images, train.labels, strict=True):
        chosen = generator.choice(height * width, size=count, replace=False)
        features.append(windows(image, params["window"]).reshape(height * width, -1)[chosen])
        labels.append(label.reshape(-1)[chosen])
    return np.concatenate(features), np.concatenate(labels)
