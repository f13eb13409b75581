"""Differences of images that padding "valid" has cut by different amounts; for arrays of any framework."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from varmorph.arguments import Size, pair
from varmorph.windows import Padding

__all__ = ["difference"]


def _reach(size: int, rate: int) -> tuple[int, int]:
    """Say how far the dilation looks before and behind a pixel on one axis."""
    return rate * (size // 2), rate * (size - 1 - size // 2)


def _at_common_pixels(images: Sequence[tuple[Any, bool, bool]], bias: Any, stride: Size, rate: Size) -> list[Any]:
    """Crop results of padding "valid" to the pixels they all have, then sample.

    Each entry is (image, eroded, dilated): what has already been cut off around it.
    """
    steps, rates = pair("stride", stride), pair("rate", rate)
    cropped = [image for image, _, _ in images]
    for axis, dim in ((0, -2), (1, -1)):
        before, behind = _reach(bias.shape[dim], rates[axis])
        lost = [
            (eroded * behind + dilated * before, eroded * before + dilated * behind) for _, eroded, dilated in images
        ]
        head, tail = (max(one[side] for one in lost) for side in (0, 1))
        for i, (start, end) in enumerate(lost):
            length = cropped[i].shape[dim] - (head - start) - (tail - end)
            if length < 1:
                raise ValueError(f"padding 'valid' leaves no pixel for a window of {tuple(bias.shape[-2:])}")
            pixels = slice(head - start, head - start + length)
            cropped[i] = cropped[i][..., pixels, :] if axis == 0 else cropped[i][..., pixels]
    return [image[..., :: steps[0], :: steps[1]] for image in cropped]


def difference(
    minuend: tuple[Any, bool, bool],
    subtrahend: tuple[Any, bool, bool],
    bias: Any,
    stride: Size,
    rate: Size,
    padding: Padding,
) -> Any:
    """Subtract one image from the other where both exist, then sample.

    Each is (image (N, C, H, W), whether it has been eroded, whether it has been dilated), by the window of `bias`.
    """
    if padding != "valid":
        steps = pair("stride", stride)
        return (minuend[0] - subtrahend[0])[..., :: steps[0], :: steps[1]]
    left, right = _at_common_pixels([minuend, subtrahend], bias, stride, rate)
    return left - right
