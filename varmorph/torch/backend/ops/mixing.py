"""Operators that mix channels: max-plus, and one for each penalty.

bias and weight are (O, M, K), M = C / groups from x, and as many from -x if M is twice that; tau, cotau and smoothing (O,). The window comes as
plain numbers, see `varmorph.torch.backend.ops.window`. `kernels` says which compiled code runs, "cpu" or "cuda".
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from varmorph.torch.backend.ops.arrays import on_arrays
from varmorph.torch.backend.ops.calls import call, differentiable, kernel_op
from varmorph.windows import Geometry, output_shape

__all__ = [
    "expectile",
    "expectile_backward",
    "geometry_from",
    "huber",
    "huber_backward",
    "minimise",
    "quantile",
    "quantile_backward",
    "supremum",
    "supremum_backward",
]

Ints = Sequence[int]


def geometry_from(x_shape: Ints, size: Ints, stride: Ints, rate: Ints, padding: Any) -> Geometry:
    """Give what describes a window, for images of this shape."""
    image, window, steps, rates = ((pair[0], pair[1]) for pair in (x_shape[2:], size, stride, rate))
    return Geometry(image, window, steps, rates, padding)


def _result(x: Tensor, bias: Tensor, *window: Any) -> Tensor:
    return x.new_empty((x.shape[0], bias.shape[0], *output_shape(geometry_from(x.shape, *window))))


def _run(function: str, kernels: str, *arguments: Any) -> Any:
    """Call compiled code."""
    if kernels == "cuda":
        return getattr(import_module("varmorph.torch.backend.cuda.mixing.launchers"), function)(*arguments)
    lanes = import_module("varmorph.kernels.mixing.lanes")  # numba is loaded by the first kernel that runs
    return on_arrays(getattr(lanes, function), *arguments)


@kernel_op("varmorph::mixing_supremum")
def supremum(
    x: Tensor, bias: Tensor, outside: float | None, sign: int, with_slots: bool, kernels: str, groups: int, size: Ints,
    stride: Ints, rate: Ints, padding: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Compute the greatest x + bias (the least for sign -1), and the number of the first edge that attains it, M K without any.

    The backward pass needs the numbers; without `with_slots` there are none, which is faster.
    """
    geometry = geometry_from(x.shape, size, stride, rate, padding)
    return _run("supremum", kernels, x, bias, groups, geometry, outside, sign, with_slots)


@supremum.register_fake
def _(
    x: Tensor, bias: Tensor, outside: float | None, sign: int, with_slots: bool, kernels: str, groups: int, *window: Any
) -> tuple[Tensor, Tensor]:
    y = _result(x, bias, *window)
    return y, y.new_empty(y.shape if with_slots else (0,), dtype=torch.int32)


@kernel_op("varmorph::mixing_supremum_backward")
def supremum_backward(
    grad_y: Tensor, chosen: Tensor, bias: Tensor, kernels: str, groups: int, x_shape: Ints, size: Ints, stride: Ints,
    rate: Ints, padding: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Give the gradient of y to the chosen pixel and element."""
    signed = bias.shape[1] * groups != x_shape[1]
    geometry = geometry_from(x_shape, size, stride, rate, padding)
    return _run("supremum_backward", kernels, grad_y, chosen, bias, groups, signed, geometry)


@supremum_backward.register_fake
def _(
    grad_y: Tensor, chosen: Tensor, bias: Tensor, kernels: str, groups: int, x_shape: Ints, *window: Any
) -> tuple[Tensor, Tensor]:
    return grad_y.new_empty(x_shape), torch.empty_like(bias)


def _keep_for_supremum(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, bias, _, _, _, kernels, groups, *window = inputs
    ctx.save_for_backward(output[1], bias)
    ctx.plain = (kernels, groups, x.shape, *window)


def _supremum_gradient(ctx: Any, grad_y: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    return (*call(supremum_backward, grad_y, *ctx.saved_tensors, *ctx.plain), *(None,) * 9)


differentiable(supremum, _keep_for_supremum, _supremum_gradient)


def minimise(
    problem: tuple[Tensor, ...],
    smoothing: Tensor | None,
    penalty: str,
    outside: float | None,
    kernels: str,
    *layout: Any,
) -> Tensor:
    """Minimise the energy of each output; the problem is x, bias, weight, tau and 1 - tau, the layout groups and window."""
    if penalty == "expectile":
        return call(expectile, *problem, outside, kernels, *layout)
    if penalty == "quantile":
        return call(quantile, *problem, outside, kernels, *layout)[0]
    return call(huber, *problem, smoothing, outside, kernels, *layout)[0]


@kernel_op("varmorph::mixing_expectile")
def expectile(
    x: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor, outside: float | None, kernels: str, groups: int,
    size: Ints, stride: Ints, rate: Ints, padding: str,
) -> Tensor:  # fmt: skip
    """Compute the weighted expectiles; edges from beyond the image are absent if `outside` is None."""
    geometry = geometry_from(x.shape, size, stride, rate, padding)
    return _run("expectile", kernels, x, bias, weight, tau, cotau, groups, geometry, outside)


@expectile.register_fake
def _(
    x: Tensor,
    bias: Tensor,
    weight: Tensor,
    tau: Tensor,
    cotau: Tensor,
    outside: float | None,
    kernels: str,
    groups: int,
    *window: Any,
) -> Tensor:
    return _result(x, bias, *window)


@kernel_op("varmorph::mixing_expectile_backward")
def expectile_backward(
    grad_y: Tensor, x: Tensor, y: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor, outside: float | None,
    kernels: str, groups: int, size: Ints, stride: Ints, rate: Ints, padding: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Differentiate implicitly: the gradients of x, bias, weight and tau."""
    geometry = geometry_from(x.shape, size, stride, rate, padding)
    return _run("expectile_backward", kernels, grad_y, x, y, bias, weight, tau, cotau, groups, geometry, outside)


@expectile_backward.register_fake
def _(
    grad_y: Tensor, x: Tensor, y: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(bias), torch.empty_like(weight), torch.empty_like(tau)


def _keep_for_expectile(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, *parameters = inputs[:5]
    ctx.save_for_backward(x, output, *parameters)
    ctx.plain = inputs[5:]


def _expectile_gradient(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
    return (*call(expectile_backward, grad_y, *ctx.saved_tensors, *ctx.plain), *(None,) * 8)


differentiable(expectile, _keep_for_expectile, _expectile_gradient)


@kernel_op("varmorph::mixing_quantile")
def quantile(
    x: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor, outside: float | None, kernels: str, groups: int,
    size: Ints, stride: Ints, rate: Ints, padding: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Compute the weighted quantiles, and the slots of the two values whose middle each is."""
    geometry = geometry_from(x.shape, size, stride, rate, padding)
    return _run("quantile", kernels, x, bias, weight, tau, cotau, groups, geometry, outside)


@quantile.register_fake
def _(
    x: Tensor,
    bias: Tensor,
    weight: Tensor,
    tau: Tensor,
    cotau: Tensor,
    outside: float | None,
    kernels: str,
    groups: int,
    *window: Any,
) -> tuple[Tensor, Tensor]:
    y = _result(x, bias, *window)
    return y, y.new_empty((2, *y.shape), dtype=torch.int32)


@kernel_op("varmorph::mixing_quantile_backward")
def quantile_backward(
    grad_y: Tensor, endpoints: Tensor, bias: Tensor, kernels: str, groups: int, x_shape: Ints, size: Ints, stride: Ints,
    rate: Ints, padding: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Give the gradient of y by halves to the two values; weight and level get none."""
    signed = bias.shape[1] * groups != x_shape[1]
    geometry = geometry_from(x_shape, size, stride, rate, padding)
    return _run("quantile_backward", kernels, grad_y, endpoints, bias, groups, signed, geometry)


@quantile_backward.register_fake
def _(
    grad_y: Tensor, endpoints: Tensor, bias: Tensor, kernels: str, groups: int, x_shape: Ints, *window: Any
) -> tuple[Tensor, Tensor]:
    return grad_y.new_empty(x_shape), torch.empty_like(bias)


def _keep_for_quantile(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, bias, weight, tau, _, _, kernels, groups, *window = inputs
    ctx.save_for_backward(output[1], bias, weight, tau)
    ctx.plain = (kernels, groups, x.shape, *window)


def _quantile_gradient(ctx: Any, grad_y: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    endpoints, bias, weight, tau = ctx.saved_tensors
    by_x, by_bias = call(quantile_backward, grad_y, endpoints, bias, *ctx.plain)
    return (by_x, by_bias, torch.zeros_like(weight), torch.zeros_like(tau), *(None,) * 8)


differentiable(quantile, _keep_for_quantile, _quantile_gradient)


@kernel_op("varmorph::mixing_huber")
def huber(
    x: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor, smoothing: Tensor, outside: float | None,
    kernels: str, groups: int, size: Ints, stride: Ints, rate: Ints, padding: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Minimise Huber's penalty; on a flat piece, name the slots of the two values at its ends."""
    geometry = geometry_from(x.shape, size, stride, rate, padding)
    return _run("huber", kernels, x, bias, weight, tau, cotau, smoothing, groups, geometry, outside)


@huber.register_fake
def _(
    x: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor, smoothing: Tensor, outside: float | None,
    kernels: str, groups: int, *window: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    y = _result(x, bias, *window)
    return y, y.new_empty((2, *y.shape), dtype=torch.int32)


@kernel_op("varmorph::mixing_huber_backward")
def huber_backward(
    grad_y: Tensor, x: Tensor, y: Tensor, endpoints: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor,
    smoothing: Tensor, outside: float | None, kernels: str, groups: int, size: Ints, stride: Ints, rate: Ints,
    padding: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Differentiate implicitly: the gradients of x, bias, weight, tau and smoothing."""
    geometry = geometry_from(x.shape, size, stride, rate, padding)
    arrays = grad_y, x, y, endpoints, bias, weight, tau, cotau, smoothing
    return _run("huber_backward", kernels, *arrays, groups, geometry, outside)


@huber_backward.register_fake
def _(
    grad_y: Tensor, x: Tensor, y: Tensor, endpoints: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor,
    smoothing: Tensor, *rest: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    by_x, by_bias, by_weight, by_tau, by_smoothing = map(torch.empty_like, (x, bias, weight, tau, smoothing))
    return by_x, by_bias, by_weight, by_tau, by_smoothing


def _keep_for_huber(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(inputs[0], *output, *inputs[1:6])
    ctx.plain = inputs[6:]


def _huber_gradient(ctx: Any, grad_y: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    by_x, by_bias, by_weight, by_tau, by_smoothing = call(huber_backward, grad_y, *ctx.saved_tensors, *ctx.plain)
    return (by_x, by_bias, by_weight, by_tau, None, by_smoothing, *(None,) * 7)


differentiable(huber, _keep_for_huber, _huber_gradient)
