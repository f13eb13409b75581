"""The window layers of MorphoLayers: images (N, C, H, W), structuring functions (F, C, kh, kw).

Every layer takes ``functions``, which makes its structuring functions: free ones by default, ``partial(StructuringFunctions,
initialiser=..., constraint=...)``, or another class of `structuring`. Merging channels by a maximum or minimum shares the gradient
equally among equal channels, as TensorFlow's reductions do; inside a window the first of equal elements takes all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn

from varmorph.arguments import pair

from .operators import Size, closing, depthwise, dilation, erosion, opening
from .structuring import LineFunctions, QuadraticFunctions, StructuringFunctions

__all__ = [
    "Closing2D",
    "DepthwiseDilation2D",
    "DepthwiseErosion2D",
    "Dilation2D",
    "DilationLines2D",
    "Erosion2D",
    "ExternalGradient2D",
    "Gradient2D",
    "InternalGradient2D",
    "MaxofErosions2D",
    "MinofDilations2D",
    "MorphoAverage2D",
    "Opening2D",
    "Probing2D",
    "QuadraticAverage2D",
    "QuadraticDilation2D",
    "QuadraticErosion2D",
    "TopHatClosing2D",
    "TopHatOpening2D",
    "WindowLayer",
]

MakeFunctions = Callable[..., nn.Module]


class WindowLayer(nn.Module):
    """One set of structuring functions, and how their windows move.

    Parameters
    ----------
    channels, filters : int
        C of the image, and F.
    kernel_size : int or pair
        Size of the window.
    stride, rate, padding
        As in `operators.margins`.
    functions : callable
        ``functions(filters, channels, window)`` returns a module that returns (F, C, kh, kw).
    """

    operator: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        channels: int,
        filters: int,
        kernel_size: Size,
        *,
        stride: Size = 1,
        rate: Size = 1,
        padding: str = "same",
        functions: MakeFunctions = StructuringFunctions,
    ):
        super().__init__()
        self.channels, self.filters = channels, filters
        self.options: dict[str, Any] = {"stride": stride, "rate": rate, "padding": padding}
        self.functions = functions(filters, channels, pair("kernel_size", kernel_size))

    def each(self, operator: Callable[..., Tensor], x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, F * C, H', W') by every structuring function."""
        return depthwise(operator, x, self.functions(), **self.options)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, F * C, H', W')."""
        return self.each(type(self).operator, x)

    def extra_repr(self) -> str:
        """Show what makes the layer."""
        return f"{self.channels}, filters={self.filters}, " + ", ".join(f"{k}={v!r}" for k, v in self.options.items())


class _Merged(WindowLayer):
    """Sums over the channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, F, H', W')."""
        return self.each(type(self).operator, x).unflatten(1, (self.filters, self.channels)).sum(2)


class Dilation2D(_Merged):
    """Sum over the channels of their dilations: (N, F, H', W')."""

    operator = staticmethod(dilation)


class Erosion2D(_Merged):
    """Sum over the channels of their erosions: (N, F, H', W')."""

    operator = staticmethod(erosion)


class MinofDilations2D(WindowLayer):
    """Least of the dilations of every channel by every structuring function: (N, 1, H', W')."""

    operator = staticmethod(dilation)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, 1, H', W')."""
        return self.each(dilation, x).amin(1, keepdim=True)


class MaxofErosions2D(WindowLayer):
    """Greatest of the erosions of every channel by every structuring function: (N, 1, H', W')."""

    operator = staticmethod(erosion)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, 1, H', W')."""
        return self.each(erosion, x).amax(1, keepdim=True)


class _Depthwise(WindowLayer):
    """F structuring functions on each channel, or with ``shared`` the same F on all: (N, F * C, H', W').

    Arguments are those of the other layers, ``filters`` being 1 unless given.
    """

    def __init__(self, channels: int, filters: int = 1, kernel_size: Size = 3, *, shared: bool = False, **options: Any):
        super().__init__(1 if shared else channels, filters, kernel_size, **options)
        self.channels = channels

    def each(self, operator: Callable[..., Tensor], x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, F * C, H', W')."""
        kernel = self.functions().expand(-1, self.channels, -1, -1)
        return depthwise(operator, x, kernel, **self.options)


class DepthwiseDilation2D(_Depthwise):
    """Dilations of each channel: (N, F * C, H', W'), channel f * C + c from function f and channel c."""

    operator = staticmethod(dilation)


class DepthwiseErosion2D(_Depthwise):
    """Erosions of each channel, as `DepthwiseDilation2D`."""

    operator = staticmethod(erosion)


class Opening2D(WindowLayer):
    """Openings of each channel, (N, F * C, H', W'); erosion and dilation by one structuring function, stride on the dilation."""

    operator = staticmethod(opening)


class Closing2D(WindowLayer):
    """Closings of each channel, (N, F * C, H', W'); dilation and erosion by one structuring function, stride on the erosion."""

    operator = staticmethod(closing)


class Gradient2D(WindowLayer):
    """Dilation minus erosion of each channel, (N, F * C, H', W')."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, F * C, H', W')."""
        return self.each(dilation, x) - self.each(erosion, x)


class MorphoAverage2D(WindowLayer):
    """Mean of dilation and erosion of each channel, (N, F * C, H', W')."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, F * C, H', W')."""
        return (self.each(dilation, x) + self.each(erosion, x)) / 2


class Probing2D(WindowLayer):
    """Dilation by one structuring function minus erosion by another, of each channel, (N, F * C, H', W')."""

    def __init__(
        self,
        channels: int,
        filters: int,
        kernel_size: Size,
        *,
        functions: MakeFunctions = StructuringFunctions,
        **options: Any,
    ):
        super().__init__(channels, filters, kernel_size, functions=functions, **options)
        self.below = functions(filters, channels, pair("kernel_size", kernel_size))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, F * C, H', W')."""
        return self.each(dilation, x) - depthwise(erosion, x, self.below(), **self.options)


class _Residue(WindowLayer):
    """What an operator changes; there is no stride and no padding "valid", for the image to have the operator's pixels."""

    def __init__(
        self,
        channels: int,
        filters: int,
        kernel_size: Size,
        *,
        rate: Size = 1,
        functions: MakeFunctions = StructuringFunctions,
    ):
        super().__init__(channels, filters, kernel_size, rate=rate, functions=functions)

    def change(self, x: Tensor) -> Tensor:
        """Return the result minus the image, (N, F * C, H, W)."""
        return self.each(type(self).operator, x) - x.repeat(1, self.filters, 1, 1)


class TopHatOpening2D(_Residue):
    """Each channel minus its openings, (N, F * C, H, W)."""

    operator = staticmethod(opening)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, F * C, H, W)."""
        return -self.change(x)


class TopHatClosing2D(_Residue):
    """Closings minus their channel, (N, F * C, H, W)."""

    operator = staticmethod(closing)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, F * C, H, W)."""
        return self.change(x)


class InternalGradient2D(_Residue):
    """Each channel minus its erosions, (N, F * C, H, W)."""

    operator = staticmethod(erosion)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, F * C, H, W)."""
        return -self.change(x)


class ExternalGradient2D(_Residue):
    """Dilations minus their channel, (N, F * C, H, W)."""

    operator = staticmethod(dilation)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, F * C, H, W)."""
        return self.change(x)


QuadraticDilation2D = partial(DepthwiseDilation2D, functions=QuadraticFunctions)
QuadraticErosion2D = partial(DepthwiseErosion2D, functions=QuadraticFunctions)
QuadraticAverage2D = partial(MorphoAverage2D, functions=partial(QuadraticFunctions, scale=1.0, low=1.0, high=1.0))


class DilationLines2D(WindowLayer):
    """Dilations of each channel along all line segments through the centre, (N, 2 (size - 1) * C, H', W')."""

    operator = staticmethod(dilation)

    def __init__(self, channels: int, size: int, **options: Any):
        super().__init__(channels, 2 * (size - 1), size, functions=LineFunctions, **options)
