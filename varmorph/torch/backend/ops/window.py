"""The separable window operators: max-plus, and one for each penalty.

An op gets the window as plain numbers: `size`, `stride`, `rate`, `padding` (a name; a number stands in `outside`) and
`reverse`, see `varmorph.windows`. `bias` and `weight` are (C, K), `tau`, `cotau` and `smoothing` (C,). `kernels`
says which compiled code runs, "cpu" or "cuda". Values with respect to `tau` are differentiated as if `cotau` were
1 - tau; `cotau` is given beside it because 1 - tau would lose it to rounding at high levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from varmorph.kernels.window import module_of, slots_fit_a_byte
from varmorph.torch.backend.ops.arrays import on_arrays
from varmorph.torch.backend.ops.calls import call, differentiable, kernel_op
from varmorph.windows import Geometry, output_shape

__all__ = [
    "as_plain_numbers",
    "expectile",
    "expectile_backward",
    "from_plain_numbers",
    "huber",
    "huber_backward",
    "minimise",
    "quantile",
    "quantile_backward",
    "run",
    "supremum",
    "supremum_backward",
]

Ints = Sequence[int]


def as_plain_numbers(geometry: Geometry) -> tuple[list[int], list[int], list[int], str, bool]:
    """Give what describes a window, except for the size of the image, in types that an op takes."""
    padding = geometry.padding if isinstance(geometry.padding, str) else "geodesic"
    return list(geometry.size), list(geometry.stride), list(geometry.rate), padding, geometry.reverse


def from_plain_numbers(x_shape: Ints, size: Ints, stride: Ints, rate: Ints, padding: Any, reverse: bool) -> Geometry:
    """Give what describes a window, for images of this shape."""
    image, window, steps, rates = ((pair[0], pair[1]) for pair in (x_shape[2:], size, stride, rate))
    return Geometry(image, window, steps, rates, padding, reverse)


def _result(x: Tensor, *description: Any) -> Tensor:
    """An image with a pixel for each window, without values."""
    geometry = from_plain_numbers(x.shape, *description)
    return x.new_empty((*x.shape[:2], *output_shape(geometry)))


def run(function: str, kernels: str, geometry: Geometry, *arguments: Any) -> Any:
    """Call compiled code with the numbers of tensors, which give its results."""
    if kernels == "cuda":
        return getattr(import_module("varmorph.torch.backend.cuda.window"), function)(*arguments)
    module = import_module(f"varmorph.kernels.{module_of(function, geometry)}")
    return on_arrays(getattr(module, function), *arguments)


def _slot_dtype(geometry: Geometry) -> torch.dtype:
    """Choose the integers for numbers of slots."""
    return torch.uint8 if slots_fit_a_byte(geometry) else torch.int32


@kernel_op("varmorph::supremum")
def supremum(
    x: Tensor, bias: Tensor, outside: float | None, raised: int, with_slots: bool, kernels: str,
    size: Ints, stride: Ints, rate: Ints, padding: str, reverse: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Compute max(x + bias) over each window, min(x - bias) for channels from `raised` on, and the first slot that attains it.

    The backward pass needs the slots; without `with_slots` there are none, which is faster.
    """
    geometry = from_plain_numbers(x.shape, size, stride, rate, padding, reverse)
    y, chosen = run("supremum", kernels, geometry, x, bias, geometry, outside, raised, with_slots)
    return y, chosen.to(_slot_dtype(geometry))


@supremum.register_fake
def _(
    x: Tensor, bias: Tensor, outside: float | None, raised: int, with_slots: bool, kernels: str, *window: Any
) -> tuple[Tensor, Tensor]:
    y = _result(x, *window)
    return y, y.new_empty(y.shape if with_slots else (0,), dtype=_slot_dtype(from_plain_numbers(x.shape, *window)))


@kernel_op("varmorph::supremum_backward")
def supremum_backward(
    grad_y: Tensor, chosen: Tensor, bias: Tensor, raised: int, kernels: str, x_shape: Ints,
    size: Ints, stride: Ints, rate: Ints, padding: str, reverse: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Give the gradient of y to the chosen pixel and element."""
    geometry = from_plain_numbers(x_shape, size, stride, rate, padding, reverse)
    gradients = run("supremum_backward", kernels, geometry, grad_y, chosen, bias, geometry, raised)
    return gradients


@supremum_backward.register_fake
def _(
    grad_y: Tensor, chosen: Tensor, bias: Tensor, raised: int, kernels: str, x_shape: Ints, *window: Any
) -> tuple[Tensor, Tensor]:
    return grad_y.new_empty(x_shape), torch.empty_like(bias)


def _keep_for_supremum(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, bias, _, raised, _, kernels, *window = inputs
    ctx.save_for_backward(output[1], bias)
    ctx.plain = (raised, kernels, x.shape, *window)


def _supremum_gradient(ctx: Any, grad_y: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    chosen, bias = ctx.saved_tensors
    return (*call(supremum_backward, grad_y, chosen, bias, *ctx.plain), *(None,) * 9)


differentiable(supremum, _keep_for_supremum, _supremum_gradient)


def minimise(
    problem: tuple[Tensor, ...],
    smoothing: Tensor | None,
    penalty: str,
    outside: float | None,
    kernels: str,
    *window: Any,
) -> Tensor:
    """Minimise the separable energy of each pixel; the problem is x, bias, weight, tau and 1 - tau."""
    if penalty == "expectile":
        return call(expectile, *problem, outside, kernels, *window)
    if penalty == "quantile":
        return call(quantile, *problem, outside, kernels, *window)[0]
    return call(huber, *problem, smoothing, outside, kernels, *window)[0]


@kernel_op("varmorph::expectile")
def expectile(
    x: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor, outside: float | None, kernels: str,
    size: Ints, stride: Ints, rate: Ints, padding: str, reverse: bool,
) -> Tensor:  # fmt: skip
    """Compute the weighted expectile of each window; edges from beyond the image are absent if `outside` is None."""
    geometry = from_plain_numbers(x.shape, size, stride, rate, padding, reverse)
    return run("expectile", kernels, geometry, x, bias, weight, tau, cotau, geometry, outside)


@expectile.register_fake
def _(
    x: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor, outside: float | None, kernels: str,
    *window: Any,
) -> Tensor:  # fmt: skip
    return _result(x, *window)


@kernel_op("varmorph::expectile_backward")
def expectile_backward(
    grad_y: Tensor, x: Tensor, y: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor,
    outside: float | None, kernels: str, size: Ints, stride: Ints, rate: Ints, padding: str, reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Differentiate implicitly: the gradients of x, bias, weight and tau."""
    geometry = from_plain_numbers(x.shape, size, stride, rate, padding, reverse)
    gradients = run("expectile_backward", kernels, geometry, grad_y, x, y, bias, weight, tau, cotau, geometry, outside)
    return gradients


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


@kernel_op("varmorph::quantile")
def quantile(
    x: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor, outside: float | None, kernels: str,
    size: Ints, stride: Ints, rate: Ints, padding: str, reverse: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Compute the weighted quantile of each window, and the slots of the two neighbours whose middle it is."""
    geometry = from_plain_numbers(x.shape, size, stride, rate, padding, reverse)
    return run("quantile", kernels, geometry, x, bias, weight, tau, cotau, geometry, outside)


@quantile.register_fake
def _(
    x: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor, outside: float | None, kernels: str,
    *window: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    y = _result(x, *window)
    return y, y.new_empty((2, *y.shape), dtype=torch.int32)


@kernel_op("varmorph::quantile_backward")
def quantile_backward(
    grad_y: Tensor, endpoints: Tensor, bias: Tensor, kernels: str, x_shape: Ints,
    size: Ints, stride: Ints, rate: Ints, padding: str, reverse: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Give the gradient of y by halves to the two neighbours and their elements; weight and level get none."""
    geometry = from_plain_numbers(x_shape, size, stride, rate, padding, reverse)
    return run("quantile_backward", kernels, geometry, grad_y, endpoints, bias, geometry)


@quantile_backward.register_fake
def _(
    grad_y: Tensor, endpoints: Tensor, bias: Tensor, kernels: str, x_shape: Ints, *window: Any
) -> tuple[Tensor, Tensor]:
    return grad_y.new_empty(x_shape), torch.empty_like(bias)


def _keep_for_quantile(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, bias, weight, tau, _, _, kernels, *window = inputs
    ctx.save_for_backward(output[1], bias, weight, tau)
    ctx.plain = (kernels, x.shape, *window)


def _quantile_gradient(ctx: Any, grad_y: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    endpoints, bias, weight, tau = ctx.saved_tensors
    by_x, by_bias = call(quantile_backward, grad_y, endpoints, bias, *ctx.plain)
    return (by_x, by_bias, torch.zeros_like(weight), torch.zeros_like(tau), *(None,) * 8)


differentiable(quantile, _keep_for_quantile, _quantile_gradient)


@kernel_op("varmorph::huber")
def huber(
    x: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor, smoothing: Tensor, outside: float | None,
    kernels: str, size: Ints, stride: Ints, rate: Ints, padding: str, reverse: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Minimise Huber's penalty in each window; on a flat piece, name the slots of the two neighbours at its ends."""
    geometry = from_plain_numbers(x.shape, size, stride, rate, padding, reverse)
    return run("huber", kernels, geometry, x, bias, weight, tau, cotau, smoothing, geometry, outside)


@huber.register_fake
def _(
    x: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor, smoothing: Tensor, outside: float | None,
    kernels: str, *window: Any,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    y = _result(x, *window)
    return y, y.new_empty((2, *y.shape), dtype=torch.int32)


@kernel_op("varmorph::huber_backward")
def huber_backward(
    grad_y: Tensor, x: Tensor, y: Tensor, endpoints: Tensor, bias: Tensor, weight: Tensor, tau: Tensor, cotau: Tensor,
    smoothing: Tensor, outside: float | None, kernels: str,
    size: Ints, stride: Ints, rate: Ints, padding: str, reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Differentiate implicitly: the gradients of x, bias, weight, tau and smoothing."""
    geometry = from_plain_numbers(x.shape, size, stride, rate, padding, reverse)
    arrays = grad_y, x, y, endpoints, bias, weight, tau, cotau, smoothing
    gradients = run("huber_backward", kernels, geometry, *arrays, geometry, outside)
    return gradients


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
