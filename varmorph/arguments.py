"""Checks of arguments that need no framework: one clear error for each, which names what was found and expected."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from varmorph.windows import PADDINGS, Geometry, Padding

__all__ = [
    "PENALTIES",
    "Direction",
    "Size",
    "check_channels",
    "check_connectivity",
    "check_direction",
    "check_edge_penalty",
    "check_joint_penalty",
    "check_padding",
    "check_penalty",
    "check_positive_number",
    "check_window_fits",
    "geometry_of",
    "geometry_within",
    "pair",
]

PENALTIES = ("expectile", "quantile", "huber")
Direction = Literal["dilation", "erosion"]
Size = int | Sequence[int]


def check_channels(channels: int) -> int:
    """Require a positive number of channels."""
    if not isinstance(channels, int) or channels < 1:
        raise ValueError(f"channels must be a positive integer, found {channels!r}")
    return channels


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


def check_window_fits(image: tuple[int, int], size: tuple[int, int], rate: tuple[int, int], padding: Padding) -> None:
    """Require that padding "valid" leaves at least one output."""
    span = tuple(r * (s - 1) + 1 for s, r in zip(size, rate, strict=True))
    if padding == "valid" and (span[0] > image[0] or span[1] > image[1]):
        raise ValueError(
            f"padding 'valid' needs an image of at least {span} pixels for this window, found {tuple(image)}"
        )


def geometry_of(
    image: tuple[int, ...], window: tuple[int, ...], stride: Size, rate: Size, padding: Padding, reverse: bool
) -> Geometry:
    """Check how a window moves over an image, both given by shapes that end in height and width."""
    padding = check_padding(padding)
    steps, rates = pair("stride", stride), pair("rate", rate)
    size, pixels = (window[-2], window[-1]), (image[-2], image[-1])
    check_window_fits(pixels, size, rates, padding)
    return pixels, size, steps, rates, padding, reverse


def geometry_within(
    image: Sequence[int], function: Sequence[int], rate: Size, padding: Padding, reverse: bool = False
) -> Geometry:
    """Say how a window moves that keeps the size of the image; the shapes are (..., H, W) and (..., kh, kw)."""
    padding = check_padding(padding)
    if padding == "valid":
        raise ValueError("padding must keep the size of the image, found 'valid'")
    return (image[-2], image[-1]), (function[-2], function[-1]), (1, 1), pair("rate", rate), padding, reverse


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


def check_positive_number(name: str, value: float) -> float:
    """Require a positive finite number."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be a positive number, found {value!r}")
    return float(value)
