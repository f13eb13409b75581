"""PyTorch under the names of `jax.numpy`, for the formulas that both frameworks share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["xp"]


class _Namespace:
    """The functions of PyTorch, and those that it spells in another way."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(torch, name)
        setattr(self, name, found)  # formulas run many times: from then on this is an attribute like others
        return found

    @staticmethod
    def maximum(a: Tensor, b: Tensor | float) -> Tensor:
        """Greater of two numbers; `torch.maximum` takes tensors alone."""
        return torch.maximum(a, b) if isinstance(b, Tensor) else a.clamp(min=b)

    @staticmethod
    def detach(a: Tensor) -> Tensor:
        """The same numbers, without derivative."""
        return a.detach()

    @staticmethod
    def astype(a: Tensor, dtype: torch.dtype) -> Tensor:
        """The same numbers in another type."""
        return a.to(dtype)


xp = _Namespace()
