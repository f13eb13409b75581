"""Dilation and erosion with TensorFlow's borders: where its windows lie, and which of equal values takes the gradient.

    dilation(x; k)[p] = max_b x[stride p + rate b - margin] + k[b]        erosion(x; k) = -dilation(-x; k reversed)

Padding "same" adds neutral pixels, ``total // 2`` of them before the first one, where ``total`` is what ceil(size / stride) windows
need beyond the image; "valid" adds none. So with a stride, or an even window, the window is not centred where
`varmorph.torch.dilation` centres it. Of equal values the first of the window in row-major order takes the whole gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

import varmorph.torch
from varmorph.arguments import pair

__all__ = ["Size", "closing", "depthwise", "dilation", "erosion", "margins", "opening"]

Size = int | Sequence[int]
Margins = tuple[tuple[int, int], tuple[int, int]]


def margins(image: Sequence[int], window: Sequence[int], stride: Size, rate: Size, padding: str) -> Margins:
    """Return the number of pixels that TensorFlow adds before and after each axis.

    Parameters
    ----------
    image, window : pair of int
        Height and width.
    stride, rate : int or pair
        Step between windows, and between the elements of a window.
    padding : {"same", "valid"}
        "same" gives ceil(size / stride) outputs.

    Raises
    ------
    ValueError
        If the padding is unknown.
    """
    if padding not in ("same", "valid"):
        raise ValueError(f"padding must be 'same' or 'valid', found {padding!r}")
    if padding == "valid":
        return (0, 0), (0, 0)
    steps, rates = pair("stride", stride), pair("rate", rate)
    rows, columns = (
        max((-(-image[a] // steps[a]) - 1) * steps[a] + (window[a] - 1) * rates[a] + 1 - image[a], 0) for a in (0, 1)
    )
    return (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)


def dilation(x: Tensor, kernel: Tensor, *, stride: Size = 1, rate: Size = 1, padding: str = "same") -> Tensor:
    """Return the greatest x + kernel over each window; equals ``tf.nn.dilation2d``.

    Parameters
    ----------
    x : Tensor
        (N, C, H, W).
    kernel : Tensor
        Structuring functions, (C, kh, kw).
    stride, rate, padding
        As in `margins`.

    Returns
    -------
    Tensor
        (N, C, H', W').

    Raises
    ------
    ValueError
        If a shape does not fit, or no window fits into the image.
    """
    return _windowed(x, kernel, 1, stride, rate, padding)


def erosion(x: Tensor, kernel: Tensor, *, stride: Size = 1, rate: Size = 1, padding: str = "same") -> Tensor:
    """Return the least x - kernel over each window, the kernel being turned by 180 degrees; equals ``tf.nn.erosion2d``.

    Parameters, result and errors are those of `dilation`. With "same", stride 1 and windows of odd size the two are an adjunction.
    """
    return _windowed(x, kernel, -1, stride, rate, padding)


def _windowed(x: Tensor, kernel: Tensor, sign: int, stride: Size, rate: Size, padding: str) -> Tensor:
    operator = varmorph.torch.dilation if sign > 0 else varmorph.torch.erosion
    added = margins(x.shape[-2:], kernel.shape[-2:], stride, rate, padding)
    if padding == "same" and _before_the_origin(kernel.shape[-2:], rate, sign) == (added[0][0], added[1][0]):
        return operator(x, kernel, stride=stride, rate=rate)
    if padding == "same":
        (top, bottom), (left, right) = added
        x = F.pad(x, (left, right, top, bottom), value=-sign * torch.inf)
    return operator(x, kernel, stride=stride, rate=rate, padding="valid")


def _before_the_origin(window: Sequence[int], rate: Size, sign: int) -> tuple[int, int]:
    """Return how far the library's windows reach before the pixel that they are cut around."""
    rates = pair("rate", rate)
    rows, columns = (size // 2 if sign > 0 else (size - 1) // 2 for size in window)
    return rates[0] * rows, rates[1] * columns


def opening(x: Tensor, kernel: Tensor, *, stride: Size = 1, rate: Size = 1, padding: str = "same") -> Tensor:
    """Return the dilation of the erosion, the stride being the dilation's.

    Parameters, result and errors are those of `dilation`. For windows of even size it is neither anti-extensive nor idempotent.
    """
    return dilation(erosion(x, kernel, rate=rate, padding=padding), kernel, stride=stride, rate=rate, padding=padding)


def closing(x: Tensor, kernel: Tensor, *, stride: Size = 1, rate: Size = 1, padding: str = "same") -> Tensor:
    """Return the erosion of the dilation, the stride being the erosion's; the rest as for `opening`."""
    return erosion(dilation(x, kernel, rate=rate, padding=padding), kernel, stride=stride, rate=rate, padding=padding)


def depthwise(operator: Callable[..., Tensor], x: Tensor, kernel: Tensor, **options: object) -> Tensor:
    """Apply an operator with several structuring functions to each channel.

    Parameters
    ----------
    operator : callable
        `dilation`, `erosion`, `opening` or `closing`.
    x : Tensor
        (N, C, H, W).
    kernel : Tensor
        (F, C, kh, kw).
    **options
        Of the operator.

    Returns
    -------
    Tensor
        (N, F * C, H', W'); function f on channel c makes channel f * C + c.
    """
    return operator(x.repeat(1, len(kernel), 1, 1) if len(kernel) > 1 else x, kernel.flatten(0, 1), **options)
