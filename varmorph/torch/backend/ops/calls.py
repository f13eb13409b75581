"""Ops around kernels: registered with PyTorch, and called without its dispatcher where nothing asks for it.

A custom op passes several layers of Python on its way, twice as long as a kernel takes on a small image. They are there for
code that is traced or transformed. Everywhere else `call` runs the same function, and the same rule for autograd, at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.library import CustomOpDef, custom_op
from torch.utils._python_dispatch import _get_current_dispatch_mode

__all__ = ["call", "differentiable", "first_derivatives_only", "kernel_op"]

Keep = Callable[[Any, tuple[Any, ...], Any], None]
Gradient = Callable[..., tuple[Any, ...]]

_functions: dict[CustomOpDef, Callable[..., Any]] = {}
_rules: dict[CustomOpDef, tuple[Keep, Gradient]] = {}


def kernel_op(name: str, **options: Any) -> Callable[[Callable[..., Any]], CustomOpDef]:
    """Register a function as the custom op of this name, which changes none of its arguments."""

    def register(function: Callable[..., Any]) -> CustomOpDef:
        op = custom_op(name, mutates_args=(), **options)(function)
        _functions[op] = function
        return op

    return register


def differentiable(op: CustomOpDef, keep: Keep, gradient: Gradient) -> None:
    """Give an op its rule for autograd: what `keep` saves of arguments and results, `gradient` takes backward."""
    op.register_autograd(gradient, setup_context=keep)
    _rules[op] = keep, gradient


def first_derivatives_only(op: CustomOpDef) -> None:
    """Make an error of differentiating a backward pass: it beats a silent zero."""

    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Any, ...]:
        raise RuntimeError(
            "the kernels have first derivatives only; for second derivatives compute the operator"
            " under `with varmorph.torch.backend('tensor')`"
        )

    differentiable(op, lambda ctx, inputs, output: None, backward)


class _Recorded(torch.autograd.Function):
    """A call of an op, with its rule for autograd."""

    @staticmethod
    def forward(op: CustomOpDef, *arguments: Any) -> Any:
        return _functions[op](*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        op, *arguments = inputs
        keep, ctx.gradient = _rules[op]
        ctx.set_materialize_grads(False)
        keep(ctx, tuple(arguments), output)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> None:
        raise RuntimeError(
            "the kernels have no forward mode; compute the operator under `with varmorph.torch.backend('tensor')`"
        )

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Any, ...]:
        if all(gradient is None for gradient in grad_outputs):  # nobody uses the results
            return (None,) * len(ctx.needs_input_grad)
        return None, *ctx.gradient(ctx, *grad_outputs)


def _is_plain(tensors: Sequence[Tensor]) -> bool:
    """Tell whether tensors hold numbers, and nothing watches what is done to them but autograd and `torch.func`."""
    return (
        all(type(tensor) in (Tensor, nn.Parameter) for tensor in tensors)
        and not torch.jit.is_tracing()
        and _get_current_dispatch_mode() is None
    )


def call(op: CustomOpDef, *arguments: Any) -> Any:
    """Call an op, by the shortest way."""
    tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
    if torch.compiler.is_compiling() or not _is_plain(tensors):
        return op(*arguments)
    recorded = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    if recorded or forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active():
        return _Recorded.apply(op, *arguments)
    return _functions[op](*arguments)
