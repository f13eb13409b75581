"""Layers that the original names but that do not run there, or do something else: by their definition in the literature."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from varmorph.arguments import pair

from .constraints import zero_to_one
from .layers import WindowLayer
from .operators import Size, depthwise, dilation, erosion
from .structuring import QuadraticFunctions, projected_

__all__ = ["LasryLions2D", "ToggleMapping2D", "toggle_mapping"]


def toggle_mapping(x: Tensor, kernel: Tensor) -> Tensor:
    """Give each pixel its dilation or its erosion, whichever is nearer; where both are equally near it stays.

    H. P. Kramer and J. B. Bruckner (1975), Iterations of a non-linear transformation for enhancement of digital images, Pattern
    Recognition 7, 53-58; J. Serra (1989), Toggle mappings, in From Pixels to Features.

    Parameters
    ----------
    x : Tensor
        (N, C, H, W).
    kernel : Tensor
        (C, kh, kw), 0 at the centre and nowhere positive, for the image to lie between erosion and dilation.

    Returns
    -------
    Tensor
        (N, C, H, W). The gradient is that of the value taken; the choice has none.
    """
    above, below = dilation(x, kernel), erosion(x, kernel)
    rise, fall = above - x, x - below
    return torch.where(rise < fall, above, torch.where(rise > fall, below, x))


class ToggleMapping2D(WindowLayer):
    """Repeat the `toggle_mapping` of each channel by each structuring function: (N, F * C, H, W).

    Parameters
    ----------
    channels, filters, kernel_size
        As in `layers.Opening2D`.
    steps : int
        Number of repetitions.
    **options
        ``functions`` of `layers.Opening2D`; there is no stride.
    """

    def __init__(self, channels: int, filters: int, kernel_size: Size, *, steps: int = 1, **options: Any):
        super().__init__(channels, filters, kernel_size, **options)
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, F * C, H, W)."""
        kernel = self.functions().flatten(0, 1)
        x = x.repeat(1, self.filters, 1, 1)
        for _ in range(self.steps):
            x = toggle_mapping(x, kernel)
        return x


class LasryLions2D(nn.Module):
    """Lasry-Lions regularisation of each channel: a quadratic operator, then its dual with a narrower paraboloid.

    The first paraboloid is ``ratio`` times as steep as the second, 0 <= ratio <= 1: with a ratio of 1 it is an opening or a closing,
    with 0 the first operator is flat. J.-M. Lasry and P.-L. Lions (1986), A remark on regularization in Hilbert spaces, Israel
    Journal of Mathematics 55, 257-266.

    Parameters
    ----------
    channels, filters, kernel_size
        As in `layers.Opening2D`.
    erosion_first : bool
        Whether the first operator is the erosion.
    scale : float
        Of `structuring.QuadraticFunctions`.

    Attributes
    ----------
    ratio : Parameter
        (F, C), drawn from U(0.5, 0.9); brought into [0, 1] before each use.
    """

    def __init__(
        self, channels: int, filters: int, kernel_size: Size, *, erosion_first: bool = True, scale: float = 5.0
    ):
        super().__init__()
        window = pair("kernel_size", kernel_size)
        self.erosion_first = erosion_first
        self.functions = QuadraticFunctions(filters, channels, window, scale=scale, low=0.75, high=1.25)
        self.ratio = nn.Parameter(torch.empty(filters, channels).uniform_(0.5, 0.9))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, F * C, H, W)."""
        narrow = self.functions()
        wide = projected_(self.ratio, zero_to_one)[..., None, None] * narrow
        first, second = (erosion, dilation) if self.erosion_first else (dilation, erosion)
        return second(depthwise(first, x, wide), narrow.flatten(0, 1))
