"""The operators that mix channels as layers, with the order of arguments of `torch.nn.Conv2d` and `torch.nn.Linear`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from varmorph.arguments import check_channels, check_groups, check_padding, check_penalty, check_spread, pair
from varmorph.torch.operators import channels
from varmorph.torch.shapes import Images, MixedFeatures, MixedOutputs, WideFeatures
from varmorph.windows import Padding

__all__ = [
    "MaxPlusConv2d",
    "MaxPlusLinear",
    "MinPlusConv2d",
    "MinPlusLinear",
    "VariationalConv2d",
    "VariationalLinear",
]


class _Mixing(nn.Module):
    """What these layers share: offsets, drawn at first, which for -x are the opposite of those for x."""

    operator: ClassVar[Callable[..., Tensor]]
    lipschitz: ClassVar[float] = 1.0  # in the sup norm over all channels, for every value of the parameters

    def __init__(
        self,
        shape: Sequence[int],
        signed: bool,
        initial_spread: float,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.signed = bool(signed)
        self.initial_spread = check_spread(initial_spread)
        self.bias = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Draw offsets from a normal distribution of deviation `initial_spread`; those for -x have the other sign."""
        nn.init.normal_(self.bias, std=self.initial_spread)
        if self.signed:
            with torch.no_grad():
                to_x, to_minus_x = self.bias.chunk(2, 1)
                to_x.copy_(-to_minus_x)

    def _options(self) -> dict[str, Any]:
        return {"signed": self.signed}

    def _parts(self) -> list[str]:
        return ["signed=True"] if self.signed else []


class _Variational(_Mixing):
    """What the variational ones add: weights stored as logarithms, so that they stay positive, and levels."""

    def _begin(self, initial_level: float, penalty: str, smoothing: float | None) -> None:
        check_penalty(penalty, smoothing)
        self.penalty, self.smoothing, self.initial_level = penalty, smoothing, float(initial_level)
        self.log_weight = nn.Parameter(torch.empty_like(self.bias))
        self.logit_level = nn.Parameter(self.bias.new_empty(self.bias.shape[0]))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw offsets as the max-plus layers do; start with weights 1 and the initial level."""
        super().reset_parameters()
        nn.init.zeros_(self.log_weight)
        nn.init.constant_(self.logit_level, self.initial_level)

    @property
    def weight(self) -> Tensor:
        """The weights, positive, of the shape of `bias`."""
        return self.log_weight.exp()

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "weight": self.weight, "penalty": self.penalty, "smoothing": self.smoothing}

    def _parts(self) -> list[str]:
        parts = super()._parts()
        if self.penalty != "expectile":
            parts.append(f"penalty={self.penalty!r}")
        return parts if self.smoothing is None else [*parts, f"smoothing={self.smoothing}"]


class _Conv2d(_Mixing):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: Padding = "geodesic",
        rate: int | Sequence[int] = 1,
        groups: int = 1,
        *,
        signed: bool = False,
        initial_spread: float = 0.3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        inputs, outputs = check_channels(in_channels), check_channels(out_channels)
        check_groups(groups, inputs)
        check_groups(groups, outputs)
        size = pair("kernel_size", kernel_size)
        met = (2 if signed else 1) * inputs // groups
        super().__init__((outputs, met, *size), signed, initial_spread, device, dtype)
        self.in_channels, self.out_channels, self.kernel_size, self.groups = inputs, outputs, size, int(groups)
        self.stride, self.rate, self.padding = pair("stride", stride), pair("rate", rate), check_padding(padding)

    def _options(self) -> dict[str, Any]:
        window = {"stride": self.stride, "rate": self.rate, "padding": self.padding}
        return {**super()._options(), "groups": self.groups, **window}

    def extra_repr(self) -> str:
        """Show the arguments that make the layer, defaults left out."""
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"]
        parts += [f"{name}={getattr(self, name)}" for name in ("stride", "rate") if getattr(self, name) != (1, 1)]
        parts += [f"padding={self.padding!r}"] if self.padding != "geodesic" else []
        parts += [f"groups={self.groups}"] if self.groups != 1 else []
        return ", ".join([*parts, *self._parts()])


class MaxPlusConv2d(_Conv2d):
    """Max-plus convolution: the greatest x + bias over a window of all input channels of a group.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, rate, groups
        As in `torch.nn.Conv2d`, whose dilation is `rate` here; padding as in `varmorph.torch.dilation`.
    signed : bool
        Whether -x is seen beside x; see `varmorph.torch.maxplus_conv2d`.
    initial_spread : float
        Deviation of the normal distribution that the offsets are drawn from.
    device, dtype
        Of the parameters, as in the layers of PyTorch.

    Attributes
    ----------
    bias : (O, S C / groups, kh, kw)
        The offsets, S = 2 if signed: those for x, then those for -x, which are their opposite at first.

    Raises
    ------
    ValueError
        If an argument does not fit, or, in `forward`, as `varmorph.torch.maxplus_conv2d` does.

    Examples
    --------
    >>> import torch
    >>> layer = MaxPlusConv2d(4, 8, 3, stride=2)
    >>> layer
    MaxPlusConv2d(4, 8, kernel_size=(3, 3), stride=(2, 2))
    >>> layer(torch.rand(2, 4, 9, 9)).shape
    torch.Size([2, 8, 5, 5])
    """

    operator = staticmethod(channels.maxplus_conv2d)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reset_parameters()

    def forward(self, x: Images) -> MixedOutputs:
        """Apply the operator to (N, in_channels, H, W)."""
        return type(self).operator(x, self.bias, **self._options())


class MinPlusConv2d(MaxPlusConv2d):
    """Min-plus convolution: the least x + bias over a window of all input channels of a group; all else as in `MaxPlusConv2d`."""

    operator = staticmethod(channels.minplus_conv2d)


class VariationalConv2d(_Variational, _Conv2d):
    """Variational convolution with learnable offsets, weights and level for each output channel.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, rate, groups, signed, initial_spread, device, dtype
        As in `MaxPlusConv2d`.
    initial_level : float
        First value of `logit_level`: 0 gives weighted means, large values the greatest, small ones the least.
    penalty, smoothing
        As in `varmorph.torch.variational_conv2d`.

    Attributes
    ----------
    bias, log_weight : (O, S C / groups, kh, kw)
        Offsets, see `MaxPlusConv2d`, and logarithms of the weights, zeros at first.
    logit_level : (O,)
        Logits of the levels.

    Raises
    ------
    ValueError
        If an argument does not fit, or, in `forward`, as `varmorph.torch.variational_conv2d` does.

    Examples
    --------
    >>> import torch
    >>> layer = VariationalConv2d(4, 8, 3, signed=True)
    >>> layer
    VariationalConv2d(4, 8, kernel_size=(3, 3), signed=True)
    >>> layer(torch.rand(2, 4, 9, 9)).shape
    torch.Size([2, 8, 9, 9])
    """

    def __init__(
        self,
        *args: Any,
        initial_level: float = 3.0,
        penalty: str = "expectile",
        smoothing: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._begin(initial_level, penalty, smoothing)

    def forward(self, x: Images) -> MixedOutputs:
        """Apply the operator to (N, in_channels, H, W)."""
        return channels.variational_conv2d(x, self.bias, self.logit_level, **self._options())


class _Linear(_Mixing):
    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        signed: bool = False,
        initial_spread: float = 0.3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        inputs, outputs = check_channels(in_features), check_channels(out_features)
        super().__init__((outputs, (2 if signed else 1) * inputs), signed, initial_spread, device, dtype)
        self.in_features, self.out_features = inputs, outputs

    def extra_repr(self) -> str:
        """Show the arguments that make the layer, defaults left out."""
        return ", ".join([f"{self.in_features}, {self.out_features}", *self._parts()])


class MaxPlusLinear(_Linear):
    """Max-plus map of features: the greatest x + bias over all of them.

    Parameters
    ----------
    in_features, out_features, device, dtype
        As in `torch.nn.Linear`.
    signed, initial_spread
        As in `MaxPlusConv2d`.

    Attributes
    ----------
    bias : (O, S F)
        The offsets, S = 2 if signed.

    Raises
    ------
    ValueError
        If an argument does not fit, or, in `forward`, as `varmorph.torch.maxplus_linear` does.

    Examples
    --------
    >>> import torch
    >>> MaxPlusLinear(4, 8, signed=True)(torch.rand(2, 4)).shape
    torch.Size([2, 8])
    """

    operator = staticmethod(channels.maxplus_linear)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reset_parameters()

    def forward(self, x: WideFeatures) -> MixedFeatures:
        """Apply the operator to (..., in_features)."""
        return type(self).operator(x, self.bias, **self._options())


class MinPlusLinear(MaxPlusLinear):
    """Min-plus map of features: the least x + bias over all of them; all else as in `MaxPlusLinear`."""

    operator = staticmethod(channels.minplus_linear)


class VariationalLinear(_Variational, _Linear):
    """Variational map of features with learnable offsets, weights and level for each output.

    Parameters
    ----------
    in_features, out_features, signed, initial_spread, device, dtype
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
        If an argument does not fit, or, in `forward`, as `varmorph.torch.variational_linear` does.

    Examples
    --------
    >>> import torch
    >>> VariationalLinear(4, 8, initial_level=0.0)(torch.rand(2, 4)).shape
    torch.Size([2, 8])
    """

    def __init__(
        self,
        *args: Any,
        initial_level: float = 3.0,
        penalty: str = "expectile",
        smoothing: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._begin(initial_level, penalty, smoothing)

    def forward(self, x: WideFeatures) -> MixedFeatures:
        """Apply the operator to (..., in_features)."""
        return channels.variational_linear(x, self.bias, self.logit_level, **self._options())
