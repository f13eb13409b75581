"""Operators that mix channels: the energy of each pixel of an output channel, over the edges from several channels.

x is (N, C, H, W), bias and weight are (O, M, kh, kw), M = S C / groups with S = 2 if edges come from -x too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from varmorph.torch.backend.choice import DEVICES, compute_dtype, implementation, is_transformed
from varmorph.torch.backend.ops import mixing as ops
from varmorph.torch.backend.ops.calls import call, differentiable_as
from varmorph.torch.separable import maxplus, minimisation
from varmorph.torch.separable.expectile import frozen_newton_step, sides_of
from varmorph.torch.separable.neighbours import edge_values, edges_of, inside_image
from varmorph.torch.separable.quantiles import minimise_huber
from varmorph.torch.separable.second_derivatives import chosen_values, pulled_back, sides_by_tau
from varmorph.windows import Geometry, outside_value

__all__ = ["Mixing", "extremum", "minimise"]


class Mixing(NamedTuple):
    """How an operator is laid out: groups, whether -x is seen too, and the window."""

    groups: int
    signed: bool
    geometry: Geometry

    def is_depthwise(self, x: Tensor, bias: Tensor) -> bool:
        """Tell whether each output channel sees one input channel, and each input channel is seen once."""
        return self.groups == x.shape[1] == bias.shape[0] and not self.signed

    def as_plain_numbers(self) -> tuple[int, list[int], list[int], list[int], str]:
        """Give what an op takes."""
        _, size, stride, rate, padding, _ = self.geometry
        name = padding if isinstance(padding, str) else "geodesic"
        return self.groups, list(size), list(stride), list(rate), name


def extremum(x: Tensor, bias: Tensor, mixing: Mixing, sign: int) -> Tensor:
    """Compute the greatest x + bias over the edges into each output, for sign -1 the least."""
    if mixing.is_depthwise(x, bias) and sign > 0:
        return maxplus.dilate(x, bias[:, 0], mixing.geometry, x.shape[1])
    dtype, outside = compute_dtype(x), outside_value(mixing.geometry)
    image, function = x.to(dtype), bias.to(dtype)
    kernels = implementation("this max-plus convolution", x.device, DEVICES)
    if kernels != "tensor":
        learning = is_transformed() or (torch.is_grad_enabled() and (image.requires_grad or function.requires_grad))
        layout = mixing.as_plain_numbers()
        y, _ = call(ops.supremum, image, function.flatten(2), outside, sign, learning, kernels, *layout)
        return y.to(x.dtype)
    values, weights = _pulls(image, function, torch.ones_like(function), mixing)
    values = (sign * values).masked_fill(weights <= 0, -torch.inf)
    first = values.detach().max(dim=0, keepdim=True).indices
    greatest = values.gather(0, first).squeeze(0)
    # A window without edges has none that could take a gradient.
    return (sign * greatest.masked_fill(torch.isneginf(greatest), -torch.inf)).to(x.dtype)


def minimise(
    x: Tensor, bias: Tensor, weight: Tensor, level: Tensor, mixing: Mixing, penalty: str, smoothing: Tensor | None
) -> Tensor:
    """Minimise the energy of each output; level and smoothing are (O,)."""
    if mixing.is_depthwise(x, bias):
        geometry = mixing.geometry
        return minimisation.minimise(x, bias[:, 0], weight[:, 0], level, geometry, penalty, smoothing)
    dtype = compute_dtype(x)
    image, function, weights, logit = (tensor.to(dtype) for tensor in (x, bias, weight, level))
    mu = None if smoothing is None else smoothing.to(dtype)
    kernels = implementation("this variational convolution", x.device, DEVICES)
    if kernels != "tensor":
        problem = image, function.flatten(2), weights.flatten(2), *sides_of(logit)
        y = ops.minimise(problem, mu, penalty, outside_value(mixing.geometry), kernels, *mixing.as_plain_numbers())
    else:
        y = minimisation.minimise_each(*_pulls(image, function, weights, mixing), logit, penalty, mu)
    return y.to(x.dtype)


def _pulls(x: Tensor, bias: Tensor, weight: Tensor, mixing: Mixing) -> tuple[Tensor, Tensor]:
    """List the edges into each output: values (E, N, O, height, width), weights (E, 1, O, ...), 0 where there is no edge."""
    edges, outside = edges_of(mixing.geometry), outside_value(mixing.geometry)
    seen = edge_values(x, edges, 0.0 if outside is None else outside)  # (T, N, C, height, width)
    seen = seen.unflatten(2, (mixing.groups, -1))
    if mixing.signed:
        seen = torch.cat((seen, -seen), 3)  # (T, N, groups, M, height, width)
    elements = torch.as_tensor(edges.elements, device=x.device)

    def per_edge(function: Tensor) -> Tensor:
        """Spread (O, M, kh, kw) over the edges: (M, T, 1, groups, O / groups, 1, 1)."""
        spread = function.flatten(2).index_select(2, elements).unflatten(0, (mixing.groups, -1))
        return spread.permute(2, 3, 0, 1)[:, :, None, ..., None, None]

    offset = per_edge(bias)
    absent = torch.isneginf(offset)
    values = seen.permute(3, 0, 1, 2, 4, 5)[:, :, :, :, None] + offset.masked_fill(absent, 0.0)
    values = values.masked_fill(absent, 0.0)
    weights = per_edge(weight).masked_fill(absent, 0.0)
    if outside is None and edges.leaves_image:
        weights = weights * inside_image(edges, x.device)[:, :, :, None]
    return values.flatten(3, 4).flatten(0, 1), weights.flatten(3, 4).flatten(0, 1)


def _mixing(x_shape: Any, bias: Tensor, outside: float | None, groups: int, *window: Any) -> Mixing:
    """Undo `as_plain_numbers`."""
    geometry = ops.geometry_from(x_shape, *window)
    if outside is not None:
        geometry = geometry._replace(padding=outside)
    return Mixing(groups, bias.shape[1] * groups != x_shape[1], geometry)


def _supremum_backward(
    grad_y: Tensor, chosen: Tensor, bias: Tensor, kernels: str, groups: int, x_shape: Any, *window: Any
) -> tuple[Tensor, ...]:
    """Give the gradient of y to the chosen pixel and element."""
    mixing = _mixing(x_shape, bias, 0.0, groups, *window)

    def selected(x: Tensor, bias: Tensor) -> Tensor:
        values, _ = _pulls(
            x, bias.unflatten(2, mixing.geometry.size), torch.ones_like(bias).unflatten(2, mixing.geometry.size), mixing
        )
        return chosen_values(values, chosen)

    return pulled_back(selected, grad_y, grad_y.new_zeros(x_shape), torch.zeros_like(bias))


def _expectile_backward(
    grad_y: Tensor, x: Tensor, y: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor, outside: float | None,
    kernels: str, groups: int, *window: Any,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Give the gradients of x, bias, weight and tau: those of one more step of Newton's method."""
    mixing, fixed = _mixing(x.shape, bias, outside, groups, *window), tau.detach()

    def step(x: Tensor, bias: Tensor, weight: Tensor, tau: Tensor) -> Tensor:
        offsets, weights = (function.unflatten(2, mixing.geometry.size) for function in (bias, weight))
        return frozen_newton_step(*_pulls(x, offsets, weights, mixing), *sides_by_tau(tau, cotau, fixed), y)

    return pulled_back(step, grad_y, x, bias, weight, tau)


def _quantile_backward(
    grad_y: Tensor, endpoints: Tensor, bias: Tensor, kernels: str, groups: int, x_shape: Any, *window: Any
) -> tuple[Tensor, ...]:
    """Give the gradient of y by halves to the two values."""
    halves = [_supremum_backward(grad_y / 2, ends, bias, kernels, groups, x_shape, *window) for ends in endpoints]
    return tuple(first + second for first, second in zip(*halves, strict=True))


def _huber_backward(
    grad_y: Tensor, x: Tensor, y: Tensor, endpoints: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor,
    smoothing: Tensor, outside: float | None, kernels: str, groups: int, *window: Any,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Give the gradients of x, bias, weight, tau and smoothing: those of the formula of the piece."""
    mixing, fixed = _mixing(x.shape, bias, outside, groups, *window), tau.detach()

    def minimised(x: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, smoothing: Tensor) -> Tensor:
        offsets, weights = (function.unflatten(2, mixing.geometry.size) for function in (bias, weight))
        pulls = _pulls(x, offsets, weights, mixing)
        return minimise_huber(*pulls, *sides_by_tau(tau, cotau, fixed), smoothing[:, None, None])

    return pulled_back(minimised, grad_y, x, bias, weight, tau, smoothing)


differentiable_as(ops.supremum_backward, _supremum_backward)
differentiable_as(ops.quantile_backward, _quantile_backward)
differentiable_as(ops.huber_backward, _huber_backward)
differentiable_as(ops.expectile_backward, _expectile_backward)
