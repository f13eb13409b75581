"""Blocks of outputs solved together, for the penalties that list their edges: see `varmorph.kernels.window.blocks`.

A block lists the edges of `BLOCK` outputs of one channel, from all copies, and nothing beyond it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel
from varmorph.kernels.window.blocks import BLOCK, VALUE, WEIGHT

__all__ = ["give_back", "keep", "read", "take"]


@kernel
def read(
    table: Any, slots: Any, first: int, copies: Any, size: int, mask: Any, offsets: Any, bias: Any, weight: Any
) -> int:
    """Write the edges of the block that begins at lane `first`, and their slots; return their number.

    bias, weight : (M, K). mask : 1 at the cells of a copy from which edges start, else 0.
    """
    count = 0
    for m in range(bias.shape[0]):
        for t in range(bias.shape[1]):
            if bias[m, t] > -np.inf:
                # Unsigned, because a negative index would count from the end: that case stops vector code.
                cell, place = np.uint64(m * size + first + offsets[t]), np.uint64(first + offsets[t])
                for j in range(BLOCK):
                    table[count, VALUE + j] = copies[cell + np.uint64(j)] + bias[m, t]
                    table[count, WEIGHT + j] = weight[m, t] * mask[place + np.uint64(j)]
                slots[count] = m * bias.shape[1] + t
                count += 1
    return count


@kernel
def give_back(table: Any, slots: Any, count: int, first: int, grad: Any, size: int, offsets: Any) -> None:
    """Add what stands in place of the values to the cells that they were read from."""
    for k in range(count):
        m, t = slots[k] // offsets.size, slots[k] % offsets.size
        cell = np.uint64(m * size + first + offsets[t])
        for j in range(BLOCK):
            grad[cell + np.uint64(j)] += table[k, VALUE + j]


@kernel
def keep(lanes: Any, state: Any, part: int, first: int) -> None:
    """Write one part of the state into lanes."""
    for j in range(BLOCK):
        lanes[first + j] = state[part + j]


@kernel
def take(state: Any, part: int, lanes: Any, first: int) -> None:
    """Read one part of the state from lanes."""
    for j in range(BLOCK):
        state[part + j] = lanes[first + j]
