"""Operators of methods, called and differentiated by PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from morphobench.contract import OperatorInstance
from morphobench.studies.torch_measurement import clock_for

__all__ = ["call_operator"]


def call_operator(
    device: str, instance: OperatorInstance, cotangent: np.ndarray | None, dtype: str
) -> tuple[np.ndarray, list[np.ndarray], float]:
    """Return the value of an operator, with a cotangent its gradients too, and the seconds of both passes."""
    kind: dict[str, Any] = {"dtype": getattr(torch, dtype), "device": device}
    arrays = instance.arguments.values()
    if cotangent is None:
        with torch.no_grad():
            value = instance.operator(*(torch.tensor(array, **kind) for array in arrays))
        return value.double().cpu().numpy(), [], 0.0
    leaves = [torch.tensor(array, **kind).requires_grad_() for array in arrays]
    weight = torch.tensor(cotangent, **kind)

    def both() -> tuple[Any, Any]:
        value = instance.operator(*leaves)
        return value, torch.autograd.grad(value, leaves, weight, allow_unused=True, materialize_grads=True)

    (value, gradients), seconds = clock_for(device).measure(both)
    found = [gradient.double().cpu().numpy() for gradient in gradients]
    return value.detach().double().cpu().numpy(), found, seconds
