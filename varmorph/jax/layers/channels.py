"""The operators that mix channels as Equinox layers, with the order of arguments of `equinox.nn.Conv2d` and `equinox.nn.Linear`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from varmorph.arguments import Size, check_channels, check_groups, check_padding, check_penalty, check_spread, pair
from varmorph.jax.layers.single_images import on_batches
from varmorph.jax.operators import channels
from varmorph.jax.shapes import ChannelsOut, Image, Images, Key, MixedFeatures, MixedOutput, MixedOutputs, WideFeatures
from varmorph.windows import Padding

__all__ = [
    "MaxPlusConv2d",
    "MaxPlusLinear",
    "MinPlusConv2d",
    "MinPlusLinear",
    "VariationalConv2d",
    "VariationalLinear",
]


def _drawn(key: jax.Array, shape: tuple[int, ...], signed: bool, deviation: float) -> jax.Array:
    """Draw offsets from a normal distribution; those for -x are the opposite of those for x."""
    if not signed:
        return deviation * jax.random.normal(key, shape)
    half = deviation * jax.random.normal(key, (shape[0], shape[1] // 2, *shape[2:]))
    return jnp.concatenate((-half, half), 1)


class _Mixing(eqx.Module):
    """What these layers share: offsets, drawn at first."""

    operator: ClassVar[Callable[..., jax.Array]]
    lipschitz: ClassVar[float] = 1.0  # in the sup norm over all channels, for every value of the parameters

    bias: jax.Array
    signed: bool = eqx.field(static=True)
    initial_spread: float = eqx.field(static=True)

    def _start(self, key: Key, shape: tuple[int, ...], signed: bool, initial_spread: float) -> None:
        self.signed = bool(signed)
        self.initial_spread = check_spread(initial_spread)
        self.bias = _drawn(key, shape, self.signed, self.initial_spread)

    def _options(self) -> dict[str, Any]:
        return {"signed": self.signed}


class _Variational(_Mixing):
    """What the variational ones add: levels and weights, learned."""

    log_weight: jax.Array
    logit_level: ChannelsOut
    penalty: str = eqx.field(static=True)
    smoothing: float | None = eqx.field(static=True)
    initial_level: float = eqx.field(static=True)

    def __init__(
        self,
        *args: Any,
        initial_level: float = 3.0,
        penalty: str = "expectile",
        smoothing: float | None = None,
        **kwargs: Any,
    ) -> None:
        check_penalty(penalty, smoothing)
        super().__init__(*args, **kwargs)
        self.penalty, self.smoothing, self.initial_level = penalty, smoothing, float(initial_level)
        self.log_weight = jnp.zeros(self.bias.shape)
        self.logit_level = jnp.full(self.bias.shape[0], self.initial_level)

    @property
    def weight(self) -> jax.Array:
        """The weights, positive, of the shape of `bias`."""
        return jnp.exp(self.log_weight)

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "weight": self.weight, "penalty": self.penalty, "smoothing": self.smoothing}


class _Conv2d(_Mixing):
    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    kernel_size: tuple[int, int] = eqx.field(static=True)
    stride: tuple[int, int] = eqx.field(static=True)
    padding: Padding = eqx.field(static=True)
    rate: tuple[int, int] = eqx.field(static=True)
    groups: int = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Padding = "geodesic",
        rate: Size = 1,
        groups: int = 1,
        *,
        signed: bool = False,
        initial_spread: float = 0.3,
        key: Key,
    ) -> None:
        self.in_channels, self.out_channels = check_channels(in_channels), check_channels(out_channels)
        self.groups = check_groups(groups, self.in_channels)
        check_groups(groups, self.out_channels)
        self.kernel_size = pair("kernel_size", kernel_size)
        self.stride, self.rate, self.padding = pair("stride", stride), pair("rate", rate), check_padding(padding)
        met = (2 if signed else 1) * self.in_channels // self.groups
        self._start(key, (self.out_channels, met, *self.kernel_size), signed, initial_spread)

    def _options(self) -> dict[str, Any]:
        window = {"stride": self.stride, "rate": self.rate, "padding": self.padding}
        return {**super()._options(), "groups": self.groups, **window}


class MaxPlusConv2d(_Conv2d):
    """Max-plus convolution: the greatest x + bias over a window of all input channels of a group.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, rate, groups
        As in `equinox.nn.Conv2d`, whose dilation is `rate` here; padding as in `varmorph.jax.dilation`.
    signed : bool
        Whether -x is seen beside x; see `varmorph.jax.maxplus_conv2d`.
    initial_spread : float
        Deviation of the normal distribution that the offsets are drawn from.
    key
        From which they are drawn.

    Attributes
    ----------
    bias : (O, S C / groups, kh, kw)
        The offsets, S = 2 if signed: those for x, then those for -x, which are their opposite at first.

    Raises
    ------
    ValueError
        If an argument does not fit, or, when applied, as `varmorph.jax.maxplus_conv2d` does.

    Examples
    --------
    >>> import jax
    >>> layer = MaxPlusConv2d(4, 8, 3, stride=2, key=jax.random.key(0))
    >>> layer(jax.numpy.zeros((2, 4, 9, 9))).shape
    (2, 8, 5, 5)
    """

    operator = staticmethod(channels.maxplus_conv2d)

    def __call__(self, x: Images | Image, *, key: Key | None = None) -> MixedOutputs | MixedOutput:
        """Apply the operator to (N, in_channels, H, W) or (in_channels, H, W); no key is needed."""
        return on_batches(lambda x: type(self).operator(x, self.bias, **self._options()), x)


class MinPlusConv2d(MaxPlusConv2d):
    """Min-plus convolution: the least x + bias over a window of all input channels of a group; all else as in `MaxPlusConv2d`."""

    operator = staticmethod(channels.minplus_conv2d)


class VariationalConv2d(_Variational, _Conv2d):
    """Variational convolution with learnable offsets, weights and level for each output channel.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, rate, groups, signed, initial_spread, key
        As in `MaxPlusConv2d`.
    initial_level : float
        First value of `logit_level`: 0 gives weighted means, large values the greatest, small ones the least.
    penalty, smoothing
        As in `varmorph.jax.variational_conv2d`.

    Attributes
    ----------
    bias, log_weight : (O, S C / groups, kh, kw)
        Offsets, see `MaxPlusConv2d`, and logarithms of the weights, zeros at first.
    logit_level : (O,)
        Logits of the levels.

    Raises
    ------
    ValueError
        If an argument does not fit, or, when applied, as `varmorph.jax.variational_conv2d` does.

    Examples
    --------
    >>> import jax
    >>> layer = VariationalConv2d(4, 8, 3, signed=True, key=jax.random.key(0))
    >>> layer(jax.numpy.zeros((2, 4, 9, 9))).shape
    (2, 8, 9, 9)
    """

    def __call__(self, x: Images | Image, *, key: Key | None = None) -> MixedOutputs | MixedOutput:
        """Apply the operator to (N, in_channels, H, W) or (in_channels, H, W); no key is needed."""
        options = self._options()
        return on_batches(lambda x: channels.variational_conv2d(x, self.bias, self.logit_level, **options), x)


class _Linear(_Mixing):
    in_features: int = eqx.field(static=True)
    out_features: int = eqx.field(static=True)

    def __init__(
        self, in_features: int, out_features: int, *, signed: bool = False, initial_spread: float = 0.3, key: Key
    ) -> None:
        self.in_features, self.out_features = check_channels(in_features), check_channels(out_features)
        met = (2 if signed else 1) * self.in_features
        self._start(key, (self.out_features, met), signed, initial_spread)


class MaxPlusLinear(_Linear):
    """Max-plus map of features: the greatest x + bias over all of them.

    Parameters
    ----------
    in_features, out_features
        As in `equinox.nn.Linear`.
    signed, initial_spread, key
        As in `MaxPlusConv2d`.

    Attributes
    ----------
    bias : (O, S F)
        The offsets, S = 2 if signed.

    Raises
    ------
    ValueError
        If an argument does not fit, or, when applied, as `varmorph.jax.maxplus_linear` does.

    Examples
    --------
    >>> import jax
    >>> MaxPlusLinear(4, 8, signed=True, key=jax.random.key(0))(jax.numpy.zeros((2, 4))).shape
    (2, 8)
    """

    operator = staticmethod(channels.maxplus_linear)

    def __call__(self, x: WideFeatures, *, key: Key | None = None) -> MixedFeatures:
        """Apply the operator to (..., in_features); no key is needed."""
        return type(self).operator(x, self.bias, **self._options())


class MinPlusLinear(MaxPlusLinear):
    """Min-plus map of features: the least x + bias over all of them; all else as in `MaxPlusLinear`."""

    operator = staticmethod(channels.minplus_linear)


class VariationalLinear(_Variational, _Linear):
    """Variational map of features with learnable offsets, weights and level for each output.

    Parameters
    ----------
    in_features, out_features, signed, initial_spread, key
        As in `MaxPlusLinear`.
    initial_level, penalty, smoothing
        As in `VariationalConv2d`.

    Attributes
    ----------
    bias, log_weight : (O, S F)
        Offsets and logarithms of the weights.
    logit_level : (O,)
        Logits of the levels.

    Raises
    ------
    ValueError
        If an argument does not fit, or, when applied, as `varmorph.jax.variational_linear` does.

    Examples
    --------
    >>> import jax
    >>> VariationalLinear(4, 8, initial_level=0.0, key=jax.random.key(0))(jax.numpy.zeros((2, 4))).shape
    (2, 8)
    """

    def __call__(self, x: WideFeatures, *, key: Key | None = None) -> MixedFeatures:
        """Apply the operator to (..., in_features); no key is needed."""
        return channels.variational_linear(x, self.bias, self.logit_level, **self._options())
