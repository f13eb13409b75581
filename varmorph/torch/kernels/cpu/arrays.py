"""Between tensors and what the CPU kernels take: arrays, structuring functions slot by slot, sums plane by plane."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["array_of", "by_element", "by_slot"]


def array_of(tensor: Tensor) -> np.ndarray:
    """Give the numbers of a tensor, contiguous."""
    return tensor.detach().contiguous().numpy()


def by_slot(function: Tensor, elements: np.ndarray) -> np.ndarray:
    """Bring a structuring function (C, K) into the order of the slots, (C, T); `elements` (T,) names that of each."""
    return np.ascontiguousarray(array_of(function)[:, elements])


def by_element(per_plane: np.ndarray, elements: np.ndarray, samples: int, like: Tensor) -> Tensor:
    """Add up (N * C, T) over samples, in a fixed order, and over the slots of each element: (C, K), of the type of `like`."""
    channels, count = like.shape
    sums = per_plane.reshape(samples, channels, per_plane.shape[1]).sum(0)
    total = np.zeros((channels, count))
    if elements.size == count:  # each element has one slot
        total[:, elements] = sums
    else:
        np.add.at(total.T, elements, sums.T)
    return torch.from_numpy(total).to(like.dtype)
