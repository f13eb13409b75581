"""Empirical mode decomposition by morphological envelopes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from varmorph.arguments import pair

from .initialisers import minus_ones_zero_centre_
from .layers import Dilation2D, Erosion2D, MakeFunctions
from .operators import Size, dilation
from .structuring import StructuringFunctions

__all__ = ["MorphoEMP2D"]


class MorphoEMP2D(nn.Module):
    """Empirical mode decomposition: the image minus the mean of its envelopes, summed over the channels, (N, F, H', W').

    S. Velasco-Forero, R. Pagès, J. Angulo (2022), Learnable empirical mode decomposition based on mathematical morphology, SIAM
    Journal on Imaging Sciences 15(1), 23-44.

    Parameters
    ----------
    channels, filters, kernel_size, stride, functions
        As in `Dilation2D`; padding is "valid".
    shared : bool
        Whether the lower envelope has the structuring functions of the upper one.
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        kernel_size: Size,
        *,
        stride: Size = 1,
        shared: bool = False,
        functions: MakeFunctions = StructuringFunctions,
    ):
        super().__init__()
        options: dict[str, Any] = {"stride": stride, "padding": "valid"}
        self.upper = Dilation2D(channels, filters, kernel_size, functions=functions, **options)
        self.lower = Erosion2D(channels, filters, kernel_size, functions=functions, **options)
        if shared:
            self.lower.functions = self.upper.functions
        identity = torch.empty(channels, *pair("kernel_size", kernel_size))
        self.register_buffer("identity", minus_ones_zero_centre_(identity), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W), values in [0, 1], to (N, F, H', W')."""
        image = dilation(x, self.identity, **self.upper.options).sum(1, keepdim=True)
        return image - (self.upper(x) + self.lower(x)) / 2
