"""The backward passes of the window kernels once more in tensor code, by which they are differentiated themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from varmorph.torch.backend.ops import window as ops
from varmorph.torch.separable.expectile import frozen_newton_step
from varmorph.torch.separable.neighbours import edge_values, edges_of, per_edge, signs_of, window_pulls
from varmorph.torch.separable.quantiles import minimise_huber

__all__ = [
    "chosen_values",
    "expectile_backward",
    "huber_backward",
    "pulled_back",
    "quantile_backward",
    "sides_by_tau",
    "supremum_backward",
]


def chosen_values(values: Tensor, chosen: Tensor) -> Tensor:
    """Read the value (T, ...) of the edge with the chosen number (...); 0 where no edge has this number."""
    number = chosen.long()
    exists = (number >= 0) & (number < values.shape[0])
    return values.gather(0, number.where(exists, 0)[None]).squeeze(0) * exists


def pulled_back(function: Callable[..., Tensor], grad_y: Tensor, *at: Tensor) -> tuple[Tensor, ...]:
    """Give the gradient of a function at a point in tensor code, from that of its result."""
    pull = torch.func.vjp(function, *at)[1]
    return tuple(pull(grad_y))


def supremum_backward(
    grad_y: Tensor, chosen: Tensor, bias: Tensor, raised: int, kernels: str, x_shape: Any, *window: Any
) -> tuple[Tensor, ...]:
    """Give the gradient of y to the chosen pixel and element."""
    edges = edges_of(ops.from_plain_numbers(x_shape, *window))
    signs = signs_of(bias.shape[0], raised, bias)[..., 0]

    def selected(x: Tensor, bias: Tensor) -> Tensor:
        return chosen_values(edge_values(x, edges, 0.0) + per_edge(signs * bias, edges), chosen)

    return pulled_back(selected, grad_y, grad_y.new_zeros(x_shape), torch.zeros_like(bias))


def quantile_backward(
    grad_y: Tensor, endpoints: Tensor, bias: Tensor, kernels: str, x_shape: Any, *window: Any
) -> tuple[Tensor, ...]:
    """Give the gradient of y by halves to the two neighbours at the ends, and their elements."""
    edges = edges_of(ops.from_plain_numbers(x_shape, *window))

    def middle(x: Tensor, bias: Tensor) -> Tensor:
        values = edge_values(x, edges, 0.0) + per_edge(bias, edges)
        return (chosen_values(values, endpoints[0]) + chosen_values(values, endpoints[1])) / 2

    return pulled_back(middle, grad_y, grad_y.new_zeros(x_shape), torch.zeros_like(bias))


def sides_by_tau(tau: Tensor, cotau: Tensor, fixed: Tensor) -> tuple[Tensor, Tensor]:
    """Give tau and 1 - tau as functions of tau; `cotau` has the value, which 1 - tau would round."""
    return tau[:, None, None], (cotau.detach() - (tau - fixed))[:, None, None]


def expectile_backward(
    grad_y: Tensor, x: Tensor, y: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor,
    outside: float | None, kernels: str, *window: Any,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Give the gradients of x, bias, weight and tau: those of one more step of Newton's method."""
    edges = edges_of(ops.from_plain_numbers(x.shape, *window))
    fixed = tau.detach()

    def step(x: Tensor, bias: Tensor, weight: Tensor, tau: Tensor) -> Tensor:
        pulls = window_pulls(x, bias, weight, edges, outside)
        return frozen_newton_step(*pulls, *sides_by_tau(tau, cotau, fixed), y)

    return pulled_back(step, grad_y, x, bias, weight, tau)


def huber_backward(
    grad_y: Tensor, x: Tensor, y: Tensor, endpoints: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor,
    smoothing: Tensor, outside: float | None, kernels: str, *window: Any,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Give the gradients of x, bias, weight, tau and smoothing: those of the formula of the piece."""
    edges = edges_of(ops.from_plain_numbers(x.shape, *window))
    fixed = tau.detach()

    def minimise(x: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, smoothing: Tensor) -> Tensor:
        pulls = window_pulls(x, bias, weight, edges, outside)
        return minimise_huber(*pulls, *sides_by_tau(tau, cotau, fixed), smoothing[:, None, None])

    return pulled_back(minimise, grad_y, x, bias, weight, tau, smoothing)
