"""Slots of a window in groups of `TAPS`, each of which a loop along the lanes handles at once.

Such a loop keeps its running values in registers. Its group is a tuple of fixed length, so that the compiler unrolls it
before it vectorises: from an array it would have to read anew at each lane. Much longer tuples are not unrolled, which
costs a factor of a hundred; 9 suits a window of 3 x 3, and fills 5 x 5, 7 x 7 and larger ones with little left over.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.cpython.unsafe.tuple import tuple_setitem
from numba.np.unsafe.ndarray import to_fixed_tuple

from varmorph.kernels.compilation import kernel

__all__ = ["FEW", "TAPS", "THREE", "few", "group", "index", "list_slots", "replaced", "three"]

TAPS = 9
FEW = 5  # for loops with so much to do for each tap that nine of them would not be unrolled
THREE = 3  # for loops in which each lane has parameters of its own, so that a tap reads three arrays
# Lanes are counted without sign: a negative index would count from the end, and looking for it stops the vectoriser.
index = np.uint64
# Numba's own building blocks, which type checkers misread: array, length -> tuple; tuple, place, value -> changed copy.
_as_tuple: Any = to_fixed_tuple
replaced: Any = tuple_setitem


@kernel
def group(values: Any, first: int) -> Any:
    """Give the group of taps that starts at `first` as a tuple."""
    return _as_tuple(values[first : first + TAPS], TAPS)


@kernel
def few(values: Any, first: int) -> Any:
    """Give the `FEW` taps that start at `first` as a tuple."""
    return _as_tuple(values[first : first + FEW], FEW)


@kernel
def three(values: Any, first: int) -> Any:
    """Give the `THREE` taps that start at `first` as a tuple."""
    return _as_tuple(values[first : first + THREE], THREE)


@kernel
def list_slots(bias: Any, offsets: Any, slots: Any, shift: Any, b: Any) -> int:
    """List slots with finite bias, their flat offsets and biases; return their number.

    The last is repeated until the arrays are full, which have room for `TAPS` more than the window has slots.
    """
    count = 0
    for t in range(bias.size):
        if bias[t] > -np.inf:
            slots[count] = t
            count += 1
    for t in range(shift.size):
        slots[t] = slots[min(t, count - 1)]
        shift[t] = offsets[slots[t]]
        b[t] = bias[slots[t]]
    return count
