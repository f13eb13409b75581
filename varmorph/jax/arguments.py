"""Checks of the arguments of the public functions: one clear message for each thing that can be wrong.

Shapes and types are always checked. Numbers are checked where there are any: not while a function is traced by `jit`,
`grad` or `vmap`, where they are not known yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from varmorph.arguments import (
    ABSENT_CHANNEL,
    ABSENT_OUTPUT,
    ABSENT_WEIGHTS,
    BIAS_NUMBERS,
    RECONSTRUCTION_BIAS,
    check_channelwise_shape,
    check_edge_penalty,
    check_edge_weights_shape,
    check_edges_shape,
    check_features_shape,
    check_function_shape,
    check_image_shape,
    check_level_pair,
    check_mixing_shape,
    check_penalty,
    check_per_edge_shape,
    check_same_shape,
    check_weight_shape,
    must_be_finite,
    must_be_weights,
    must_name_nodes,
    number_of,
)

__all__ = [
    "check_bias",
    "check_edge_smoothing",
    "check_edge_weights",
    "check_edges",
    "check_features",
    "check_features_of_last_axis",
    "check_image",
    "check_image_pair",
    "check_level",
    "check_mixing_bias",
    "check_mixing_weight",
    "check_nonnegative",
    "check_offsets",
    "check_per_edge",
    "check_positive",
    "check_ridge",
    "check_smoothing",
    "check_weight",
    "two_levels",
]


def _check_array(name: str, value: object) -> jax.Array:
    if not isinstance(value, (jax.Array, np.ndarray)):
        raise TypeError(f"{name} must be a jax.Array, found {type(value).__name__}")
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"{name} must hold floating point numbers, found dtype {value.dtype}")
    return jnp.asarray(value)


def _require(fulfilled: jax.Array | np.ndarray, expected: str, found: str | Callable[[], str]) -> None:
    """Raise ValueError unless a condition holds everywhere, as far as that is known."""
    if not isinstance(fulfilled, jax.core.Tracer) and not bool(fulfilled.all()):
        raise ValueError(f"{expected}, found {found if isinstance(found, str) else found()}")


def _require_weights(name: str, numbers: jax.Array) -> None:
    _require(jnp.isfinite(numbers) & (numbers >= 0), *must_be_weights(name))


def check_image(x: object, name: str = "x") -> jax.Array:
    """Require a floating point array of shape (N, C, H, W) with at least one channel and pixel."""
    image = _check_array(name, x)
    check_image_shape(name, image.shape)
    return image


def check_image_pair(first: object, second: object, names: tuple[str, str]) -> tuple[jax.Array, jax.Array]:
    """Require two images of one shape."""
    images = check_image(first, names[0]), check_image(second, names[1])
    check_same_shape(names, (images[0].shape, images[1].shape))
    return images


def _per_channel(name: str, value: object, channels: int) -> jax.Array:
    function = _check_array(name, value)
    check_function_shape(name, function.shape, channels)
    return jnp.broadcast_to(function, (channels, *function.shape[-2:]))


def check_bias(bias: object, channels: int) -> jax.Array:
    """Require a structuring function (C, kh, kw) or (kh, kw), finite or -inf, not all -inf; return (C, kh, kw)."""
    function = _per_channel("bias", bias, channels)
    greatest = function.max((1, 2))  # NaN where an element is
    _require(greatest < jnp.inf, *BIAS_NUMBERS)
    _require(greatest > -jnp.inf, *ABSENT_CHANNEL)
    return function


def check_offsets(bias: object, channels: int) -> jax.Array:
    """Require what `check_bias` does, and offsets of a reconstruction: <= 0, and 0 at the origin; return (C, kh, kw)."""
    offsets = check_bias(bias, channels)
    height, width = offsets.shape[-2:]
    origin = offsets[:, height // 2, width // 2]
    _require(offsets <= 0, RECONSTRUCTION_BIAS, lambda: f"{offsets.max().item()}")
    _require(origin == 0, RECONSTRUCTION_BIAS, lambda: f"{origin.tolist()} there")
    return offsets


def check_weight(weight: object, bias: jax.Array) -> jax.Array:
    """Require nonnegative finite weights of the shape of `bias`, positive somewhere the bias is finite."""
    if weight is None:
        return jnp.ones_like(bias)
    function = _per_channel("weight", weight, bias.shape[0])
    check_weight_shape(function.shape, bias.shape)
    _require_weights("weight", function)
    positive = ((function > 0) & jnp.isfinite(bias)).any((1, 2))
    _require(positive, *ABSENT_WEIGHTS)
    return function


def check_mixing_bias(bias: object, channels: int, groups: int, signed: bool) -> jax.Array:
    """Require offsets (O, S C / groups, kh, kw), finite or -inf, not all -inf for an output channel."""
    function = _check_array("bias", bias)
    check_mixing_shape("bias", function.shape, channels, groups, signed)
    greatest = function.max((1, 2, 3))  # NaN where an element is
    _require(greatest < jnp.inf, *BIAS_NUMBERS)
    _require(greatest > -jnp.inf, *ABSENT_OUTPUT)
    return function


def check_mixing_weight(weight: object, bias: jax.Array) -> jax.Array:
    """Require nonnegative finite weights of the shape of `bias`, positive somewhere an output's bias is finite."""
    if weight is None:
        return jnp.ones_like(bias)
    function = _check_array("weight", weight)
    if function.shape != bias.shape:
        raise ValueError(f"weight must have the shape of bias {bias.shape}, found {function.shape}")
    _require_weights("weight", function)
    _require(((function > 0) & jnp.isfinite(bias)).any((1, 2, 3)), *ABSENT_WEIGHTS)
    return function


def check_features_of_last_axis(x: object) -> jax.Array:
    """Require floating point features (..., F), with at least one feature."""
    features = _check_array("x", x)
    if features.ndim < 1 or not features.shape[-1]:
        raise ValueError(f"x must have shape (..., F), F >= 1, found {features.shape}")
    return features


def check_level(level: object, channels: int, like: jax.Array, name: str = "logit_level") -> jax.Array:
    """Require a finite number, a scalar array or a (C,) array; return (C,)."""
    number = number_of(level)
    if number is not None:
        level = jnp.asarray(number, like.dtype)
    logit = _check_array(name, level)
    check_channelwise_shape(name, logit.shape, channels)
    _require(jnp.isfinite(logit), must_be_finite(name), lambda: str(logit.tolist()))
    return jnp.broadcast_to(logit, (channels,))


def check_nonnegative(name: str, value: object, channels: int, like: jax.Array) -> jax.Array:
    """Require finite numbers >= 0, scalar or (C,); return (C,)."""
    numbers = check_level(value, channels, like, name)
    _require(numbers >= 0, f"{name} must be >= 0", lambda: str(numbers.tolist()))
    return numbers


def check_positive(name: str, value: object, channels: int, like: jax.Array) -> jax.Array:
    """Require finite numbers > 0, scalar or (C,); return (C,)."""
    numbers = check_level(value, channels, like, name)
    _require(numbers > 0, f"{name} must be positive", lambda: str(numbers.tolist()))
    return numbers


def check_smoothing(penalty: str, smoothing: object, channels: int, like: jax.Array) -> jax.Array | None:
    """Require a known penalty, and a smoothing that fits it, positive; return (C,), or None without smoothing."""
    check_penalty(penalty, smoothing)
    return None if smoothing is None else check_positive("smoothing", smoothing, channels, like)


def check_ridge(ridge: object, channels: int, like: jax.Array) -> jax.Array | None:
    """Require finite numbers >= 0, scalar or (C,); return (C,), or None for the number 0, which adds nothing."""
    return None if number_of(ridge) == 0 else check_nonnegative("ridge", ridge, channels, like)


def check_edge_smoothing(penalty: str, smoothing: object, channels: int, like: jax.Array) -> jax.Array | None:
    """Require what `check_edge_penalty` does, and a positive smoothing; return it (C,), or None without smoothing."""
    check_edge_penalty(penalty, smoothing)
    return None if smoothing is None else check_positive("edge_smoothing", smoothing, channels, like)


def check_edge_weights(value: object, image: jax.Array) -> jax.Array:
    """Require (N, 1 or C, 2, H, W), finite and >= 0."""
    weights = _check_array("edge_weights", value)
    check_edge_weights_shape(weights.shape, image.shape)
    _require_weights("edge_weights", weights)
    return weights


def check_features(x: object) -> jax.Array:
    """Require floating point features (nodes, F) or (B, nodes, F), with at least one node and feature."""
    features = _check_array("x", x)
    check_features_shape(features.shape)
    return features


def check_edges(name: str, edges: object, nodes: int) -> jax.Array | np.ndarray:
    """Require integers (2, E) between 0 and nodes - 1; return them as a NumPy array where they are known."""
    if not isinstance(edges, (jax.Array, np.ndarray)):
        raise TypeError(f"{name} must be a jax.Array, found {type(edges).__name__}")
    if not jnp.issubdtype(edges.dtype, jnp.integer):
        raise TypeError(f"{name} must hold integers, found dtype {edges.dtype}")
    check_edges_shape(name, edges.shape)
    pairs = edges if isinstance(edges, jax.core.Tracer) else np.asarray(edges)
    inside = (pairs >= 0) & (pairs < nodes)
    _require(inside, must_name_nodes(name, nodes), lambda: f"numbers from {pairs.min().item()} to {pairs.max().item()}")
    return pairs.astype(np.int32)


def check_per_edge(name: str, value: object, edges: int, features: int, like: jax.Array, default: float) -> jax.Array:
    """Require a number, () or (E,) or (E, F), or None for the default; return (1 or F, E).

    A bias is finite or -inf, a weight finite and >= 0.
    """
    number = default if value is None else number_of(value)
    if number is not None:
        value = jnp.asarray(number, like.dtype)
    numbers = _check_array(name, value)
    check_per_edge_shape(name, numbers.shape, edges, features)
    if name == "bias":
        known = jnp.isfinite(numbers) | jnp.isneginf(numbers)
        _require(known, *BIAS_NUMBERS)
    if name == "weight":
        _require_weights("weight", numbers)
    return numbers.T if numbers.ndim == 2 else jnp.broadcast_to(numbers, (edges,))[None]


def two_levels(levels: Any) -> tuple[Any, Any]:
    """Require two levels: two numbers, (2,) or (2, C)."""
    check_level_pair(levels, levels.shape if isinstance(levels, (jax.Array, np.ndarray)) else None)
    return levels[0], levels[1]
