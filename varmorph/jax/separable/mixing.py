"""Operators that mix channels: the energy of each pixel of an output channel, over the edges from several channels.

x is (N, C, H, W), bias and weight are (O, M, kh, kw), M = S C / groups with S = 2 if edges come from -x too.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.lax import stop_gradient

from varmorph.jax.backend.choice import compute_dtype, kernels_are_excluded, on_platform
from varmorph.jax.backend.ffi import call_kernel
from varmorph.jax.separable import maxplus, minimisation
from varmorph.jax.separable.expectile import sides_of
from varmorph.jax.separable.neighbours import INDEX, edge_values, inside_image
from varmorph.windows import Geometry, output_shape, outside_value, window

__all__ = ["Mixing", "extremum", "minimise"]

Problem = tuple[jax.Array, ...]  # x, bias, weight, tau, 1 - tau, and mu for penalty "huber"


class Mixing(NamedTuple):
    """How an operator is laid out: groups, whether -x is seen too, and the window."""

    groups: int
    signed: bool
    geometry: Geometry

    def is_depthwise(self, x: jax.Array, bias: jax.Array) -> bool:
        """Tell whether each output channel sees one input channel, and each input channel is seen once."""
        return self.groups == x.shape[1] == bias.shape[0] and not self.signed

    def result(self, x: jax.Array, bias: jax.Array) -> jax.ShapeDtypeStruct:
        """Give shape and dtype of the output."""
        return jax.ShapeDtypeStruct((x.shape[0], bias.shape[0], *output_shape(self.geometry)), x.dtype)


def extremum(x: jax.Array, bias: jax.Array, mixing: Mixing, sign: int) -> jax.Array:
    """Compute the greatest x + bias over the edges into each output, for sign -1 the least."""
    if mixing.is_depthwise(x, bias) and sign > 0:
        return maxplus.dilate(x, bias[:, 0], mixing.geometry, x.shape[1])
    dtype = compute_dtype(x)
    image, function = x.astype(dtype), bias.astype(dtype)
    if kernels_are_excluded():
        slots = stop_gradient(_first_slots(image, function, mixing, sign))
        return _at_slots(image, function, slots, mixing, sign).astype(x.dtype)
    return _extremum(image, function, mixing, sign).astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _extremum(x: jax.Array, bias: jax.Array, mixing: Mixing, sign: int) -> jax.Array:
    return _value_and_slots(x, bias, mixing, sign, with_slots=False)[0]


def _value_and_slots(
    x: jax.Array, bias: jax.Array, mixing: Mixing, sign: int, *, with_slots: bool
) -> tuple[jax.Array, jax.Array]:
    """Compute the extremum and, unless the second result is to be empty, the edges that attain it."""
    y = mixing.result(x, bias)
    chosen = jax.ShapeDtypeStruct(y.shape if with_slots else (0,), jnp.int32)
    options = (mixing.groups, mixing.geometry, outside_value(mixing.geometry), sign, with_slots)

    def by_kernel(x: jax.Array, bias: jax.Array) -> tuple[jax.Array, ...]:
        return call_kernel("mixing.lanes.supremum", (y, chosen), x, _flat(bias), options=options)

    def by_xla(x: jax.Array, bias: jax.Array) -> tuple[jax.Array, ...]:
        slots = _first_slots(x, bias, mixing, sign)
        value = _at_slots(x, bias, slots, mixing, sign)
        return value, slots if with_slots else jnp.zeros(chosen.shape, chosen.dtype)

    value, slots = on_platform(by_kernel, by_xla, x, bias)
    return value, slots


def _extremum_forward(
    x: jax.Array, bias: jax.Array, mixing: Mixing, sign: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y, slots = _value_and_slots(x, bias, mixing, sign, with_slots=True)
    return y, (slots, bias)


def _extremum_backward(
    mixing: Mixing, sign: int, kept: tuple[jax.Array, jax.Array], grad_y: jax.Array
) -> tuple[jax.Array, jax.Array]:
    slots, bias = kept
    channels = bias.shape[1] * mixing.groups // (2 if mixing.signed else 1)
    x = jax.ShapeDtypeStruct((grad_y.shape[0], channels, *mixing.geometry.image), grad_y.dtype)
    options = (mixing.groups, mixing.signed, mixing.geometry)

    def by_kernel(grad_y: jax.Array, slots: jax.Array, bias: jax.Array) -> tuple[jax.Array, ...]:
        results = (x, jax.ShapeDtypeStruct(_flat(bias).shape, bias.dtype))
        by_x, by_bias = call_kernel(
            "mixing.lanes.supremum_backward", results, grad_y, slots, _flat(bias), options=options
        )
        return by_x, by_bias.reshape(bias.shape)

    def by_xla(grad_y: jax.Array, slots: jax.Array, bias: jax.Array) -> tuple[jax.Array, ...]:
        zeros = jnp.zeros(x.shape, x.dtype)
        return jax.vjp(lambda x, bias: _at_slots(x, bias, slots, mixing, sign), zeros, bias)[1](grad_y)

    grad_x, grad_bias = on_platform(by_kernel, by_xla, grad_y, slots, bias)
    return grad_x, grad_bias


_extremum.defvjp(_extremum_forward, _extremum_backward)


def _first_slots(x: jax.Array, bias: jax.Array, mixing: Mixing, sign: int) -> jax.Array:
    """Find the first edge that attains the extremum, the number of edges where there is none."""
    values, weights = _pulls(x, bias, jnp.ones(bias.shape, bias.dtype), mixing)
    values = jnp.where(weights > 0, sign * values, -jnp.inf)
    nothing = jnp.isneginf(values.max(0))
    return jnp.where(nothing, values.shape[0], values.argmax(0)).astype(jnp.int32)


def _at_slots(x: jax.Array, bias: jax.Array, slots: jax.Array, mixing: Mixing, sign: int) -> jax.Array:
    """Take the values at given edges."""
    values, _ = _pulls(x, bias, jnp.ones(bias.shape, bias.dtype), mixing)
    taken = jnp.take_along_axis(values, jnp.minimum(slots, values.shape[0] - 1)[None], 0)[0]
    return jnp.where(slots == values.shape[0], -sign * jnp.inf, taken) + 0.0


def minimise(
    x: jax.Array,
    bias: jax.Array,
    weight: jax.Array,
    level: jax.Array,
    mixing: Mixing,
    penalty: str,
    smoothing: jax.Array | None,
) -> jax.Array:
    """Minimise the energy of each output; level and smoothing are (O,)."""
    if mixing.is_depthwise(x, bias):
        return minimisation.minimise(x, bias[:, 0], weight[:, 0], level, mixing.geometry, penalty, smoothing)
    dtype = compute_dtype(x)
    mu = () if smoothing is None else (smoothing.astype(dtype),)
    problem = (*(array.astype(dtype) for array in (x, bias, weight)), *sides_of(level.astype(dtype)), *mu)
    if kernels_are_excluded():
        return minimisation.minimise_each(_listed(problem, mixing), penalty).astype(x.dtype)
    return _minimise(problem, mixing, penalty).astype(x.dtype)


def _listed(problem: Problem, mixing: Mixing) -> tuple[jax.Array, ...]:
    """List the edges into each output, and the numbers of its channel."""
    x, bias, weight, *numbers = problem
    return (*_pulls(x, bias, weight, mixing), *(number[None, None, :, None, None] for number in numbers))


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _minimise(problem: Problem, mixing: Mixing, penalty: str) -> jax.Array:
    return _minimise_forward(problem, mixing, penalty)[0]


def _minimise_forward(problem: Problem, mixing: Mixing, penalty: str) -> tuple[jax.Array, tuple[Any, ...]]:
    y = mixing.result(problem[0], problem[1])
    endpoints = jax.ShapeDtypeStruct((2, *y.shape), jnp.int32)
    results = (y,) if penalty == "expectile" else (y, endpoints)
    options = (mixing.groups, mixing.geometry, outside_value(mixing.geometry))

    def by_kernel(x: jax.Array, bias: jax.Array, weight: jax.Array, *numbers: jax.Array) -> tuple[jax.Array, ...]:
        return call_kernel(f"mixing.lanes.{penalty}", results, x, _flat(bias), _flat(weight), *numbers, options=options)

    def by_xla(*problem: jax.Array) -> tuple[jax.Array, ...]:
        listed = _listed(problem, mixing)
        piece = minimisation.piece_of(listed, penalty)
        value = minimisation.value_of(listed, piece, penalty)
        return (value, *(end.astype(jnp.int32) for end in piece[1:]))

    found = on_platform(by_kernel, by_xla, *problem)
    return found[0], (problem, found)


def _minimise_backward(mixing: Mixing, penalty: str, kept: tuple[Any, ...], grad_y: jax.Array) -> tuple[Problem]:
    problem, found = kept
    x, bias, weight, *numbers = problem
    options: tuple[Any, ...] = (mixing.groups, mixing.geometry, outside_value(mixing.geometry))
    arrays = (grad_y, x, *found, _flat(bias), _flat(weight), *numbers)
    places = [0, 1, 2, 3, 5][: len(problem) - 1]
    if penalty == "quantile":  # piecewise constant in weight and level
        arrays, places = (grad_y, found[1], _flat(bias)), [0, 1]
        options = (mixing.groups, mixing.signed, mixing.geometry)
    flat = [x, _flat(bias), _flat(weight), *numbers]
    results = [jax.ShapeDtypeStruct(flat[i].shape, flat[i].dtype) for i in places]

    def by_kernel(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        gradients = call_kernel(f"mixing.lanes.{penalty}_backward", results, *arrays, options=options)
        return tuple(gradient.reshape(problem[i].shape) for i, gradient in zip(places, gradients, strict=True))

    def by_xla(*_: jax.Array) -> tuple[jax.Array, ...]:
        def value(*problem: jax.Array) -> jax.Array:
            return minimisation.value_of(_listed(problem, mixing), found, penalty)

        gradients = list(jax.vjp(value, *problem)[1](grad_y))
        gradients[3] -= gradients[4]  # 1 - tau moves with tau
        return tuple(gradients[i] for i in places)

    gradients = dict(zip(places, on_platform(by_kernel, by_xla, *arrays), strict=True))
    return (tuple(gradients.get(i, jnp.zeros_like(part)) for i, part in enumerate(problem)),)


_minimise.defvjp(_minimise_forward, _minimise_backward)


def _flat(function: jax.Array) -> jax.Array:
    """Give functions (O, M, kh, kw) as kernels take them, (O, M, K)."""
    return function.reshape(*function.shape[:2], -1)


def _pulls(x: jax.Array, bias: jax.Array, weight: jax.Array, mixing: Mixing) -> tuple[jax.Array, jax.Array]:
    """List the edges into each output: values and weights (E, N, O, height, width), weight 0 where there is no edge."""
    edges, outside = window(mixing.geometry), outside_value(mixing.geometry)
    seen = edge_values(x, edges, 0.0 if outside is None else outside)  # (T, N, C, height, width)
    seen = seen.reshape(*seen.shape[:2], mixing.groups, -1, *seen.shape[3:])
    if mixing.signed:
        seen = jnp.concatenate((seen, -seen), 3)  # (T, N, groups, M, height, width)

    def per_edge(function: jax.Array) -> jax.Array:
        """Spread (O, M, kh, kw) over the edges: (M, T, 1, groups, O / groups, 1, 1)."""
        spread = function.reshape(mixing.groups, -1, function.shape[1], function[0, 0].size)
        return spread[..., edges.elements.astype(INDEX)].transpose(2, 3, 0, 1)[:, :, None, ..., None, None]

    offset = per_edge(bias)
    absent = jnp.isneginf(offset)
    values = seen.transpose(3, 0, 1, 2, 4, 5)[:, :, :, :, None] + jnp.where(absent, 0.0, offset)
    values = jnp.where(absent, 0.0, values)
    weights = jnp.where(absent, 0.0, per_edge(weight))
    if outside is None and edges.leaves_image:
        weights = weights * inside_image(edges)[:, :, :, None]
    shape = (-1, values.shape[2], bias.shape[0], *values.shape[5:])
    return values.reshape(shape), jnp.broadcast_to(weights, values.shape).reshape(shape)
