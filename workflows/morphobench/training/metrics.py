"""The metrics that training watches and evaluation reports, each defined here for both. Imports no framework."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["dice", "multilabel_auc"]


def dice(overlap: Any, total: Any) -> Any:
    """Return the Dice coefficient 2 |P and T| / (|P| + |T|) of masks P and T from their counts; two empty masks agree (1).

    A metric and no loss: training minimises its smooth counterpart of probabilities, which each framework has beside its losses.

    Parameters
    ----------
    overlap, total : whole numbers, or arrays of them of any framework
        |P and T| and |P| + |T|.

    Examples
    --------
    >>> dice(np.array([3, 0]), np.array([8, 0]))
    array([0.75, 1.  ])
    """
    empty = total == 0
    return (2 * overlap + empty) / (total + empty)


def multilabel_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean over labels of the area under the ROC curve; NaN where no label has one.

    Parameters
    ----------
    scores, labels : ndarray
        (N, L). Only the order of the scores of a label counts: raw scores, since a sigmoid that has saturated ties. Labels that no
        sample has, or every one, have no curve and are left out.
    """
    from sklearn.metrics import roc_auc_score  # takes a second to import

    scores = scores.astype(np.float64)  # differences of float32 scores overflow
    present = [k for k in range(scores.shape[1]) if 0 < labels[:, k].sum() < len(labels)]
    return float(np.mean([roc_auc_score(labels[:, k], scores[:, k]) for k in present])) if present else np.nan
