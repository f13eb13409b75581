"""The geodesic operators as Equinox layers: reconstruction, h-maxima and leveling."""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp

from varmorph.arguments import Direction, Size, check_channels, check_connectivity, check_direction, pair
from varmorph.jax.arguments import check_image
from varmorph.jax.operators.geodesic import h_maxima, reconstruction
from varmorph.jax.operators.leveling import leveling

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
        Size of the window.
    by : {"dilation", "erosion"}
        As in `varmorph.jax.reconstruction`.

    Attributes
    ----------
    bias : (C, kh, kw)
        Zeros at first: the reconstruction by the full rectangle. Its projection `offsets` is used: min(bias, 0), and 0 at
        the origin, which is not learnt.

    Raises
    ------
    ValueError
        If an argument does not fit, or, when applied, as `varmorph.jax.reconstruction` does.
    """

    bias: jax.Array
    channels: int = eqx.field(static=True)
    kernel_size: tuple[int, int] = eqx.field(static=True)
    by: Direction = eqx.field(static=True)

    def __init__(self, channels: int, kernel_size: Size = 3, *, by: Direction = "dilation") -> None:
        self.channels = check_channels(channels)
        self.kernel_size = pair("kernel_size", kernel_size)
        self.by = check_direction(by)
        self.bias = jnp.zeros((channels, *self.kernel_size))

    @property
    def offsets(self) -> jax.Array:
        """The offsets that are used (channels, kh, kw): not positive, and 0 at the origin."""
        return _non_positive(self.bias)

    def __call__(self, marker: jax.Array, mask: jax.Array) -> jax.Array:
        """Reconstruct mask from marker, both (N, channels, H, W)."""
        marker, mask = (
            _check_channel_count(image, name, self.channels) for image, name in ((marker, "marker"), (mask, "mask"))
        )
        return reconstruction(marker, mask, self.offsets, by=self.by)


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

    log_height: jax.Array
    channels: int = eqx.field(static=True)
    initial_height: float = eqx.field(static=True)
    connectivity: int = eqx.field(static=True)

    def __init__(self, channels: int, *, initial_height: float = 0.1, connectivity: int = 8) -> None:
        if not (isinstance(initial_height, (int, float)) and 0 < initial_height < math.inf):
            raise ValueError(f"initial_height must be a positive finite number, found {initial_height!r}")
        self.channels = check_channels(channels)
        self.initial_height = float(initial_height)
        self.connectivity = check_connectivity(connectivity)
        self.log_height = jnp.full(channels, math.log(initial_height))

    @property
    def height(self) -> jax.Array:
        """The heights (channels,), positive."""
        return jnp.exp(self.log_height)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Apply the operator to (N, channels, H, W)."""
        return h_maxima(_check_channel_count(x, "x", self.channels), self.height, connectivity=self.connectivity)


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

    def __call__(self, marker: jax.Array, reference: jax.Array) -> jax.Array:
        """Level reference by marker, both (N, channels, H, W)."""
        marker, reference = (
            _check_channel_count(image, name, self.channels)
            for image, name in ((marker, "marker"), (reference, "reference"))
        )
        return leveling(marker, reference, connectivity=self.connectivity)
