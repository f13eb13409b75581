"""What is learned from, and what is predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from morphobench.contract.graphs import GraphSplit

__all__ = ["SPLITS", "AnySplit", "Split"]

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Split:
    """Images and labels of one split, NumPy only; of graphs it is `GraphSplit`, which has the same methods.

    Parameters
    ----------
    images : ndarray
        (N, C, H, W), uint8 in 0..255 or float32 in [0, 1].
    labels : ndarray
        int64 (N,) for classification and ordinal, uint8 (N, L) for multilabel, int64 (N, H, W) for segmentation
        (0 is background), float32 (N, C, H, W) for restoration.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    @property
    def inputs(self) -> np.ndarray:
        """What ``predict`` is given."""
        return self.images

    @property
    def samples(self) -> np.ndarray:
        """What a batch is cut from."""
        return self.images

    def own(self, scores: np.ndarray) -> np.ndarray:
        """Return the scores of this split's images, of the scores of ``inputs``: all of them."""
        return scores

    def as_float(self) -> Split:
        """Return the split with float32 images in [0, 1] (uint8 is divided by 255)."""
        images = self.images
        if images.dtype == np.uint8:
            images = images.astype(np.float32) / np.float32(255)
        return Split(np.ascontiguousarray(images, dtype=np.float32), self.labels)


AnySplit: TypeAlias = Split | GraphSplit
