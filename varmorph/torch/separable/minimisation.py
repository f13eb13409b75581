"""Separable variational operators: each pixel minimises its own energy over the edges of its window.

With the expectile penalty the minimiser is the weighted expectile of v = x + b, see `varmorph.torch.separable.expectile`;
for the other two penalties see `varmorph.torch.separable.quantiles`.
"""

from __future__ import annotations

from torch import Tensor

from varmorph.torch.backend.choice import DEVICES, compute_dtype, implementation, of_one_type
from varmorph.torch.backend.ops import alone
from varmorph.torch.backend.ops import window as ops
from varmorph.torch.backend.ops.calls import differentiable_as, is_alone
from varmorph.torch.separable.expectile import frozen_newton_step, minimise_expectile, sides_of
from varmorph.torch.separable.neighbours import edges_of, window_pulls
from varmorph.torch.separable.quantiles import minimise_huber, minimise_quantile
from varmorph.torch.separable.second_derivatives import expectile_backward, huber_backward, quantile_backward
from varmorph.windows import Geometry, Window, outside_value

__all__ = ["minimise", "minimise_each", "solve"]

differentiable_as(ops.expectile_backward, expectile_backward)
differentiable_as(ops.quantile_backward, quantile_backward)
differentiable_as(ops.huber_backward, huber_backward)


def minimise(
    x: Tensor,
    bias: Tensor,
    weight: Tensor,
    level: Tensor,
    geometry: Geometry,
    penalty: str,
    smoothing: Tensor | None,
) -> Tensor:
    """Minimise the separable energy with offsets `bias` (-inf: absent) and edge level `level`."""
    dtype, outside = compute_dtype(x), outside_value(geometry)
    kernels = implementation(f"this variational operator with penalty {penalty!r}", x.device, DEVICES)
    given = (x, bias, weight, level)
    if penalty == "expectile" and kernels == "cpu" and is_alone(*given) and of_one_type(*given, dtype=dtype):
        return alone.expectile(*given, geometry, outside)
    image, function, weights = x.to(dtype), bias.to(dtype).flatten(1), weight.to(dtype).flatten(1)
    logit, mu = level.to(dtype), None if smoothing is None else smoothing.to(dtype)
    if kernels == "tensor":
        y = solve(image, function, weights, logit, edges_of(geometry), outside, penalty, mu)
    else:
        problem, window = (image, function, weights, *sides_of(logit)), ops.as_plain_numbers(geometry)
        y = ops.minimise(problem, mu, penalty, outside, kernels, *window)
    return y.to(x.dtype)


def solve(
    x: Tensor,
    bias: Tensor,
    weight: Tensor,
    level: Tensor,
    window: Window,
    outside: float | None,
    penalty: str = "expectile",
    smoothing: Tensor | None = None,
) -> Tensor:
    """Minimise the separable energy of each pixel; arguments as `window_pulls`, level and smoothing (C,)."""
    values, weights = window_pulls(x, bias, weight, window, outside)
    return minimise_each(values, weights, level, penalty, smoothing)


def minimise_each(
    values: Tensor, weights: Tensor, level: Tensor, penalty: str = "expectile", smoothing: Tensor | None = None
) -> Tensor:
    """Minimise over each unknown alone, with the exact implicit gradient.

    values : (T, N, C, ...).  weights : broadcastable to values.  level, smoothing : (C,), the logit of tau, and mu.
    """
    behind = (None, None, slice(None), *(None,) * (values.ndim - 3))
    tau, cotau = (side[behind] for side in sides_of(level))
    if penalty == "quantile":
        return minimise_quantile(values, weights, tau, cotau)
    if smoothing is not None:
        return minimise_huber(values, weights, tau, cotau, smoothing[behind])
    solution, _ = minimise_expectile(values, weights, tau, cotau)
    return frozen_newton_step(values, weights, tau, cotau, solution)
