"""Separable variational operators: each pixel minimises its own energy over the edges of its window.

x is (N, C, H, W), bias and weight (C, K), tau and smoothing (C,); `outside` is the value beyond the image, None where
edges from there are absent. For XLA the piece of the energy on which a minimiser lies is found first, without derivatives;
then the minimiser is written as a formula on that piece, whose derivatives, of every order and in both modes, are the
implicit ones. With kernels there is a backward pass alone.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from varmorph.jax.backend.choice import compute_dtype, kernels_are_excluded, on_platform
from varmorph.jax.backend.ffi import call_kernel
from varmorph.jax.separable import quantiles
from varmorph.jax.separable.expectile import frozen_newton_step, minimise_expectile, sides_of
from varmorph.jax.separable.neighbours import edge_values, inside_image, per_edge
from varmorph.kernels.window import module_of
from varmorph.windows import Geometry, output_shape, outside_value, window

__all__ = ["minimise", "minimise_each", "piece_of", "solve", "value_of", "window_pulls"]

Problem = tuple[jax.Array, ...]  # x, bias, weight, tau, 1 - tau, and mu for penalty "huber"
Plain = tuple[Geometry, float | None, str]  # how the window moves, `outside`, and the penalty


def minimise(
    x: jax.Array,
    bias: jax.Array,
    weight: jax.Array,
    level: jax.Array,
    geometry: Geometry,
    penalty: str,
    smoothing: jax.Array | None,
) -> jax.Array:
    """Minimise the separable energy with offsets `bias` (-inf: absent) and edge level `level`."""
    dtype = compute_dtype(x)
    offsets, weights = (function.astype(dtype).reshape(bias.shape[0], -1) for function in (bias, weight))
    mu = () if smoothing is None else (smoothing.astype(dtype),)
    problem = (x.astype(dtype), offsets, weights, *sides_of(level.astype(dtype)), *mu)
    return solve(problem, (geometry, outside_value(geometry), penalty)).astype(x.dtype)


def solve(problem: Problem, plain: Plain) -> jax.Array:
    """Minimise the separable energy of each pixel."""
    if kernels_are_excluded():
        return _value(problem, _piece(problem, plain), plain)
    return _minimise(problem, plain)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _minimise(problem: Problem, plain: Plain) -> jax.Array:
    return _forward(problem, plain)[0]


def _forward(problem: Problem, plain: Plain) -> tuple[jax.Array, tuple[Any, ...]]:
    geometry, outside, penalty = plain
    x = problem[0]
    y = jax.ShapeDtypeStruct((*x.shape[:2], *output_shape(geometry)), x.dtype)
    endpoints = jax.ShapeDtypeStruct((2, *y.shape), jnp.int32)
    results = (y,) if penalty == "expectile" else (y, endpoints)

    def by_kernel(*problem: jax.Array) -> tuple[jax.Array, ...]:
        return call_kernel(f"{module_of(penalty, geometry)}.{penalty}", results, *problem, options=(geometry, outside))

    def by_xla(*problem: jax.Array) -> tuple[jax.Array, ...]:
        piece = _piece(problem, plain)
        return (_value(problem, piece, plain), *(end.astype(jnp.int32) for end in piece[1:]))

    found = on_platform(by_kernel, by_xla, *problem)
    return found[0], (problem, found)


def _backward(plain: Plain, kept: tuple[Any, ...], grad_y: jax.Array) -> tuple[Problem]:
    geometry, outside, penalty = plain
    problem, found = kept
    arrays: tuple[jax.Array, ...] = (grad_y, problem[0], *found, *problem[1:])
    options: tuple[Any, ...] = (geometry, outside)
    places = [0, 1, 2, 3, 5][: len(problem) - 1]
    if penalty == "quantile":  # piecewise constant in weight and level
        arrays, options, places = (grad_y, found[1], problem[1]), (geometry,), [0, 1]
    results = [jax.ShapeDtypeStruct(problem[i].shape, problem[i].dtype) for i in places]

    def by_kernel(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        return call_kernel(f"{module_of(penalty, geometry)}.{penalty}_backward", results, *arrays, options=options)

    def by_xla(*_: jax.Array) -> tuple[jax.Array, ...]:
        gradients = list(jax.vjp(lambda *problem: _value(problem, found, plain), *problem)[1](grad_y))
        gradients[3] -= gradients[4]  # 1 - tau moves with tau
        return tuple(gradients[i] for i in places)

    gradients = dict(zip(places, on_platform(by_kernel, by_xla, *arrays), strict=True))
    return (tuple(gradients.get(i, jnp.zeros_like(part)) for i, part in enumerate(problem)),)


_minimise.defvjp(_forward, _backward)


def window_pulls(problem: Problem, plain: Plain) -> tuple[jax.Array, ...]:
    """List what pulls each pixel: values x + b and weights (T, N, C, height, width), then tau, 1 - tau and mu."""
    x, bias, weight, *numbers = problem
    edges, outside = window(plain[0]), plain[1]
    offset = per_edge(bias, edges)
    absent = jnp.isneginf(offset)
    values = edge_values(x, edges, 0.0 if outside is None else outside)
    values = jnp.where(absent, 0.0, values + jnp.where(absent, 0.0, offset))
    weights = jnp.where(absent, 0.0, per_edge(weight, edges))
    if outside is None and edges.leaves_image:
        weights = weights * inside_image(edges)
    return values, jnp.broadcast_to(weights, values.shape), *(number[None, None, :, None, None] for number in numbers)


def _piece(problem: Problem, plain: Plain) -> tuple[jax.Array, ...]:
    """Find the minimiser, and the slots (2, N, C, height, width) that say on which piece of the energy it lies."""
    return piece_of(window_pulls(tuple(map(stop_gradient, problem)), plain), plain[2])


def piece_of(listed: tuple[jax.Array, ...], penalty: str) -> tuple[jax.Array, ...]:
    """Find the minimisers, given what `window_pulls` lists, and the slots (2, ...) that say on which piece each lies."""
    if penalty == "expectile":
        return (minimise_expectile(*listed),)
    return quantiles.quantile(*listed) if penalty == "quantile" else quantiles.huber(*listed)


def _value(problem: Problem, piece: tuple[jax.Array, ...], plain: Plain) -> jax.Array:
    """Write the minimiser as a formula on its piece of the energy."""
    return value_of(window_pulls(problem, plain), piece, plain[2])


def value_of(listed: tuple[jax.Array, ...], piece: tuple[jax.Array, ...], penalty: str) -> jax.Array:
    """Write the minimisers as a formula on their pieces of the energy, given what `window_pulls` lists."""
    values, weights, *numbers = listed
    z, *endpoints = map(stop_gradient, piece)
    if penalty == "expectile":
        return frozen_newton_step(values, weights, numbers[0], numbers[1], z)
    if penalty == "quantile":
        return quantiles.between(values, endpoints[0])
    return quantiles.huber_on_piece(values, weights, numbers[0], numbers[1], numbers[2], z, endpoints[0])


def minimise_each(listed: tuple[jax.Array, ...], penalty: str) -> jax.Array:
    """Minimise over each unknown alone, given what `window_pulls` lists: values (T, N, C, ...), weights, and numbers like them."""
    return value_of(listed, piece_of(tuple(map(stop_gradient, listed)), penalty), penalty)
