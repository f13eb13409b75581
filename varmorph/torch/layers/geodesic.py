"""The geodesic operators as layers: reconstruction, h-maxima and leveling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from varmorph.arguments import (
    Direction,
    check_channels,
    check_connectivity,
    check_direction,
    check_positive_number,
    initial_function,
    window_size,
)
from varmorph.torch.arguments import check_image
from varmorph.torch.operators.geodesic import h_maxima, reconstruction
from varmorph.torch.operators.leveling import leveling
from varmorph.torch.shapes import ChannelFunctions, Channels, Images

__all__ = ["HMaxima2d", "Leveling2d", "Reconstruction2d"]


def _check_channel_count(image: Tensor, name: str, channels: int) -> Tensor:
    image = check_image(image, name)
    if image.shape[1] != channels:
        raise ValueError(f"{name} must have the channels of the layer, {channels}, found shape {tuple(image.shape)}")
    return image


class _NonPositive(torch.autograd.Function):
    """Project offsets to those of a reconstruction: min(bias, 0), and 0 at the origin.

    The gradient of the clipping would be 0 where bias > 0: an entry that a step of the optimiser carried over 0 could
    never come back. It passes there if a descent step along it lowers the entry, which leads back to where the entry
    counts. A step that would carry it further away is dropped, since it changes nothing. The origin gets no gradient.
    """

    @staticmethod
    def forward(ctx: Any, bias: Tensor) -> Tensor:
        ctx.save_for_backward(bias)
        return _without_origin(bias.clamp(max=0))

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Tensor:
        (bias,), (cotangent,) = ctx.saved_tensors, cotangents
        return _without_origin(cotangent.masked_fill((bias > 0) & (cotangent < 0), 0.0))


def _without_origin(function: Tensor) -> Tensor:
    result = function.clone()
    result[:, function.shape[-2] // 2, function.shape[-1] // 2] = 0
    return result


class Reconstruction2d(nn.Module):
    """Reconstruction of a mask from a marker, with one learnable structuring function a channel.

    Parameters
    ----------
    channels : int
        Number of channels C of the images (N, C, H, W).
    kernel_size : int or pair
        Size of the window, 3 by default; that of `initial` if it is given.
    by : {"dilation", "erosion"}
        As in `varmorph.torch.reconstruction`.
    initial, device, dtype
        As in `Dilation2d`.

    Attributes
    ----------
    bias : (C, kh, kw)
        `initial`, or zeros at first: the reconstruction by the full rectangle. Its projection `offsets` is used: min(bias, 0), and 0 at
        the origin, which is not learnt.

    Raises
    ------
    ValueError
        If an argument does not fit, or, in `forward`, as `varmorph.torch.reconstruction` does.

    Examples
    --------
    >>> import torch
    >>> layer = Reconstruction2d(1)
    >>> layer
    Reconstruction2d(1, kernel_size=(3, 3))
    >>> mask = torch.tensor([[[[1.0, 3.0, 1.0, 2.0, 1.0]]]])
    >>> layer(mask - 1, mask).detach()
    tensor([[[[1., 2., 1., 1., 1.]]]])
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int | Sequence[int] | None = None,
        *,
        by: Direction = "dilation",
        initial: npt.ArrayLike | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channels = check_channels(channels)
        self.initial = None if initial is None else initial_function(initial, self.channels)
        self.kernel_size = window_size(3 if kernel_size is None and initial is None else kernel_size, self.initial)
        self.by = check_direction(by)
        self.bias = nn.Parameter(torch.empty(channels, *self.kernel_size, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with the initial offsets, or 0."""
        with torch.no_grad():
            self.bias.copy_(torch.as_tensor(0.0 if self.initial is None else self.initial))

    @property
    def offsets(self) -> ChannelFunctions:
        """The offsets that are used (channels, kh, kw): not positive, and 0 at the origin."""
        return _NonPositive.apply(self.bias)

    def forward(self, marker: Images, mask: Images) -> Images:
        """Reconstruct mask from marker, both (N, channels, H, W)."""
        marker, mask = (
            _check_channel_count(image, name, self.channels) for image, name in ((marker, "marker"), (mask, "mask"))
        )
        return reconstruction(marker, mask, self.offsets, by=self.by)

    def extra_repr(self) -> str:
        """Show the arguments that make the layer, defaults left out."""
        by = "" if self.by == "dilation" else f", by={self.by!r}"
        return f"{self.channels}, kernel_size={self.kernel_size}{by}"


class HMaxima2d(nn.Module):
    """h-maxima with one learnable height a channel: domes lower than it go, higher ones lose that much.

    Parameters
    ----------
    channels : int
        Number of channels C of the images (N, C, H, W).
    initial_height : float
        First height, positive, in the units of the image.
    connectivity : {4, 8}
        Neighbours of a pixel.
    device, dtype
        As in `Dilation2d`.

    Attributes
    ----------
    log_height : (C,)
        Logarithms of the heights, so that they stay positive.

    Raises
    ------
    ValueError
        If an argument does not fit, or, in `forward`, as `varmorph.torch.h_maxima` does.

    Examples
    --------
    >>> import torch
    >>> layer = HMaxima2d(1, initial_height=2.0)
    >>> layer
    HMaxima2d(1, initial_height=2.0)
    >>> layer(torch.tensor([[[[0.0, 5.0, 0.0, 1.0, 0.0]]]])).detach()
    tensor([[[[0., 3., 0., 0., 0.]]]])
    """

    def __init__(
        self,
        channels: int,
        *,
        initial_height: float = 0.1,
        connectivity: int = 8,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channels = check_channels(channels)
        self.initial_height = check_positive_number("initial_height", initial_height)
        self.connectivity = check_connectivity(connectivity)
        self.log_height = nn.Parameter(torch.empty(channels, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with the initial height in every channel."""
        nn.init.constant_(self.log_height, math.log(self.initial_height))

    @property
    def height(self) -> Channels:
        """The heights (channels,), positive."""
        return self.log_height.exp()

    def forward(self, x: Images) -> Images:
        """Apply the operator to (N, channels, H, W)."""
        return h_maxima(_check_channel_count(x, "x", self.channels), self.height, connectivity=self.connectivity)

    def extra_repr(self) -> str:
        """Show the arguments that make the layer."""
        return f"{self.channels}, initial_height={self.initial_height}{_show_connectivity(self.connectivity)}"


class Leveling2d(nn.Module):
    """Leveling of a reference by a marker. It has no parameters: gradients reach what made the two images.

    Parameters
    ----------
    channels : int
        Number of channels C of the images (N, C, H, W).
    connectivity : {4, 8}
        Neighbours of a pixel.

    Raises
    ------
    ValueError
        If an argument does not fit, or, in `forward`, as `varmorph.torch.leveling` does.

    Examples
    --------
    >>> import torch
    >>> layer = Leveling2d(1)
    >>> layer
    Leveling2d(1)
    >>> reference = torch.tensor([[[[0.0, 4.0, 4.0, 1.0, 5.0, 0.0]]]])
    >>> layer(torch.full_like(reference, 2.0), reference)
    tensor([[[[2., 2., 2., 2., 2., 2.]]]])
    """

    def __init__(self, channels: int, *, connectivity: int = 8) -> None:
        super().__init__()
        self.channels = check_channels(channels)
        self.connectivity = check_connectivity(connectivity)

    def forward(self, marker: Images, reference: Images) -> Images:
        """Level reference by marker, both (N, channels, H, W)."""
        marker, reference = (
            _check_channel_count(image, name, self.channels)
            for image, name in ((marker, "marker"), (reference, "reference"))
        )
        return leveling(marker, reference, connectivity=self.connectivity)

    def extra_repr(self) -> str:
        """Show the arguments that make the layer, defaults left out."""
        return f"{self.channels}{_show_connectivity(self.connectivity)}"


def _show_connectivity(connectivity: int) -> str:
    return "" if connectivity == 8 else f", connectivity={connectivity}"
