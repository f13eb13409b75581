"""The operators as Equinox layers with learnable structuring functions, weights and levels.

A layer is applied to a batch of images (N, C, H, W), or to a single one (C, H, W) as the layers of Equinox are. Its learnable arrays have the names and shapes of those of
`varmorph.torch`, and `varmorph.convert` carries them over in both directions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy.typing as npt

from varmorph.arguments import (
    Size,
    check_channels,
    check_dual,
    check_padding,
    check_penalty,
    initial_function,
    initial_levels,
    pair,
    window_size,
)
from varmorph.jax.layers.single_images import on_batches
from varmorph.jax.operators import variational_window, window
from varmorph.jax.shapes import ChannelFunctions, ChannelLevels, Channels, Image, Images, Key, Output, Outputs
from varmorph.windows import Padding

__all__ = [
    "BlackTopHat2d",
    "Closing2d",
    "Dilation2d",
    "Erosion2d",
    "Gradient2d",
    "Opening2d",
    "VariationalClosing2d",
    "VariationalDilation2d",
    "VariationalErosion2d",
    "VariationalLayer2d",
    "VariationalOpening2d",
    "WhiteTopHat2d",
]


class _Window2d(eqx.Module):
    """What all layers share: a structuring function for each channel, and how the window moves over the image."""

    operator: ClassVar[Callable[..., jax.Array]]

    bias: ChannelFunctions
    channels: int = eqx.field(static=True)
    kernel_size: tuple[int, int] = eqx.field(static=True)
    stride: tuple[int, int] = eqx.field(static=True)
    rate: tuple[int, int] = eqx.field(static=True)
    padding: Padding = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        kernel_size: Size | None = None,
        *,
        stride: Size = 1,
        rate: Size = 1,
        padding: Padding = "geodesic",
        initial: npt.ArrayLike | None = None,
    ) -> None:
        self.channels = check_channels(channels)
        function = None if initial is None else initial_function(initial, self.channels)
        self.kernel_size = window_size(kernel_size, function)
        self.stride = pair("stride", stride)
        self.rate = pair("rate", rate)
        self.padding = check_padding(padding)
        start = jnp.zeros(()) if function is None else jnp.asarray(function, jnp.zeros(()).dtype)
        self.bias = jnp.broadcast_to(start, (self.channels, *self.kernel_size))

    def _options(self) -> dict[str, Any]:
        return {"stride": self.stride, "rate": self.rate, "padding": self.padding}

    def __call__(self, x: Images | Image, *, key: Key | None = None) -> Outputs | Output:
        """Apply the operator to (N, channels, H, W) or (channels, H, W); no key is needed."""
        return on_batches(lambda x: type(self).operator(x, self.bias, **self._options()), x)


class Dilation2d(_Window2d):
    """Max-plus dilation with one learnable structuring function a channel.

    Parameters
    ----------
    channels : int
        Number of channels C of the images (N, C, H, W).
    kernel_size : int or pair
        Size of the window; may be left out if `initial` is given.
    dual : int
        Number of channels, the last ones, that are eroded instead, by the transposed function.
    stride, rate, padding
        As in `varmorph.jax.dilation`.
    initial : (kh, kw) or (C, kh, kw), optional
        Structuring function to begin with, such as one of `varmorph.structuring`; an element of -inf stays left out.

    Attributes
    ----------
    bias : (C, kh, kw)
        The structuring function, `initial` or zeros at first.

    Raises
    ------
    ValueError
        If an argument does not fit, or, when applied, as `varmorph.jax.dilation` does.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> Dilation2d(1, (1, 3))(jnp.array([[[[1.0, 2.0, 3.0]]]]))
    Array([[[[2., 3., 3.]]]], dtype=float32)
    """

    dual: int = eqx.field(static=True)

    operator = staticmethod(window.dilation)

    def __init__(
        self,
        channels: int,
        kernel_size: Size | None = None,
        *,
        dual: int = 0,
        stride: Size = 1,
        rate: Size = 1,
        padding: Padding = "geodesic",
        initial: npt.ArrayLike | None = None,
    ) -> None:
        super().__init__(channels, kernel_size, stride=stride, rate=rate, padding=padding, initial=initial)
        self.dual = check_dual(dual, self.channels)

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "dual": self.dual}


class Erosion2d(_Window2d):
    """Max-plus erosion, the adjoint of `Dilation2d` with the same structuring function; arguments but for `dual` and attributes as there."""

    operator = staticmethod(window.erosion)


class Opening2d(_Window2d):
    """Opening: erosion, then dilation, by one structuring function; arguments but for `dual` and attributes as in `Dilation2d`."""

    operator = staticmethod(window.opening)


class Closing2d(_Window2d):
    """Closing: dilation, then erosion, by one structuring function; arguments but for `dual` and attributes as in `Dilation2d`."""

    operator = staticmethod(window.closing)


class Gradient2d(_Window2d):
    """Morphological gradient: dilation minus erosion; arguments but for `dual` and attributes as in `Dilation2d`."""

    operator = staticmethod(window.gradient)


class WhiteTopHat2d(_Window2d):
    """White top-hat: the image minus its opening; arguments but for `dual` and attributes as in `Dilation2d`."""

    operator = staticmethod(window.white_top_hat)


class BlackTopHat2d(_Window2d):
    """Black top-hat: the closing minus the image; arguments but for `dual` and attributes as in `Dilation2d`."""

    operator = staticmethod(window.black_top_hat)


class VariationalLayer2d(_Window2d):
    """What the variational layers share: weights stored as logarithms, so that they stay positive."""

    log_weight: ChannelFunctions
    penalty: str = eqx.field(static=True)
    smoothing: float | None = eqx.field(static=True)
    initial_level: float | tuple[float, ...] = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        kernel_size: Size | None = None,
        *,
        initial_level: float | Sequence[float] = 2.0,
        penalty: str = "expectile",
        smoothing: float | None = None,
        stride: Size = 1,
        rate: Size = 1,
        padding: Padding = "geodesic",
        initial: npt.ArrayLike | None = None,
    ) -> None:
        check_penalty(penalty, smoothing)
        super().__init__(channels, kernel_size, stride=stride, rate=rate, padding=padding, initial=initial)
        self.penalty = penalty
        self.smoothing = smoothing
        self.initial_level = initial_levels(initial_level, self.channels)
        self.log_weight = jnp.zeros(self.bias.shape)

    def _first_levels(self) -> jax.Array:
        """Give the initial level of each channel, (channels,)."""
        return jnp.asarray(self.initial_level, float) * jnp.ones(self.channels)

    @property
    def weight(self) -> ChannelFunctions:
        """The weights (channels, kh, kw), positive."""
        return jnp.exp(self.log_weight)

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "penalty": self.penalty, "smoothing": self.smoothing}


class _SingleLevel2d(VariationalLayer2d):
    logit_level: Channels

    def __init__(self, channels: int, kernel_size: Size | None = None, **options: Any) -> None:
        super().__init__(channels, kernel_size, **options)
        self.logit_level = self._first_levels()

    def __call__(self, x: Images | Image, *, key: Key | None = None) -> Outputs | Output:
        """Apply the operator to (N, channels, H, W) or (channels, H, W); no key is needed."""
        options = {**self._options(), "weight": self.weight}
        return on_batches(lambda x: type(self).operator(x, self.bias, self.logit_level, **options), x)


class VariationalDilation2d(_SingleLevel2d):
    """Variational dilation with learnable offsets, weights and level for each channel.

    Parameters
    ----------
    channels : int
        Number of channels C of the images (N, C, H, W).
    kernel_size : int or pair
        Size of the window; may be left out if `initial` is given.
    initial_level : float or (C,), default 2
        First value of `logit_level`: 0 gives the mean over the window, large values the dilation, small ones the erosion by
        the transposed function of opposite sign. Channels of both kinds may stand in one layer.
    penalty, smoothing, stride, rate, padding
        As in `varmorph.jax.variational_dilation`.
    initial
        As in `Dilation2d`.

    Attributes
    ----------
    bias, log_weight : (C, kh, kw)
        Offsets, `initial` or zeros at first, and logarithms of the weights, zeros at first.
    logit_level : (C,)
        Logits of the levels.

    Raises
    ------
    ValueError
        If an argument does not fit, or, when applied, as `varmorph.jax.variational_dilation` does.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> layer = VariationalDilation2d(4, 5, padding="reflect")
    >>> layer(jnp.zeros((2, 4, 8, 8))).shape
    (2, 4, 8, 8)
    """

    operator = staticmethod(variational_window.variational_dilation)


class VariationalErosion2d(_SingleLevel2d):
    """Variational erosion: the reversed edges of `VariationalDilation2d`; arguments, attributes and errors as there."""

    operator = staticmethod(variational_window.variational_erosion)


class _TwoLevels2d(VariationalLayer2d):
    signs: ClassVar[tuple[int, int]]

    logit_levels: ChannelLevels

    def __init__(self, channels: int, kernel_size: Size | None = None, **options: Any) -> None:
        super().__init__(channels, kernel_size, **options)
        self.logit_levels = jnp.array(self.signs, float)[:, None] * self._first_levels()

    def __call__(self, x: Images | Image, *, key: Key | None = None) -> Outputs | Output:
        """Apply the operator to (N, channels, H, W) or (channels, H, W); no key is needed."""
        options = {**self._options(), "weight": self.weight}
        return on_batches(lambda x: type(self).operator(x, self.bias, self.logit_levels, **options), x)


class VariationalOpening2d(_TwoLevels2d):
    """Variational opening; `logit_levels` (2, channels) starts at (-initial_level, initial_level).

    Arguments, the other attributes and errors are those of `VariationalDilation2d`.
    """

    operator = staticmethod(variational_window.variational_opening)
    signs = (-1, 1)


class VariationalClosing2d(_TwoLevels2d):
    """Variational closing; `logit_levels` (2, channels) starts at (initial_level, -initial_level).

    Arguments, the other attributes and errors are those of `VariationalDilation2d`.
    """

    operator = staticmethod(variational_window.variational_closing)
    signs = (1, -1)
