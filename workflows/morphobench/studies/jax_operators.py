"""Operators of methods, called and differentiated by JAX."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from morphobench.contract import OperatorInstance
from morphobench.studies.measurement import WallClock

__all__ = ["call_operator"]


def call_operator(
    device: str, instance: OperatorInstance, cotangent: np.ndarray | None, dtype: str
) -> tuple[np.ndarray, list[np.ndarray], float]:
    """Return the value of an operator, with a cotangent its gradients too, and the seconds of both passes."""
    arrays = [jax.numpy.asarray(array, dtype) for array in instance.arguments.values()]
    if cotangent is None:
        return np.asarray(instance.operator(*arrays), np.float64), [], 0.0
    weight = jax.numpy.asarray(cotangent, dtype)

    def both() -> Any:
        value, pull = jax.vjp(instance.operator, *arrays)
        return jax.block_until_ready((value, pull(weight)))

    (value, gradients), seconds = WallClock().measure(both)
    return np.asarray(value, np.float64), [np.asarray(gradient, np.float64) for gradient in gradients], seconds
