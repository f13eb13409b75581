"""The random numbers that PyTorch starts a layer with, without PyTorch: equal networks start equal in every framework.

Source: PyTorch's code. The generator is `aten/src/ATen/core/MT19937RNGEngine.h`, seeded by Knuth's recurrence as NumPy's legacy
generators are; what is made of its words is in `ATen/core/TransformationHelper.h`, `ATen/core/DistributionsHelper.h` and
`ATen/native/cpu/DistributionTemplates.h`; the bounds are in `torch/nn/init.py`, `torch/nn/modules/conv.py` and `linear.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["InitialWeights"]

FLOAT_BITS, DOUBLE_BITS = 24, 53  # random bits of a uniform number: those of the significand
LANES = 16  # normal numbers are made in blocks: eight cosines, then eight sines


class InitialWeights:
    """The stream of numbers that PyTorch draws on a CPU after ``torch.manual_seed(seed)``.

    Layers take their first weights from it one after the other, so that two networks start equal if they make the same layers
    in the same order. Uniform numbers are PyTorch's bit by bit (on processors with fused multiply-add, which it uses); normal
    ones to the last places of float32, since its vectorised logarithm and sine round differently.

    Parameters
    ----------
    seed : int
        Seed of the trial.

    Examples
    --------
    >>> stream = InitialWeights(0)
    >>> weight, bias = stream.layer((2, 1, 3, 3))
    >>> weight.shape, bias.shape, str(weight.dtype)
    ((2, 1, 3, 3), (2,), 'float32')
    """

    def __init__(self, seed: int):
        self._words = np.random.MT19937()
        self._words._legacy_seeding(seed & 0xFFFFFFFF)
        self._next_normal: float | None = None

    def uniform(self, shape: Sequence[int], bound: float) -> np.ndarray:
        """Draw float32 numbers from [-bound, bound), as ``tensor.uniform_(-bound, bound)``."""
        low, high = np.float32(-bound), np.float32(bound)
        # PyTorch's kernel fuses the product and the sum: one rounding, as of a sum in double precision.
        scaled = self._fractions(math.prod(shape)).astype(np.float64) * np.float64(high - low) + np.float64(low)
        return scaled.astype(np.float32).reshape(tuple(shape))

    def normal(self, shape: Sequence[int], deviation: float) -> np.ndarray:
        """Draw float32 numbers of mean 0, as ``tensor.normal_(std=deviation)`` and ``torch.nn.init.normal_``."""
        count = math.prod(shape)
        if count < LANES:
            drawn = np.array([self._one_normal() for _ in range(count)])
            return (drawn * deviation).astype(np.float32).reshape(tuple(shape))
        fractions = self._fractions(count)
        whole = count - count % LANES
        values = _normal_blocks(fractions[:whole])
        if whole < count:  # the last block overlaps the one before it, and is drawn afresh
            values = np.concatenate([values, np.empty(count - whole, np.float32)])
            values[-LANES:] = _normal_blocks(self._fractions(LANES))
        return (values * np.float32(deviation)).reshape(tuple(shape))

    def layer(self, shape: Sequence[int], bias: bool = True) -> tuple[np.ndarray, np.ndarray | None]:
        """Draw the weight (outputs, inputs, ...) and the bias (outputs,) of a convolution or a linear layer.

        Both are uniform within one over the root of the number of inputs that an output has.
        """
        inputs = math.prod(shape[1:])
        slope = math.sqrt(5)  # of the leaky ReLU that kaiming_uniform_ is told of
        deviation = math.sqrt(2.0 / (1 + slope**2)) / math.sqrt(inputs)
        weight = self.uniform(shape, math.sqrt(3.0) * deviation)
        return weight, self.uniform(shape[:1], 1 / math.sqrt(inputs)) if bias else None

    def seed(self) -> int:
        """Draw a seed of 32 bits for another generator, such as ``jax.random.key``."""
        return int(self._draw(1)[0])

    def _draw(self, count: int) -> np.ndarray:
        return np.atleast_1d(self._words.random_raw(count)).astype(np.uint64)

    def _fractions(self, count: int) -> np.ndarray:
        """Draw float32 numbers from [0, 1)."""
        words = self._draw(count) & np.uint64(2**FLOAT_BITS - 1)
        return words.astype(np.float32) * np.float32(2.0**-FLOAT_BITS)

    def _one_normal(self) -> float:
        """Draw one standard normal number in double precision; they come in pairs."""
        if self._next_normal is not None:
            value, self._next_normal = self._next_normal, None
            return value
        words = self._draw(4).astype(object)
        angle, radius = (
            (((high << 32) | low) & (2**DOUBLE_BITS - 1)) * 2.0**-DOUBLE_BITS for high, low in words.reshape(2, 2)
        )
        radius, angle = math.sqrt(-2.0 * math.log1p(-radius)), 2.0 * math.pi * angle
        self._next_normal = radius * math.sin(angle)
        return radius * math.cos(angle)


def _normal_blocks(fractions: np.ndarray) -> np.ndarray:
    """Turn blocks of 16 uniform numbers into normal ones (Box and Muller, Ann. Math. Statist. 1958)."""
    first, second = np.moveaxis(fractions.reshape(-1, 2, LANES // 2), 1, 0)
    radius = np.sqrt(np.float32(-2) * np.log(np.float32(1) - first))
    angle = np.float32(2 * math.pi) * second
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)
