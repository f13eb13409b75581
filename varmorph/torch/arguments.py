"""Checks of the arguments of the public functions: one clear message for each thing that can be wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from varmorph.torch.windows import PADDINGS, Padding

__all__ = [
    "check_bias",
    "check_image",
    "check_level",
    "check_padding",
    "check_penalty",
    "check_smoothing",
    "check_weight",
    "check_window_fits",
    "pair",
]

PENALTIES = ("expectile", "quantile", "huber")


def _check_tensor(name: str, value: object) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, found {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(f"{name} must hold floating point numbers, found dtype {value.dtype}")
    return value


def check_image(x: object, name: str = "x") -> Tensor:
    """Require a floating point tensor of shape (N, C, H, W) with at least one channel and pixel."""
    image = _check_tensor(name, x)
    if image.ndim != 4 or 0 in image.shape[1:]:
        raise ValueError(f"{name} must have shape (N, C, H, W) with C, H, W >= 1, found {tuple(image.shape)}")
    return image


def _per_channel(name: str, value: object, channels: int) -> Tensor:
    function = _check_tensor(name, value)
    shape = tuple(function.shape)
    fits = len(shape) == 2 or (len(shape) == 3 and shape[0] == channels)
    if not fits or 0 in shape:
        raise ValueError(f"{name} must have shape ({channels}, kh, kw) or (kh, kw), found {shape}")
    return function.expand(channels, *shape[-2:])


def check_bias(bias: object, channels: int) -> Tensor:
    """Require a structuring function (C, kh, kw) or (kh, kw), finite or -inf, not all -inf; return (C, kh, kw)."""
    function = _per_channel("bias", bias, channels)
    present = torch.isfinite(function)
    if not bool((present | torch.isneginf(function)).all()):
        raise ValueError("bias must hold finite numbers or -inf, found NaN or +inf")
    if not bool(present.flatten(1).any(1).all()):
        raise ValueError("bias must keep at least one element in each channel, found a channel of -inf only")
    return function


def check_weight(weight: object, bias: Tensor) -> Tensor:
    """Require nonnegative finite weights of the shape of `bias`, positive somewhere the bias is finite."""
    if weight is None:
        return torch.ones_like(bias)
    function = _per_channel("weight", weight, bias.shape[0])
    if function.shape != bias.shape:
        raise ValueError(
            f"weight must have the window size of bias {tuple(bias.shape[-2:])}, found {tuple(function.shape[-2:])}"
        )
    if not bool((torch.isfinite(function) & (function >= 0)).all()):
        raise ValueError("weight must hold finite numbers >= 0, found a negative number, infinity or NaN")
    if not bool(((function > 0) & torch.isfinite(bias)).flatten(1).any(1).all()):
        raise ValueError("weight must be positive at some element with finite bias, found a channel where it is 0")
    return function


def check_level(level: object, channels: int, like: Tensor, name: str = "logit_level") -> Tensor:
    """Require a finite number, a scalar tensor or a (C,) tensor; return (C,)."""
    if isinstance(level, (int, float)):
        level = torch.as_tensor(float(level), dtype=like.dtype, device=like.device)
    logit = _check_tensor(name, level)
    if tuple(logit.shape) not in ((), (channels,)):
        raise ValueError(f"{name} must be a scalar or have shape ({channels},), found {tuple(logit.shape)}")
    if not bool(torch.isfinite(logit).all()):
        limits = " (the exact operators are its limits)" if name.startswith("logit") else ""
        raise ValueError(f"{name} must be finite{limits}, found {logit.tolist()}")
    return logit.expand(channels)


def check_penalty(penalty: str, smoothing: Tensor | float | None) -> None:
    """Require a known penalty, a positive smoothing for "huber", and none for the others."""
    if penalty not in PENALTIES:
        raise ValueError(f"penalty must be one of {', '.join(map(repr, PENALTIES))}, found {penalty!r}")
    if penalty == "huber" and smoothing is None:
        raise ValueError("smoothing must be a positive number for penalty 'huber', found None")
    if penalty != "huber" and smoothing is not None:
        raise ValueError(f"smoothing must be None for penalty {penalty!r}, found {smoothing!r}")


def check_smoothing(penalty: str, smoothing: Tensor | float | None, channels: int, like: Tensor) -> Tensor | None:
    """Require what `check_penalty` does, and positive finite numbers; return (C,), or None without smoothing."""
    check_penalty(penalty, smoothing)
    if smoothing is None:
        return None
    mu = check_level(smoothing, channels, like, "smoothing")
    if not bool((mu > 0).all()):
        raise ValueError(f"smoothing must be positive, found {mu.tolist()}")
    return mu


def pair(name: str, value: int | Sequence[int]) -> tuple[int, int]:
    """Read one positive integer for both axes, or two."""
    both = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(both) != 2 or not all(isinstance(v, int) and not isinstance(v, bool) and v >= 1 for v in both):
        raise ValueError(f"{name} must be a positive integer or two of them, found {value!r}")
    return both[0], both[1]


def check_padding(padding: Padding) -> Padding:
    """Require one of the names of paddings, or a finite number."""
    if isinstance(padding, str):
        if padding in PADDINGS:
            return padding
    elif isinstance(padding, (int, float)) and not isinstance(padding, bool) and math.isfinite(padding):
        return float(padding)
    raise ValueError(f"padding must be one of {', '.join(map(repr, PADDINGS))} or a finite number, found {padding!r}")


def check_window_fits(image: Tensor, size: tuple[int, int], rate: tuple[int, int], padding: Padding) -> None:
    """Require that padding "valid" leaves at least one output."""
    span = tuple(r * (s - 1) + 1 for s, r in zip(size, rate, strict=True))
    if padding == "valid" and (span[0] > image.shape[-2] or span[1] > image.shape[-1]):
        raise ValueError(
            f"padding 'valid' needs an image of at least {span} pixels for this window, found {tuple(image.shape[-2:])}"
        )
