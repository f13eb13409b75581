"""Checks of the arguments of the public functions: one clear message for each thing that can be wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

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
from varmorph.torch.backend.choice import numbers_are_known
from varmorph.torch.backend.ops.arrays import numbers_of

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


def _check_tensor(name: str, value: object) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, found {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(f"{name} must hold floating point numbers, found dtype {value.dtype}")
    return value


def _require(fulfilled: Any, expected: str, found: str | Callable[[], str]) -> None:
    """Raise ValueError unless a condition on what `numbers_of` gives holds everywhere, as far as the numbers are known.

    Compiled code has no values while it is traced: there the condition becomes an assertion of its own, a RuntimeError.
    """
    if isinstance(fulfilled, Tensor):
        if not numbers_are_known(fulfilled):
            return
        if torch.compiler.is_compiling():
            torch._assert_async(fulfilled.all(), expected)
            return
    if not bool(fulfilled.all()):
        raise ValueError(f"{expected}, found {found if isinstance(found, str) else found()}")


def _range_of(read: Any) -> tuple[float, float]:
    """Give the least and the greatest number of an array, NaN where there is one or where the numbers are not read.

    Two numbers tell at once that all is well; only where they do not is looked closer.
    """
    if isinstance(read, Tensor) or not read.size:
        return math.nan, math.nan
    return read.min(), read.max()


def _is_finite(read: Any) -> bool:
    """Tell whether an array is seen to hold finite numbers alone."""
    least, greatest = _range_of(read)
    return least > -math.inf and greatest < math.inf


def _require_weights(name: str, numbers: Tensor) -> bool:
    """Require finite numbers >= 0; tell whether all are seen to be positive."""
    read = numbers_of(numbers)
    least, greatest = _range_of(read)
    if not (least >= 0 and greatest < math.inf):
        _require((read >= 0) & (read < math.inf), *must_be_weights(name))
    return least > 0


def _require_offsets(function: Tensor, absent: tuple[str, str]) -> None:
    """Require numbers that are finite or -inf, and not -inf alone in a row."""
    read = numbers_of(function)
    if _is_finite(read):
        return
    rows = read.reshape(read.shape[0], -1)
    of_rows = rows.amax(1) if isinstance(rows, Tensor) else rows.max(1)  # NaN where an element is
    _require(of_rows < math.inf, *BIAS_NUMBERS)
    _require(of_rows > -math.inf, *absent)


def _require_an_edge(weight: Tensor, bias: Tensor) -> None:
    """Require a positive weight where the bias is finite, in each row of functions of the same shape."""
    met = (numbers_of(weight) > 0) & (numbers_of(bias) > -math.inf)
    _require(met.reshape(met.shape[0], -1).any(1), *ABSENT_WEIGHTS)


def check_image(x: object, name: str = "x") -> Tensor:
    """Require a floating point tensor of shape (N, C, H, W) with at least one channel and pixel."""
    image = _check_tensor(name, x)
    check_image_shape(name, tuple(image.shape))
    return image


def check_image_pair(first: object, second: object, names: tuple[str, str]) -> tuple[Tensor, Tensor]:
    """Require two images of one shape."""
    images = check_image(first, names[0]), check_image(second, names[1])
    check_same_shape(names, (tuple(images[0].shape), tuple(images[1].shape)))
    return images


def _per_channel(name: str, value: object, channels: int) -> Tensor:
    function = _check_tensor(name, value)
    check_function_shape(name, tuple(function.shape), channels)
    return function if function.ndim == 3 else function.expand(channels, *function.shape)


def check_bias(bias: object, channels: int) -> Tensor:
    """Require a structuring function (C, kh, kw) or (kh, kw), finite or -inf, not all -inf; return (C, kh, kw)."""
    function = _per_channel("bias", bias, channels)
    _require_offsets(function, ABSENT_CHANNEL)
    return function


def check_offsets(bias: object, channels: int) -> Tensor:
    """Require what `check_bias` does, and offsets of a reconstruction: <= 0, and 0 at the origin; return (C, kh, kw)."""
    offsets = check_bias(bias, channels)
    height, width = offsets.shape[-2:]
    origin = offsets[:, height // 2, width // 2]
    _require(offsets <= 0, RECONSTRUCTION_BIAS, lambda: f"{offsets.max().item()}")
    _require(origin == 0, RECONSTRUCTION_BIAS, lambda: f"{origin.tolist()} there")
    return offsets


def check_weight(weight: object, bias: Tensor) -> Tensor:
    """Require nonnegative finite weights of the shape of `bias`, positive somewhere the bias is finite."""
    if weight is None:
        return torch.ones_like(bias)
    function = _per_channel("weight", weight, bias.shape[0])
    check_weight_shape(tuple(function.shape), tuple(bias.shape))
    if not _require_weights("weight", function):  # of positive ones each row has an edge, since an offset is finite
        _require_an_edge(function, bias)
    return function


def check_mixing_bias(bias: object, channels: int, groups: int, signed: bool) -> Tensor:
    """Require offsets (O, S C / groups, kh, kw), finite or -inf, not all -inf for an output channel."""
    function = _check_tensor("bias", bias)
    check_mixing_shape("bias", tuple(function.shape), channels, groups, signed)
    _require_offsets(function, ABSENT_OUTPUT)
    return function


def check_mixing_weight(weight: object, bias: Tensor) -> Tensor:
    """Require nonnegative finite weights of the shape of `bias`, positive somewhere an output's bias is finite."""
    if weight is None:
        return torch.ones_like(bias)
    function = _check_tensor("weight", weight)
    if function.shape != bias.shape:
        raise ValueError(f"weight must have the shape of bias {tuple(bias.shape)}, found {tuple(function.shape)}")
    if not _require_weights("weight", function):  # of positive ones each row has an edge, since an offset is finite
        _require_an_edge(function, bias)
    return function


def check_features_of_last_axis(x: object) -> Tensor:
    """Require floating point features (..., F), with at least one feature."""
    features = _check_tensor("x", x)
    if features.ndim < 1 or not features.shape[-1]:
        raise ValueError(f"x must have shape (..., F), F >= 1, found {tuple(features.shape)}")
    return features


def check_level(level: object, channels: int, like: Tensor, name: str = "logit_level") -> Tensor:
    """Require a finite number, a scalar tensor or a (C,) tensor; return (C,)."""
    number = number_of(level)
    if number is not None:
        level = torch.as_tensor(number, dtype=like.dtype, device=like.device)
    logit = _check_tensor(name, level)
    check_channelwise_shape(name, tuple(logit.shape), channels)
    read = numbers_of(logit)
    if not _is_finite(read):
        _require(abs(read) < math.inf, must_be_finite(name), lambda: str(logit.tolist()))
    return logit if logit.ndim else logit.expand(channels)


def check_smoothing(penalty: str, smoothing: Tensor | float | None, channels: int, like: Tensor) -> Tensor | None:
    """Require what `check_penalty` does, and positive finite numbers; return (C,), or None without smoothing."""
    check_penalty(penalty, smoothing)
    if smoothing is None:
        return None
    return check_positive("smoothing", smoothing, channels, like)


def check_nonnegative(name: str, value: object, channels: int, like: Tensor) -> Tensor:
    """Require finite numbers >= 0, scalar or (C,); return (C,)."""
    numbers = check_level(value, channels, like, name)
    _require(numbers_of(numbers) >= 0, f"{name} must be >= 0", lambda: str(numbers.tolist()))
    return numbers


def check_positive(name: str, value: object, channels: int, like: Tensor) -> Tensor:
    """Require finite numbers > 0, scalar or (C,); return (C,)."""
    numbers = check_level(value, channels, like, name)
    _require(numbers_of(numbers) > 0, f"{name} must be positive", lambda: str(numbers.tolist()))
    return numbers


def check_ridge(ridge: Tensor | float, channels: int, like: Tensor) -> Tensor | None:
    """Require finite numbers >= 0, scalar or (C,); return (C,), or None for the number 0, which adds nothing."""
    return None if number_of(ridge) == 0 else check_nonnegative("ridge", ridge, channels, like)


def check_edge_smoothing(penalty: str, smoothing: object, channels: int, like: Tensor) -> Tensor | None:
    """Require what `check_edge_penalty` does, and a positive smoothing; return it (C,), or None without smoothing."""
    check_edge_penalty(penalty, smoothing)
    if smoothing is None:
        return None
    return check_positive("edge_smoothing", smoothing, channels, like)


def check_edge_weights(value: object, image: Tensor) -> Tensor:
    """Require (N, 1 or C, 2, H, W), finite and >= 0."""
    weights = _check_tensor("edge_weights", value)
    check_edge_weights_shape(tuple(weights.shape), tuple(image.shape))
    _require_weights("edge_weights", weights)
    return weights


def check_features(x: object) -> Tensor:
    """Require floating point features (nodes, F) or (B, nodes, F), with at least one node and feature."""
    features = _check_tensor("x", x)
    check_features_shape(tuple(features.shape))
    return features


def check_edges(name: str, edges: object, nodes: int, device: torch.device) -> Tensor:
    """Require integers (2, E) between 0 and nodes - 1; return them as int64 on the device."""
    if not isinstance(edges, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, found {type(edges).__name__}")
    if edges.is_floating_point() or edges.is_complex() or edges.dtype == torch.bool:
        raise TypeError(f"{name} must hold integers, found dtype {edges.dtype}")
    check_edges_shape(name, tuple(edges.shape))
    known = numbers_are_known(edges) and not torch.compiler.is_compiling()
    if known and edges.numel() and (int(edges.min()) < 0 or int(edges.max()) >= nodes):
        found = f"numbers from {int(edges.min())} to {int(edges.max())}"
        raise ValueError(f"{must_name_nodes(name, nodes)}, found {found}")
    return edges.to(device=device, dtype=torch.long)


def check_per_edge(name: str, value: object, edges: int, features: int, like: Tensor, default: float) -> Tensor:
    """Require a number, () or (E,) or (E, F), or None for the default; return (1 or F, E).

    A bias is finite or -inf, a weight finite and >= 0.
    """
    if value is None:
        return torch.full((1, edges), default, dtype=like.dtype, device=like.device)
    number = number_of(value)
    if number is not None:
        value = torch.as_tensor(number, dtype=like.dtype, device=like.device)
    numbers = _check_tensor(name, value)
    check_per_edge_shape(name, tuple(numbers.shape), edges, features)
    if name == "bias":
        known = torch.isfinite(numbers) | torch.isneginf(numbers)
        _require(known, *BIAS_NUMBERS)
    if name == "weight":
        _require_weights("weight", numbers)
    return numbers.t() if numbers.ndim == 2 else numbers.expand(edges)[None]


def two_levels(levels: Tensor | np.ndarray | Sequence[float]) -> tuple[Tensor | float, Tensor | float]:
    """Require two levels: two numbers, (2,) or (2, C)."""
    if isinstance(levels, np.ndarray) and levels.ndim == 1:
        levels = levels.tolist()
    check_level_pair(levels, tuple(levels.shape) if isinstance(levels, Tensor) else None)
    return levels[0], levels[1]
