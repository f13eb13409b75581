"""What a backward pass in compiled code leaves out."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.library import CustomOpDef

__all__ = ["first_derivatives_only"]


def first_derivatives_only(op: CustomOpDef) -> None:
    """Make an error of differentiating a backward pass: it beats a silent zero."""

    def backward(ctx: Any, *grad_outputs: Tensor) -> None:
        raise RuntimeError(
            "the kernels have first derivatives only; for second derivatives compute the operator"
            " under `with varmorph.torch.backend('tensor')`"
        )

    op.register_autograd(backward)
