"""The operators as layers with learnable structuring functions, weights and levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy.typing as npt
import torch
from torch import Tensor, nn

from varmorph.arguments import (
    check_channels,
    check_dual,
    check_padding,
    check_penalty,
    initial_function,
    initial_levels,
    pair,
    window_size,
)
from varmorph.torch.operators import variational_window, window
from varmorph.torch.shapes import ChannelFunctions, Images, Outputs
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


class _Window2d(nn.Module):
    """What all layers share: a structuring function for each channel, and how the window moves over the image."""

    operator: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        channels: int,
        kernel_size: int | Sequence[int] | None = None,
        *,
        stride: int | Sequence[int] = 1,
        rate: int | Sequence[int] = 1,
        padding: Padding = "geodesic",
        initial: npt.ArrayLike | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.channels = check_channels(channels)
        self.initial = None if initial is None else initial_function(initial, self.channels)
        self.kernel_size = window_size(kernel_size, self.initial)
        self.stride = pair("stride", stride)
        self.rate = pair("rate", rate)
        self.padding = check_padding(padding)
        self.bias = nn.Parameter(torch.empty(channels, *self.kernel_size, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Start with the initial structuring function, or a flat one: the operator by a full rectangle."""
        with torch.no_grad():
            self.bias.copy_(torch.as_tensor(0.0 if self.initial is None else self.initial))

    def _options(self) -> dict[str, Any]:
        return {"stride": self.stride, "rate": self.rate, "padding": self.padding}

    def extra_repr(self) -> str:
        """Show the arguments that make the layer, defaults left out."""
        parts = [f"{self.channels}, kernel_size={self.kernel_size}"]
        parts += [
            f"{name}={value}" for name, value in (("stride", self.stride), ("rate", self.rate)) if value != (1, 1)
        ]
        if self.padding != "geodesic":
            parts.append(f"padding={self.padding!r}")
        return ", ".join(parts)


class _MaxPlus2d(_Window2d):
    """An exact operator with learnable structuring function `bias` (channels, kh, kw), zeros at first."""

    def __init__(
        self,
        channels: int,
        kernel_size: int | Sequence[int] | None = None,
        *,
        stride: int | Sequence[int] = 1,
        rate: int | Sequence[int] = 1,
        padding: Padding = "geodesic",
        initial: npt.ArrayLike | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            channels,
            kernel_size,
            stride=stride,
            rate=rate,
            padding=padding,
            initial=initial,
            device=device,
            dtype=dtype,
        )
        self.reset_parameters()

    def forward(self, x: Images) -> Outputs:
        """Apply the operator to (N, channels, H, W)."""
        return type(self).operator(x, self.bias, **self._options())


class Dilation2d(_MaxPlus2d):
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
        As in `varmorph.torch.dilation`.
    initial : (kh, kw) or (C, kh, kw), optional
        Structuring function to begin with, such as one of `varmorph.structuring`; an element of -inf stays left out.
    device, dtype
        Of the parameters, as in the layers of PyTorch.

    Attributes
    ----------
    bias : (C, kh, kw)
        The structuring function, `initial` or zeros at first.

    Raises
    ------
    ValueError
        If an argument does not fit, or, in `forward`, as `varmorph.torch.dilation` does.

    Examples
    --------
    >>> import torch
    >>> layer = Dilation2d(4, 3)
    >>> layer
    Dilation2d(4, kernel_size=(3, 3))
    >>> layer(torch.rand(2, 4, 8, 8)).shape
    torch.Size([2, 4, 8, 8])
    """

    operator = staticmethod(window.dilation)

    def __init__(
        self,
        channels: int,
        kernel_size: int | Sequence[int] | None = None,
        *,
        dual: int = 0,
        stride: int | Sequence[int] = 1,
        rate: int | Sequence[int] = 1,
        padding: Padding = "geodesic",
        initial: npt.ArrayLike | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            channels,
            kernel_size,
            stride=stride,
            rate=rate,
            padding=padding,
            initial=initial,
            device=device,
            dtype=dtype,
        )
        self.dual = check_dual(dual, channels)

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "dual": self.dual}

    def extra_repr(self) -> str:
        """Show the arguments that make the layer, defaults left out."""
        return super().extra_repr() + (f", dual={self.dual}" if self.dual else "")


class Erosion2d(_MaxPlus2d):
    """Max-plus erosion, the adjoint of `Dilation2d` with the same structuring function.

    Arguments but for `dual`, attributes and errors are those of `Dilation2d`; the operator is `varmorph.torch.erosion`.

    Examples
    --------
    >>> import torch
    >>> Erosion2d(1, (1, 3))(torch.tensor([[[[1.0, 2.0, 3.0]]]])).detach()
    tensor([[[[1., 1., 2.]]]])
    """

    operator = staticmethod(window.erosion)


class Opening2d(_MaxPlus2d):
    """Opening: erosion, then dilation, by one structuring function.

    Arguments but for `dual`, attributes and errors are those of `Dilation2d`; the operator is `varmorph.torch.opening`.

    Examples
    --------
    >>> import torch
    >>> Opening2d(1, (1, 3))(torch.tensor([[[[0.0, 3.0, 0.0, 2.0, 2.0, 2.0]]]])).detach()
    tensor([[[[0., 0., 0., 2., 2., 2.]]]])
    """

    operator = staticmethod(window.opening)


class Closing2d(_MaxPlus2d):
    """Closing: dilation, then erosion, by one structuring function.

    Arguments but for `dual`, attributes and errors are those of `Dilation2d`; the operator is `varmorph.torch.closing`.

    Examples
    --------
    >>> import torch
    >>> Closing2d(1, (1, 3))(torch.tensor([[[[2.0, 0.0, 2.0, 0.0, 0.0, 0.0]]]])).detach()
    tensor([[[[2., 2., 2., 0., 0., 0.]]]])
    """

    operator = staticmethod(window.closing)


class Gradient2d(_MaxPlus2d):
    """Morphological gradient: dilation minus erosion.

    Arguments but for `dual`, attributes and errors are those of `Dilation2d`; the operator is `varmorph.torch.gradient`.

    Examples
    --------
    >>> import torch
    >>> Gradient2d(1, (1, 3))(torch.tensor([[[[0.0, 0.0, 5.0, 5.0]]]])).detach()
    tensor([[[[0., 5., 5., 0.]]]])
    """

    operator = staticmethod(window.gradient)


class WhiteTopHat2d(_MaxPlus2d):
    """White top-hat: the image minus its opening.

    Arguments but for `dual`, attributes and errors are those of `Dilation2d`; the operator is `varmorph.torch.white_top_hat`.

    Examples
    --------
    >>> import torch
    >>> WhiteTopHat2d(1, (1, 3))(torch.tensor([[[[0.0, 3.0, 0.0, 2.0, 2.0, 2.0]]]])).detach()
    tensor([[[[0., 3., 0., 0., 0., 0.]]]])
    """

    operator = staticmethod(window.white_top_hat)


class BlackTopHat2d(_MaxPlus2d):
    """Black top-hat: the closing minus the image.

    Arguments but for `dual`, attributes and errors are those of `Dilation2d`; the operator is `varmorph.torch.black_top_hat`.

    Examples
    --------
    >>> import torch
    >>> BlackTopHat2d(1, (1, 3))(torch.tensor([[[[3.0, 0.0, 3.0, 1.0, 1.0, 1.0]]]])).detach()
    tensor([[[[0., 3., 0., 0., 0., 0.]]]])
    """

    operator = staticmethod(window.black_top_hat)


class VariationalLayer2d(_Window2d):
    """What the variational layers share: weights stored as logarithms, so that they stay positive."""

    def __init__(
        self,
        channels: int,
        kernel_size: int | Sequence[int] | None = None,
        *,
        penalty: str = "expectile",
        smoothing: float | None = None,
        stride: int | Sequence[int] = 1,
        rate: int | Sequence[int] = 1,
        padding: Padding = "geodesic",
        initial: npt.ArrayLike | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_penalty(penalty, smoothing)
        super().__init__(
            channels,
            kernel_size,
            stride=stride,
            rate=rate,
            padding=padding,
            initial=initial,
            device=device,
            dtype=dtype,
        )
        self.penalty = penalty
        self.smoothing = smoothing
        self.log_weight = nn.Parameter(torch.empty_like(self.bias))

    def reset_parameters(self) -> None:
        """Start with offsets 0 and weights 1."""
        super().reset_parameters()
        nn.init.zeros_(self.log_weight)

    @property
    def weight(self) -> ChannelFunctions:
        """The weights (channels, kh, kw), positive."""
        return self.log_weight.exp()

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "penalty": self.penalty, "smoothing": self.smoothing}


class _SingleLevel2d(VariationalLayer2d):
    def __init__(
        self,
        channels: int,
        kernel_size: int | Sequence[int] | None = None,
        *,
        initial_level: float | Sequence[float] = 2.0,
        penalty: str = "expectile",
        smoothing: float | None = None,
        stride: int | Sequence[int] = 1,
        rate: int | Sequence[int] = 1,
        padding: Padding = "geodesic",
        initial: npt.ArrayLike | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            channels, kernel_size, penalty=penalty, smoothing=smoothing, stride=stride, rate=rate, padding=padding,
            initial=initial, device=device, dtype=dtype,
        )  # fmt: skip
        self.initial_level = initial_levels(initial_level, self.channels)
        self.logit_level = nn.Parameter(self.bias.new_empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with offsets 0, weights 1 and the initial level in every channel."""
        super().reset_parameters()
        with torch.no_grad():
            self.logit_level.copy_(torch.as_tensor(self.initial_level))

    def forward(self, x: Images) -> Outputs:
        """Apply the operator to (N, channels, H, W)."""
        return type(self).operator(x, self.bias, self.logit_level, weight=self.weight, **self._options())


class VariationalDilation2d(_SingleLevel2d):
    """Variational dilation with learnable offsets, weights and level for each channel.

    Parameters
    ----------
    channels : int
        Number of channels C of the images (N, C, H, W).
    kernel_size : int or pair
        Size of the window; may be left out if `initial` is given.
    initial_level : float or (C,)
        First value of `logit_level`: 0 gives the mean over the window, large values the dilation, small ones the erosion by
        the transposed function of opposite sign. Channels of both kinds may stand in one layer.
    penalty, smoothing, stride, rate, padding
        As in `varmorph.torch.variational_dilation`.
    initial, device, dtype
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
        If an argument does not fit, or, in `forward`, as `varmorph.torch.variational_dilation` does.

    Examples
    --------
    >>> import torch
    >>> layer = VariationalDilation2d(4, 5, padding="reflect")
    >>> layer
    VariationalDilation2d(4, kernel_size=(5, 5), padding='reflect')
    >>> layer(torch.rand(2, 4, 8, 8)).shape
    torch.Size([2, 4, 8, 8])
    """

    operator = staticmethod(variational_window.variational_dilation)


class VariationalErosion2d(_SingleLevel2d):
    """Variational erosion: the reversed edges of `VariationalDilation2d`; arguments, attributes and errors as there.

    Examples
    --------
    >>> import torch
    >>> layer = VariationalErosion2d(1, (1, 3), initial_level=12.0)
    >>> layer(torch.tensor([[[[1.0, 2.0, 3.0]]]])).detach().round(decimals=3)
    tensor([[[[1., 1., 2.]]]])
    """

    operator = staticmethod(variational_window.variational_erosion)


class _TwoLevels2d(VariationalLayer2d):
    signs: ClassVar[tuple[int, int]]

    def __init__(
        self,
        channels: int,
        kernel_size: int | Sequence[int] | None = None,
        *,
        initial_level: float | Sequence[float] = 2.0,
        penalty: str = "expectile",
        smoothing: float | None = None,
        stride: int | Sequence[int] = 1,
        rate: int | Sequence[int] = 1,
        padding: Padding = "geodesic",
        initial: npt.ArrayLike | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            channels, kernel_size, penalty=penalty, smoothing=smoothing, stride=stride, rate=rate, padding=padding,
            initial=initial, device=device, dtype=dtype,
        )  # fmt: skip
        self.initial_level = initial_levels(initial_level, self.channels)
        self.logit_levels = nn.Parameter(self.bias.new_empty(2, channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with offsets 0, weights 1, and the initial level with the signs of the operator."""
        super().reset_parameters()
        with torch.no_grad():
            for row, sign in zip(self.logit_levels, self.signs, strict=True):
                row.copy_(sign * torch.as_tensor(self.initial_level))

    def forward(self, x: Images) -> Outputs:
        """Apply the operator to (N, channels, H, W)."""
        return type(self).operator(x, self.bias, self.logit_levels, weight=self.weight, **self._options())


class VariationalOpening2d(_TwoLevels2d):
    """Variational opening; `logit_levels` (2, channels) starts at (-initial_level, initial_level).

    Arguments, the other attributes and errors are those of `VariationalDilation2d`.

    Examples
    --------
    >>> import torch
    >>> layer = VariationalOpening2d(1, (1, 3), initial_level=14.0)
    >>> layer(torch.tensor([[[[0.0, 3.0, 0.0, 2.0, 2.0, 2.0]]]])).detach().round(decimals=3)
    tensor([[[[0., 0., 0., 2., 2., 2.]]]])
    """

    operator = staticmethod(variational_window.variational_opening)
    signs = (-1, 1)


class VariationalClosing2d(_TwoLevels2d):
    """Variational closing; `logit_levels` (2, channels) starts at (initial_level, -initial_level).

    Arguments, the other attributes and errors are those of `VariationalDilation2d`.

    Examples
    --------
    >>> import torch
    >>> layer = VariationalClosing2d(1, (1, 3), initial_level=14.0)
    >>> layer(torch.tensor([[[[2.0, 0.0, 2.0, 0.0, 0.0, 0.0]]]])).detach().round(decimals=3)
    tensor([[[[2., 2., 2., 0., 0., 0.]]]])
    """

    operator = staticmethod(variational_window.variational_closing)
    signs = (1, -1)
