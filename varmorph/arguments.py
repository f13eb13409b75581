"""Checks of arguments that need no framework: one clear error for each, which names what was found and expected.

Shapes are tuples. What the numbers of an array must be is said here as (what is expected, what was found), and looked at
where the arrays are: in `varmorph.torch.arguments` and `varmorph.jax.arguments`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from varmorph.windows import PADDINGS, Geometry, Padding

__all__ = [
    "ABSENT_CHANNEL",
    "ABSENT_OUTPUT",
    "ABSENT_WEIGHTS",
    "BIAS_NUMBERS",
    "PENALTIES",
    "RECONSTRUCTION_BIAS",
    "Direction",
    "Shape",
    "Size",
    "check_channels",
    "check_channelwise_shape",
    "check_connectivity",
    "check_direction",
    "check_edge_penalty",
    "check_edge_weights_shape",
    "check_edges_shape",
    "check_features_shape",
    "check_function_shape",
    "check_groups",
    "check_image_shape",
    "check_joint_penalty",
    "check_level_pair",
    "check_mixing_shape",
    "check_padding",
    "check_penalty",
    "check_per_edge_shape",
    "check_positive_number",
    "check_same_shape",
    "check_spread",
    "check_weight_shape",
    "check_window_fits",
    "geometry_of",
    "geometry_within",
    "initial_function",
    "integer_of",
    "must_be_finite",
    "must_be_weights",
    "must_name_nodes",
    "number_of",
    "pair",
    "window_size",
]

PENALTIES = ("expectile", "quantile", "huber")
Direction = Literal["dilation", "erosion"]
Size = int | Sequence[int]
Shape = tuple[int, ...]

BIAS_NUMBERS = "bias must hold finite numbers or -inf", "NaN or +inf"
ABSENT_CHANNEL = "bias must keep at least one element in each channel", "a channel of -inf only"
ABSENT_OUTPUT = "bias must keep at least one element for each output channel", "an output channel of -inf only"
ABSENT_WEIGHTS = "weight must be positive at some element with finite bias", "a channel where it is 0"
RECONSTRUCTION_BIAS = "bias of a reconstruction must be <= 0, and 0 at its origin (kh // 2, kw // 2)"


def must_be_weights(name: str) -> tuple[str, str]:
    """Say what is expected of weights, and what was found."""
    return f"{name} must hold finite numbers >= 0", "a negative number, infinity or NaN"


def must_be_finite(name: str) -> str:
    """Say what is expected of a level or another number of each channel."""
    limits = " (the exact operators are its limits)" if name.startswith("logit") else ""
    return f"{name} must be finite{limits}"


def must_name_nodes(name: str, nodes: int) -> str:
    """Say what is expected of the numbers of nodes."""
    return f"{name} must name nodes from 0 to {nodes - 1}"


def number_of(value: object) -> float | None:
    """Give the number that a Python or NumPy scalar, or an array () of NumPy, holds; None for anything else."""
    if isinstance(value, np.ndarray) and value.shape == ():
        value = value[()]
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        return None
    return float(value)


def integer_of(value: object) -> int | None:
    """Give the integer that a Python or NumPy integer holds; None for anything else."""
    return int(value) if isinstance(value, (int, np.integer)) and not isinstance(value, bool) else None


def check_channels(channels: int) -> int:
    """Require a positive number of channels."""
    count = integer_of(channels)
    if count is None or count < 1:
        raise ValueError(f"channels must be a positive integer, found {channels!r}")
    return count


def check_dual(dual: int, channels: int) -> int:
    """Require a number of channels out of so many."""
    count = integer_of(dual)
    if count is None or not 0 <= count <= channels:
        raise ValueError(f"dual must be a number of channels, 0 to {channels}, found {dual!r}")
    return count


def check_connectivity(connectivity: int) -> int:
    """Require 4 or 8 neighbours of a pixel."""
    if connectivity not in (4, 8):
        raise ValueError(f"connectivity must be 4 or 8, found {connectivity!r}")
    return connectivity


def check_direction(by: Direction) -> Direction:
    """Require one of the two directions of a reconstruction."""
    if by not in ("dilation", "erosion"):
        raise ValueError(f"by must be 'dilation' or 'erosion', found {by!r}")
    return by


def check_penalty(penalty: str, smoothing: object) -> None:
    """Require a known penalty, a positive smoothing for "huber", and none for the others."""
    if penalty not in PENALTIES:
        raise ValueError(f"penalty must be one of {', '.join(map(repr, PENALTIES))}, found {penalty!r}")
    if penalty == "huber" and smoothing is None:
        raise ValueError("smoothing must be a positive number for penalty 'huber', found None")
    if penalty != "huber" and smoothing is not None:
        raise ValueError(f"smoothing must be None for penalty {penalty!r}, found {smoothing!r}")


def pair(name: str, value: int | Sequence[int]) -> tuple[int, int]:
    """Read one positive integer for both axes, or two."""
    both = tuple(map(integer_of, value if isinstance(value, Sequence) else (value, value)))
    if len(both) != 2 or both[0] is None or both[1] is None or min(both[0], both[1]) < 1:
        raise ValueError(f"{name} must be a positive integer or two of them, found {value!r}")
    return both[0], both[1]


def initial_function(initial: npt.ArrayLike, channels: int) -> npt.NDArray[np.float64]:
    """Require what a layer's structuring function may begin with: numbers (kh, kw) or (C, kh, kw), finite or -inf."""
    function = np.array(initial, dtype=np.float64)
    check_function_shape("initial", function.shape, channels)
    if not (function < np.inf).all():
        raise ValueError("initial must hold finite numbers or -inf, found NaN or +inf")
    if not (function.max((-2, -1)) > -np.inf).all():
        raise ValueError("initial must keep at least one element in each channel, found a channel of -inf only")
    return function


def initial_levels(initial: npt.ArrayLike, channels: int) -> float | tuple[float, ...]:
    """Require the level that a layer begins with: a finite number, or one for each channel."""
    levels = np.array(initial, dtype=np.float64)
    if levels.shape not in ((), (channels,)):
        raise ValueError(f"initial_level must be a number or ({channels},) of them, found shape {levels.shape}")
    if not np.isfinite(levels).all():
        raise ValueError(f"initial_level must be finite, found {initial!r}")
    return float(levels) if levels.ndim == 0 else tuple(levels.tolist())


def window_size(kernel_size: Size | None, initial: npt.NDArray[np.float64] | None) -> tuple[int, int]:
    """Require the size of the window of a layer, or a structuring function that has one; of both, the same."""
    if initial is None:
        if kernel_size is None:
            raise ValueError(
                "kernel_size must be a positive integer or two of them unless initial is given, found None"
            )
        return pair("kernel_size", kernel_size)
    size = (initial.shape[-2], initial.shape[-1])
    if kernel_size is not None and pair("kernel_size", kernel_size) != size:
        raise ValueError(f"kernel_size must be that of initial {size}, found {kernel_size!r}")
    return size


def check_padding(padding: Padding) -> Padding:
    """Require one of the names of paddings, or a finite number."""
    if isinstance(padding, str):
        if padding in PADDINGS:
            return padding
    else:
        number = number_of(padding)
        if number is not None and math.isfinite(number):
            return number
    raise ValueError(f"padding must be one of {', '.join(map(repr, PADDINGS))} or a finite number, found {padding!r}")


def check_window_fits(image: tuple[int, int], size: tuple[int, int], rate: tuple[int, int], padding: Padding) -> None:
    """Require that padding "valid" leaves at least one output."""
    span = tuple(r * (s - 1) + 1 for s, r in zip(size, rate, strict=True))
    if padding == "valid" and (span[0] > image[0] or span[1] > image[1]):
        raise ValueError(
            f"padding 'valid' needs an image of at least {span} pixels for this window, found {tuple(image)}"
        )


def check_image_shape(name: str, shape: Shape) -> None:
    """Require (N, C, H, W) with at least one channel and pixel."""
    if len(shape) != 4 or 0 in shape[1:]:
        hint = f": add an axis to a single image, {name}[None]" if len(shape) == 3 else ""
        raise ValueError(f"{name} must have shape (N, C, H, W) with C, H, W >= 1, found {shape}{hint}")


def check_same_shape(names: tuple[str, str], shapes: tuple[Shape, Shape]) -> None:
    """Require one shape of two images."""
    if shapes[0] != shapes[1]:
        raise ValueError(f"{names[0]} and {names[1]} must have one shape, found {shapes[0]} and {shapes[1]}")


def check_function_shape(name: str, shape: Shape, channels: int) -> None:
    """Require (C, kh, kw) or (kh, kw) of a structuring function, with at least one element."""
    fits = len(shape) == 2 or (len(shape) == 3 and shape[0] == channels)
    if not fits or 0 in shape:
        raise ValueError(f"{name} must have shape ({channels}, kh, kw) or (kh, kw), found {shape}")


def check_groups(groups: int, channels: int) -> int:
    """Require a positive number of groups that divides the channels."""
    count = integer_of(groups)
    if count is None or count < 1 or channels % count:
        raise ValueError(f"groups must be a positive integer that divides the {channels} channels, found {groups!r}")
    return count


def check_mixing_shape(name: str, shape: Shape, channels: int, groups: int, signed: bool) -> None:
    """Require (O, S C / groups, kh, kw), O a multiple of the groups, S = 2 if signed, with at least one element."""
    met = (2 if signed else 1) * channels // check_groups(groups, channels)
    if len(shape) != 4 or 0 in shape or shape[0] % groups or shape[1] != met:
        what = f"(O, {met}, kh, kw) for {channels} channels in {groups} groups{', signed' if signed else ''}"
        raise ValueError(f"{name} must have shape {what}, O a multiple of groups, found {shape}")


def check_weight_shape(shape: Shape, bias: Shape) -> None:
    """Require weights of the shape of the bias."""
    if shape != bias:
        raise ValueError(f"weight must have the window size of bias {bias[-2:]}, found {shape[-2:]}")


def check_channelwise_shape(name: str, shape: Shape, channels: int) -> None:
    """Require () or (C,)."""
    if shape not in ((), (channels,)):
        raise ValueError(f"{name} must be a scalar or have shape ({channels},), found {shape}")


def check_edge_weights_shape(shape: Shape, image: Shape) -> None:
    """Require (N, 1 or C, 2, H, W), for an image (N, C, H, W)."""
    samples, channels, height, width = image
    allowed = [(samples, c, 2, height, width) for c in (1, channels)]
    if shape not in allowed:
        raise ValueError(f"edge_weights must have shape {allowed[0]} or {allowed[1]}, found {shape}")


def check_features_shape(shape: Shape) -> None:
    """Require features (nodes, F) or (B, nodes, F), with at least one node and feature."""
    if len(shape) not in (2, 3) or 0 in shape[-2:]:
        raise ValueError(f"x must have shape (nodes, F) or (B, nodes, F), nodes and F >= 1, found {shape}")


def check_edges_shape(name: str, shape: Shape) -> None:
    """Require (2, E)."""
    if len(shape) != 2 or shape[0] != 2:
        raise ValueError(f"{name} must have shape (2, E), found {shape}")


def check_per_edge_shape(name: str, shape: Shape, edges: int, features: int) -> None:
    """Require (), (E,) or (E, F)."""
    if shape not in ((), (edges,), (edges, features)):
        raise ValueError(f"{name} must be a number or have shape ({edges},) or ({edges}, {features}), found {shape}")


def check_level_pair(levels: object, shape: Shape | None) -> None:
    """Require two levels: a sequence of two, or an array of shape (2,) or (2, C); the shape is None without an array."""
    if shape is None:
        fits, found = isinstance(levels, Sequence) and len(levels) == 2, levels
    else:
        fits, found = shape != () and shape[0] == 2, shape
    if not fits:
        raise ValueError(f"logit_levels must hold two levels, shape (2,) or (2, C), found {found}")


def geometry_of(
    image: tuple[int, ...], window: tuple[int, ...], stride: Size, rate: Size, padding: Padding, reverse: bool
) -> Geometry:
    """Check how a window moves over an image, both given by shapes that end in height and width."""
    padding = check_padding(padding)
    steps, rates = pair("stride", stride), pair("rate", rate)
    size, pixels = (window[-2], window[-1]), (image[-2], image[-1])
    check_window_fits(pixels, size, rates, padding)
    return Geometry(pixels, size, steps, rates, padding, reverse)


def geometry_within(
    image: Sequence[int], function: Sequence[int], rate: Size, padding: Padding, reverse: bool = False
) -> Geometry:
    """Say how a window moves that keeps the size of the image; the shapes are (..., H, W) and (..., kh, kw)."""
    padding = check_padding(padding)
    if padding == "valid":
        raise ValueError("padding must keep the size of the image, found 'valid'")
    pixels, size = (image[-2], image[-1]), (function[-2], function[-1])
    return Geometry(pixels, size, rate=pair("rate", rate), padding=padding, reverse=reverse)


def check_edge_penalty(penalty: str, smoothing: object) -> None:
    """Require penalty "quadratic" without a smoothing, or "huber" with one."""
    if penalty not in ("quadratic", "huber"):
        raise ValueError(f"edge_penalty must be 'quadratic' or 'huber', found {penalty!r}")
    if (penalty == "huber") != (smoothing is not None):
        expected = "a positive number" if penalty == "huber" else "None"
        raise ValueError(f"edge_smoothing must be {expected} for edge_penalty {penalty!r}, found {smoothing!r}")


def check_joint_penalty(penalty: str) -> None:
    """Require a penalty with a derivative."""
    if penalty == "quantile":
        raise ValueError("penalty must be 'expectile' or 'huber' for a joint operator, found 'quantile'")


def check_spread(value: float) -> float:
    """Require the deviation of a distribution to draw from: a number >= 0."""
    number = number_of(value)
    if number is None or not 0 <= number < math.inf:
        raise ValueError(f"initial_spread must be a number >= 0, found {value!r}")
    return number


def check_positive_number(name: str, value: float) -> float:
    """Require a positive finite number."""
    number = number_of(value)
    if number is None or not 0 < number < math.inf:
        raise ValueError(f"{name} must be a positive number, found {value!r}")
    return number
