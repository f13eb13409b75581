"""The geodesic operators as Equinox layers: reconstruction, h-maxima and leveling."""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy.typing as npt

from varmorph.arguments import (
    Direction,
    Size,
    check_channels,
    check_connectivity,
    check_direction,
    check_positive_number,
    initial_function,
    window_size,
)
from varmorph.jax.arguments import check_image
from varmorph.jax.layers.single_images import on_batches
from varmorph.jax.operators.geodesic import h_maxima, reconstruction
from varmorph.jax.operators.leveling import leveling
from varmorph.jax.shapes import ChannelFunctions, Channels, Image, Images, Key

__all__ = ["HMaxima2d", "Leveling2d", "Reconstruction2d"]


def _check_channel_count(image: jax.Array, name: str, channels: int) -> jax.Array:
    image = check_image(image, name)
    if image.shape[1] != channels:
        raise ValueError(f"{name} must have the channels of the layer, {channels}, found shape {image.shape}")
    return image


def _without_origin(function: jax.Array) -> jax.Array:
    return function.at[:, function.shape[-2] // 2, function.shape[-1] // 2].set(0)


@jax.custom_vjp
def _non_positive(bias: jax.Array) -> jax.Array:
    """Project offsets to those of a reconstruction, with the gradient that `varmorph.torch.Reconstruction2d` explains."""
    return _without_origin(jnp.minimum(bias, 0))


def _project_back(bias: jax.Array, cotangent: jax.Array) -> tuple[jax.Array]:
    return (_without_origin(jnp.where((bias > 0) & (cotangent < 0), 0.0, cotangent)),)


_non_positive.defvjp(lambda bias: (_non_positive(bias), bias), _project_back)


class Reconstruction2d(eqx.Module):
    """Reconstruction of a mask from a marker, with one learnable structuring function a channel.

    Parameters
    ----------
    channels : int
        Number of channels C of the images (N, C, H, W).
    kernel_size : int or pair
        Size of the window, 3 by default; that of `initial` if it is given.
    by : {"dilation", "erosion"}
        As in `varmorph.jax.reconstruction`.
    initial
        As in `Dilation2d`.

    Attributes
    ----------
    bias : (C, kh, kw)
        `initial`, or zeros at first: the reconstruction by the full rectangle. Its projection `offsets` is used: min(bias, 0), and 0 at
        the origin, which is not learnt.

    Raises
    ------
    ValueError
        If an argument does not fit, or, when applied, as `varmorph.jax.reconstruction` does.
    """

    bias: ChannelFunctions
    channels: int = eqx.field(static=True)
    kernel_size: tuple[int, int] = eqx.field(static=True)
    by: Direction = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        kernel_size: Size | None = None,
        *,
        by: Direction = "dilation",
        initial: npt.ArrayLike | None = None,
    ) -> None:
        self.channels = check_channels(channels)
        function = None if initial is None else initial_function(initial, self.channels)
        self.kernel_size = window_size(3 if kernel_size is None and initial is None else kernel_size, function)
        self.by = check_direction(by)
        start = jnp.zeros(()) if function is None else jnp.asarray(function, jnp.zeros(()).dtype)
        self.bias = jnp.broadcast_to(start, (self.channels, *self.kernel_size))

    @property
    def offsets(self) -> ChannelFunctions:
        """The offsets that are used (channels, kh, kw): not positive, and 0 at the origin."""
        return _non_positive(self.bias)

    def __call__(self, marker: Images | Image, mask: Images | Image, *, key: Key | None = None) -> Images | Image:
        """Reconstruct mask from marker, both (N, channels, H, W) or (channels, H, W); no key is needed."""

        def apply(marker: jax.Array, mask: jax.Array) -> jax.Array:
            _check_channel_count(marker, "marker", self.channels)
            _check_channel_count(mask, "mask", self.channels)
            return reconstruction(marker, mask, self.offsets, by=self.by)

        return on_batches(apply, marker, mask)


class HMaxima2d(eqx.Module):
    """h-maxima with one learnable height a channel: domes lower than it go, higher ones lose that much.

    Parameters
    ----------
    channels : int
        Number of channels C of the images (N, C, H, W).
    initial_height : float
        First height, positive, in the units of the image.
    connectivity : {4, 8}
        Neighbours of a pixel.

    Attributes
    ----------
    log_height : (C,)
        Logarithms of the heights, so that they stay positive.

    Raises
    ------
    ValueError
        If an argument does not fit, or, when applied, as `varmorph.jax.h_maxima` does.
    """

    log_height: Channels
    channels: int = eqx.field(static=True)
    initial_height: float = eqx.field(static=True)
    connectivity: int = eqx.field(static=True)

    def __init__(self, channels: int, *, initial_height: float = 0.1, connectivity: int = 8) -> None:
        self.channels = check_channels(channels)
        self.initial_height = check_positive_number("initial_height", initial_height)
        self.connectivity = check_connectivity(connectivity)
        self.log_height = jnp.full(channels, math.log(self.initial_height))

    @property
    def height(self) -> Channels:
        """The heights (channels,), positive."""
        return jnp.exp(self.log_height)

    def __call__(self, x: Images | Image, *, key: Key | None = None) -> Images | Image:
        """Apply the operator to (N, channels, H, W) or (channels, H, W); no key is needed."""

        def apply(x: jax.Array) -> jax.Array:
            image = _check_channel_count(x, "x", self.channels)
            return h_maxima(image, self.height, connectivity=self.connectivity)

        return on_batches(apply, x)


class Leveling2d(eqx.Module):
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
        If an argument does not fit, or, when applied, as `varmorph.jax.leveling` does.
    """

    channels: int = eqx.field(static=True)
    connectivity: int = eqx.field(static=True)

    def __init__(self, channels: int, *, connectivity: int = 8) -> None:
        self.channels = check_channels(channels)
        self.connectivity = check_connectivity(connectivity)

    def __call__(self, marker: Images | Image, reference: Images | Image, *, key: Key | None = None) -> Images | Image:
        """Level reference by marker, both (N, channels, H, W) or (channels, H, W); no key is needed."""

        def apply(marker: jax.Array, reference: jax.Array) -> jax.Array:
            _check_channel_count(marker, "marker", self.channels)
            _check_channel_count(reference, "reference", self.channels)
            return leveling(marker, reference, connectivity=self.connectivity)

        return on_batches(apply, marker, reference)
