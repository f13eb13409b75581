"""Max-plus dilation and erosion over the edges of a window: x is (N, C, H, W), bias (C, K).

The slot that attains the maximum is all that the backward pass needs, and all that is kept.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from varmorph.jax.backend.choice import compute_dtype, kernels_are_excluded, on_platform
from varmorph.jax.backend.ffi import call_kernel
from varmorph.jax.separable.neighbours import edge_values, per_edge
from varmorph.kernels.window import module_of, slots_fit_a_byte
from varmorph.windows import Geometry, output_shape, outside_value, window

__all__ = ["dilate", "supremum"]


def dilate(x: jax.Array, bias: jax.Array, geometry: Geometry, raised: int) -> jax.Array:
    """Compute the greatest x + bias over the windows in the first `raised` channels, the least x - bias in the others."""
    dtype, outside = compute_dtype(x), outside_value(geometry)
    function = bias.astype(dtype).reshape(bias.shape[0], -1)
    return supremum(x.astype(dtype), function, geometry, outside, raised).astype(x.dtype)


def supremum(x: jax.Array, bias: jax.Array, geometry: Geometry, outside: float | None, raised: int) -> jax.Array:
    """Do so; the first edge in row-major order that attains the value takes the gradient."""
    if kernels_are_excluded():
        slots = jax.lax.stop_gradient(_first_slots(x, bias, geometry, outside, raised))
        return _at_slots(x, bias, slots, geometry, outside, raised)
    return _supremum(x, bias, geometry, outside, raised)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _supremum(x: jax.Array, bias: jax.Array, geometry: Geometry, outside: float | None, raised: int) -> jax.Array:
    return _value_and_slots(x, bias, geometry, outside, raised, with_slots=False)[0]


def _forward(
    x: jax.Array, bias: jax.Array, geometry: Geometry, outside: float | None, raised: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y, slots = _value_and_slots(x, bias, geometry, outside, raised, with_slots=True)
    return y, (slots, bias)


def _value_and_slots(
    x: jax.Array, bias: jax.Array, geometry: Geometry, outside: float | None, raised: int, *, with_slots: bool
) -> tuple[jax.Array, jax.Array]:
    """Compute the supremum and, unless the second result is to be empty, the slots that attain it."""
    y = jax.ShapeDtypeStruct((*x.shape[:2], *output_shape(geometry)), x.dtype)
    chosen = jax.ShapeDtypeStruct(y.shape if with_slots else (0,), _slot_dtype(geometry))
    name, options = f"{module_of('supremum', geometry)}.supremum", (geometry, outside, raised, with_slots)

    def by_kernel(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        return call_kernel(name, (y, chosen), *arrays, options=options)

    def by_xla(x: jax.Array, bias: jax.Array) -> tuple[jax.Array, ...]:
        slots = _first_slots(x, bias, geometry, outside, raised)
        value = _at_slots(x, bias, slots, geometry, outside, raised)
        return value, slots if with_slots else jnp.zeros(chosen.shape, chosen.dtype)

    value, slots = on_platform(by_kernel, by_xla, x, bias)
    return value, slots


def _backward(
    geometry: Geometry, outside: float | None, raised: int, kept: tuple[jax.Array, jax.Array], grad_y: jax.Array
) -> tuple[jax.Array, jax.Array]:
    slots, bias = kept
    x = jax.ShapeDtypeStruct((*grad_y.shape[:2], *geometry.image), grad_y.dtype)
    results = (x, jax.ShapeDtypeStruct(bias.shape, bias.dtype))
    name = f"{module_of('supremum', geometry)}.supremum_backward"

    def by_kernel(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        return call_kernel(name, results, *arrays, options=(geometry, raised))

    def by_xla(grad_y: jax.Array, slots: jax.Array, bias: jax.Array) -> tuple[jax.Array, ...]:
        def at_slots(x: jax.Array, bias: jax.Array) -> jax.Array:
            return _at_slots(x, bias, slots, geometry, outside, raised)

        return jax.vjp(at_slots, jnp.zeros(x.shape, x.dtype), bias)[1](grad_y)

    grad_x, grad_bias = on_platform(by_kernel, by_xla, grad_y, slots, bias)
    return grad_x, grad_bias


_supremum.defvjp(_forward, _backward)


def _slot_dtype(geometry: Geometry) -> Any:
    return jnp.uint8 if slots_fit_a_byte(geometry) else jnp.int32


def _edges(x: jax.Array, bias: jax.Array, geometry: Geometry, outside: float | None, raised: int) -> jax.Array:
    """Values of the edges, times the signs of the channels: (T, N, C, height, width)."""
    edges, signs = window(geometry), _signs(bias, raised)
    offset = per_edge(bias, edges)
    absent = jnp.isneginf(offset)
    values = edge_values(signs * x, edges, -jnp.inf) if outside is None else signs * edge_values(x, edges, outside)
    return jnp.where(absent, -jnp.inf, values + jnp.where(absent, 0.0, offset))


def _signs(bias: jax.Array, raised: int) -> jax.Array:
    """Give 1 for the first `raised` channels, -1 for the others: (C, 1, 1)."""
    return jnp.where(jnp.arange(bias.shape[0]) < raised, 1, -1).astype(bias.dtype)[:, None, None]


def _first_slots(x: jax.Array, bias: jax.Array, geometry: Geometry, outside: float | None, raised: int) -> jax.Array:
    """Find the first slot that attains the maximum, the number of slots where all edges are -inf."""
    values = _edges(x, bias, geometry, outside, raised)
    nothing = jnp.isneginf(values.max(0))
    return jnp.where(nothing, values.shape[0], values.argmax(0)).astype(_slot_dtype(geometry))


def _at_slots(
    x: jax.Array, bias: jax.Array, slots: jax.Array, geometry: Geometry, outside: float | None, raised: int
) -> jax.Array:
    """Take the values at given slots."""
    values = _edges(x, bias, geometry, outside, raised)
    index = jnp.minimum(slots, values.shape[0] - 1).astype(jnp.int32)
    taken = jnp.take_along_axis(values, index[None], 0)[0]
    return _signs(bias, raised) * jnp.where(slots == values.shape[0], -jnp.inf, taken) + 0.0
