"""The equilibrium X = relu(W X A + B) of an implicit graph layer, and its adjoint.

Gu, Chang, Zhu, Sojoudi, El Ghaoui (2020), Implicit graph neural networks, NeurIPS, sections 3 and 4. States are stored as
Y = X^T (nodes, hidden), inputs as B^T (nodes, hidden).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from varmorph.convergence import ConvergenceWarning

from .adjacency import Adjacency


@dataclass
class Convergence:
    """How the two iterations of the last call went.

    Parameters
    ----------
    forward, backward : Iteration or None
        Of the state, and after the backward pass of its adjoint; their values are left out.
    """

    forward: Iteration | None = None
    backward: Iteration | None = None


class Iteration(NamedTuple):
    """Steps taken, the last change relative to the size of the iterate, and whether that is within the tolerance."""

    steps: int
    residual: float
    converged: bool


class Limits(NamedTuple):
    """When to stop: the relative change, in the greatest norm, and the most steps."""

    tolerance: float
    max_steps: int


def equilibrium(weight: Tensor, inputs: Tensor, graph: Adjacency, limits: Limits, report: Convergence) -> Tensor:
    """Return Y (nodes, hidden) with Y = relu(A^T Y W^T + inputs), differentiable in `weight` and `inputs`.

    Parameters
    ----------
    weight : (hidden, hidden)
        W, with ||W||_inf times the Perron-Frobenius value of A below 1.
    inputs : (nodes, hidden)
        The transpose of b_Omega(U).
    graph : Adjacency
        A.
    limits : Limits
        Of both iterations.
    report : Convergence
        Is filled in.

    Warns
    -----
    ConvergenceWarning
        If an iteration does not reach the tolerance.
    """
    return _Equilibrium.apply(weight, inputs, graph, limits, report)


class _Equilibrium(torch.autograd.Function):
    """G = D o (W^T G A^T + dL/dX), then dL/dW = G (X A)^T and dL/dB = G, D being the slope of relu at the equilibrium."""

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, inputs: Tensor, graph: Adjacency, limits: Limits, report: Convergence
    ) -> Tensor:
        y, report.forward = iterate(
            lambda y: (graph.gather(y) @ weight.T + inputs).relu(), inputs.relu(), limits, "the equilibrium"
        )
        ctx.save_for_backward(weight, y)
        ctx.graph, ctx.limits, ctx.report = graph, limits, report
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, y = ctx.saved_tensors
        slope = y > 0  # relu's slope at 0 is 0 by convention, as everywhere in PyTorch
        pulled = slope * grad
        adjoint, ctx.report.backward = iterate(
            lambda g: slope * (ctx.graph.scatter(g) @ weight) + pulled, pulled, ctx.limits, "the adjoint"
        )
        return adjoint.T @ ctx.graph.gather(y), adjoint, None, None, None


def iterate(step: Callable[[Tensor], Tensor], start: Tensor, limits: Limits, what: str) -> tuple[Tensor, Iteration]:
    """Apply `step` until nothing moves by more than the tolerance."""
    value, change = start, torch.inf
    for steps in range(1, limits.max_steps + 1):
        following = step(value)
        size = float(following.abs().max())
        change = float((following - value).abs().max()) / size if size > 0 else float(value.abs().max())
        value = following
        if change <= limits.tolerance:
            return value, Iteration(steps, change, True)
    warnings.warn(
        f"{what} moved by {change:.1e} of its size in the last of {limits.max_steps} steps, expected {limits.tolerance:.1e}",
        ConvergenceWarning,
        stacklevel=2,
    )
    return value, Iteration(limits.max_steps, change, False)
