"""Coupled operators under the transforms of `torch.func`, to which a whole solve is one operation with a derivative.

What a transform hands on has no numbers that a solver could look at. So the solve waits until the transforms have taken
themselves off: the members of a batch of `vmap` are solved one after the other. The backward pass solves once more, since
nothing of the first solve is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec

import torch
from torch import Tensor
from torch.utils import _pytree

from varmorph.torch.backend.choice import follows_derivatives, refuse_to_be_written_down
from varmorph.torch.backend.ops.calls import call, python_op
from varmorph.torch.energy.certificates import ActiveSet, Certificate, ForwardCertificate
from varmorph.torch.energy.minimisation import Solution

__all__ = ["solved_under_transforms"]

Arguments = ParamSpec("Arguments")
Solve = Callable[..., Solution]


def solved_under_transforms(operator: Callable[Arguments, Solution]) -> Callable[Arguments, Solution]:
    """Let `torch.func.grad`, `vjp`, `jacrev` and `vmap` take an operator that returns a `Solution`.

    Its certificate then tells of the forward pass alone.
    """

    @wraps(operator)
    def apply(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Solution:
        refuse_to_be_written_down(operator.__name__)
        if not follows_derivatives():
            return operator(*args, **kwargs)
        leaves, structure = _pytree.tree_flatten((args, kwargs))
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

        def solve(*tensors: Tensor) -> Solution:
            given = list(leaves)
            for i, tensor in zip(places, tensors, strict=True):
                given[i] = tensor
            positional, named = _pytree.tree_unflatten(given, structure)
            return operator(*positional, **named)

        value, unknowns, *numbers = call(_solved, solve, *(leaves[i] for i in places))
        converged, iterations, residual, linear_steps, unique, *active = numbers
        forward = ForwardCertificate(converged, iterations, residual, linear_steps, unique, ActiveSet(*active))
        return Solution(value, Certificate(forward), unknowns)

    return apply


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.solve, *tensors = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.results, ctx.value = len(output), (output[0].shape, output[0].dtype)
    _save(ctx, tensors)


def _save(ctx: Any, tensors: Sequence[Tensor]) -> None:
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)


def _filled(tensors: Sequence[Tensor], changes: Sequence[Tensor | None]) -> list[Tensor]:
    """Give the changes of the tensors that have some, zeros for None."""
    both = zip(tensors, changes, strict=True)
    return [torch.zeros_like(t) if change is None else change for t, change in both if t.is_floating_point()]


def _push(ctx: Any, _: None, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
    changes = _filled(ctx.saved_tensors, tangents)
    change = call(_pushed_forward, ctx.solve, ctx.value, len(changes), *changes, *ctx.saved_tensors)
    return change, *(None,) * (ctx.results - 1)


def _gradient(ctx: Any, grad_value: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    gradients = iter(call(_pulled_back, ctx.solve, grad_value, *ctx.saved_tensors))
    return (None, *(next(gradients) if tensor.is_floating_point() else None for tensor in ctx.saved_tensors))


@python_op(_keep, _gradient, _push)
def _solved(solve: Solve, *tensors: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        value, certificate, unknowns = solve(*tensors)
    *numbers, active = certificate.forward
    return value, unknowns.clone(), *numbers, *active


def _keep_all(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.solve, *tensors = inputs
    _save(ctx, tensors)


def _gradient_of_gradients(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
    tensors = ctx.saved_tensors
    filled = _filled([tensor for tensor in tensors[1:] if tensor.is_floating_point()], cotangents)
    gradients = iter(call(_pulled_back_twice, ctx.solve, len(filled), *filled, *tensors))
    return (None, *(next(gradients) if tensor.is_floating_point() else None for tensor in tensors))


def _push_gradients(ctx: Any, _: None, tangent: Tensor | None, *tangents: Tensor | None) -> tuple[Tensor, ...]:
    """Second derivatives are symmetric: a change of the arguments moves the gradients as `_gradient_of_gradients` has it."""
    (grad_value, *tensors), changes = ctx.saved_tensors, _filled(ctx.saved_tensors[1:], tangents)
    _, *moved = call(_pulled_back_twice, ctx.solve, len(changes), *changes, grad_value, *tensors)
    if tangent is None:
        return tuple(moved)
    return tuple(a + b for a, b in zip(moved, call(_pulled_back, ctx.solve, tangent, *tensors), strict=True))


def _with_storage(tensor: Tensor) -> Tensor:
    """Write out the zeros that forward mode holds without any memory."""
    return torch.zeros_like(tensor, memory_format=torch.contiguous_format) if tensor._is_zerotensor() else tensor


def _leaves(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [_with_storage(tensor).detach().requires_grad_(tensor.is_floating_point()) for tensor in tensors]


def _chosen(leaves: Sequence[Tensor]) -> list[Tensor]:
    return [leaf for leaf in leaves if leaf.requires_grad]


@python_op(_keep_all, _gradient_of_gradients, _push_gradients)
def _pulled_back(solve: Solve, grad_value: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    with torch.enable_grad():
        leaves = _leaves(tensors)
        value = solve(*leaves).value
    return torch.autograd.grad(
        value, _chosen(leaves), _with_storage(grad_value), allow_unused=True, materialize_grads=True
    )


def _refuse(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
    raise RuntimeError("coupled operators have first and second derivatives only, found a third one")


@python_op(lambda ctx, inputs, output: None, _refuse)
def _pulled_back_twice(solve: Solve, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
    """Give the gradients of the arguments of `_pulled_back` from those of its `count` results, the first of the tensors."""
    with torch.enable_grad():
        leaves = _leaves(tensors[count:])
        grad_value, *given = leaves
        value = solve(*given).value
        first = torch.autograd.grad(
            value, _chosen(given), grad_value, create_graph=True, allow_unused=True, materialize_grads=True
        )
    both = [(y, _with_storage(g)) for y, g in zip(first, tensors[:count], strict=True) if y.requires_grad]
    results, cotangents = zip(*both, strict=True)
    return torch.autograd.grad(results, _chosen(leaves), cotangents, allow_unused=True, materialize_grads=True)


def _gradient_of_push(ctx: Any, grad_value: Tensor) -> tuple[Tensor | None, ...]:
    tensors, count = ctx.saved_tensors[ctx.count :], ctx.count
    of_changes = call(_pulled_back, ctx.solve, grad_value, *tensors)
    _, *moved = call(_pulled_back_twice, ctx.solve, count, *ctx.saved_tensors[:count], grad_value, *tensors)
    gradients = iter(moved)
    return (
        None,
        None,
        None,
        *of_changes,
        *(next(gradients) if tensor.is_floating_point() else None for tensor in tensors),
    )


def _keep_count(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.solve, _, ctx.count, *tensors = inputs
    _save(ctx, tensors)


def _refuse_push(ctx: Any, *tangents: Tensor | None) -> Any:
    raise RuntimeError("coupled operators have no forward mode over forward mode; use reverse mode for one of the two")


@python_op(_keep_count, _gradient_of_push, _refuse_push)
def _pushed_forward(solve: Solve, value: tuple[torch.Size, torch.dtype], count: int, *tensors: Tensor) -> Tensor:
    """Give the change of the value, of this shape and dtype, for changes of the arguments, the first `count` tensors.

    It is the gradient by `grad_value` of the results of `_pulled_back`, which are linear in it.
    """
    shape, dtype = value
    grad_value = torch.zeros(shape, dtype=dtype, device=tensors[0].device)
    return _pulled_back_twice(solve, count, *tensors[:count], grad_value, *tensors[count:])[0]
