"""Coupled operators under the transforms of `torch.func`, to which a whole solve is one operation with a derivative.

What a transform hands on has no numbers that a solver could look at. So the solve waits until the transforms have taken
themselves off: the members of a batch of `vmap` are solved one after the other. The backward pass solves once more, since
nothing of the first solve is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import torch
from torch import Tensor
from torch.utils import _pytree

from varmorph.torch.backend.choice import follows_derivatives, refuse_to_be_written_down
from varmorph.torch.backend.ops.calls import call, python_op
from varmorph.torch.energy.adjoints import SECOND_DERIVATIVES
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
    ctx.save_for_backward(*tensors)


def _gradient(ctx: Any, grad_value: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    gradients = iter(call(_pulled_back, ctx.solve, grad_value, *ctx.saved_tensors))
    return (None, *(next(gradients) if tensor.is_floating_point() else None for tensor in ctx.saved_tensors))


@python_op(_keep, _gradient)
def _solved(solve: Solve, *tensors: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        value, certificate, unknowns = solve(*tensors)
    *numbers, active = certificate.forward
    return value, unknowns.clone(), *numbers, *active


def _refuse(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
    raise RuntimeError(SECOND_DERIVATIVES)


@python_op(lambda ctx, inputs, output: None, _refuse)
def _pulled_back(solve: Solve, grad_value: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
    with torch.enable_grad():
        leaves = [
            tensor.detach().requires_grad_() if tensor.is_floating_point() else tensor.detach() for tensor in tensors
        ]
        value = solve(*leaves).value
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    return torch.autograd.grad(value, wanted, grad_value, allow_unused=True, materialize_grads=True)
