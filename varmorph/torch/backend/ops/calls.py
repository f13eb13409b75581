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

__all__ = [
    "NO_FORWARD_MODE",
    "call",
    "differentiable",
    "differentiable_as",
    "is_alone",
    "kernel_op",
    "one_after_the_other",
    "python_op",
]

NO_FORWARD_MODE = "geodesic operators have no forward mode; differentiate them in reverse"

Keep = Callable[[Any, tuple[Any, ...], Any], None]
Gradient = Callable[..., tuple[Any, ...]]

Op = CustomOpDef | Callable[..., Any]
_functions: dict[Op, Callable[..., Any]] = {}
_rules: dict[Op, tuple[Keep, Gradient]] = {}
_pushes: dict[Op, Gradient] = {}


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


def python_op(
    keep: Keep, gradient: Gradient, push: Gradient | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function of tensors and plain values one operation with rules for autograd, that `call` calls by itself.

    push : what takes the tangents of the arguments to those of the results, for forward mode.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        _functions[function] = function
        _rules[function] = keep, gradient
        if push is not None:
            _pushes[function] = push
        return function

    return register


def differentiable_as(op: CustomOpDef, twin: Callable[..., tuple[Tensor, ...]]) -> None:
    """Differentiate an op, the backward pass of another, by a function of the same arguments in tensor code.

    It is asked for second derivatives and those after them, and gives them at its own speed.
    """

    def keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*(value if isinstance(value, Tensor) else None for value in inputs))
        ctx.plain = tuple(None if isinstance(value, Tensor) else value for value in inputs)

    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        arguments = [
            plain if saved is None else saved for saved, plain in zip(ctx.saved_tensors, ctx.plain, strict=True)
        ]
        places = [i for i, value in enumerate(arguments) if isinstance(value, Tensor) and value.is_floating_point()]

        def function(*given: Tensor) -> tuple[Tensor, ...]:
            for i, value in zip(places, given, strict=True):
                arguments[i] = value
            return twin(*arguments)

        results, pull = torch.func.vjp(function, *(arguments[i] for i in places))[:2]
        filled = (torch.zeros_like(y) if g is None else g for y, g in zip(results, cotangents, strict=True))
        gradients: list[Any] = [None] * len(arguments)
        for i, gradient in zip(places, pull(tuple(filled)), strict=True):
            gradients[i] = gradient
        return tuple(gradients)

    differentiable(op, keep, backward)


def one_after_the_other(function: Callable[..., Any]) -> Callable[..., tuple[Any, Any]]:
    """Make the rule by which `torch.func.vmap` takes a function of tensors and plain values: a call for each member."""

    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        def member(i: int) -> list[Any]:
            return [
                value.select(dim, i) if isinstance(value, Tensor) and dim is not None else value
                for value, dim in zip(arguments, in_dims, strict=True)
            ]

        results = [function(*member(i)) for i in range(info.batch_size)]
        if isinstance(results[0], Tensor):
            return torch.stack(results), 0
        return tuple(torch.stack(parts) for parts in zip(*results, strict=True)), (0,) * len(results[0])

    return vmap


class _Recorded(torch.autograd.Function):
    """A call of an op, with its rule for autograd, that a transform may follow."""

    @staticmethod
    def forward(op: Op, *arguments: Any) -> Any:
        return _functions[op](*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        op, *arguments = inputs
        keep, ctx.gradient = _rules[op]
        ctx.is_kernel, ctx.push = isinstance(op, CustomOpDef), _pushes.get(op)
        ctx.set_materialize_grads(False)
        keep(ctx, tuple(arguments), output)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Any:
        if ctx.push is not None:
            return ctx.push(ctx, *tangents[1:])
        if not ctx.is_kernel:
            raise RuntimeError(NO_FORWARD_MODE)
        raise RuntimeError(
            "the kernels have no forward mode; compute the operator under `with varmorph.torch.backend('tensor')`,"
            " or differentiate it in reverse"
        )

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Any, ...]:
        if all(gradient is None for gradient in grad_outputs):  # nobody uses the results
            return (None,) * len(ctx.needs_input_grad)
        return None, *ctx.gradient(ctx, *grad_outputs)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        return one_after_the_other(call)(info, in_dims, *arguments)


class _Alone(_Recorded):
    """The same where no transform is under way: PyTorch looks up the signature of a function that has a `setup_context`."""

    @staticmethod
    def forward(ctx: Any, op: Op, *arguments: Any) -> Any:  # type: ignore[override]
        output = _functions[op](*arguments)
        _Recorded.setup_context(ctx, (op, *arguments), output)
        return output

    setup_context = torch.autograd.Function.setup_context


def _is_plain(tensors: Sequence[Tensor]) -> bool:
    """Tell whether tensors hold numbers, and nothing watches what is done to them but autograd and `torch.func`."""
    return (
        all(type(tensor) in (Tensor, nn.Parameter) for tensor in tensors)
        and not torch.jit.is_tracing()
        and _get_current_dispatch_mode() is None
    )


def is_alone(*tensors: Tensor) -> bool:
    """Tell whether nothing watches a call on these tensors but autograd, in its backward mode."""
    return not torch.compiler.is_compiling() and _is_plain(tensors) and not _is_followed()


def _is_followed() -> bool:
    return forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()


def call(op: Op, *arguments: Any) -> Any:
    """Call an op, by the shortest way."""
    tensors = [argument for argument in arguments if isinstance(argument, Tensor)]
    if torch.compiler.is_compiling() or not _is_plain(tensors):
        return op(*arguments)
    if _is_followed():
        return _Recorded.apply(op, *arguments)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return _Alone.apply(op, *arguments)
    return _functions[op](*arguments)
