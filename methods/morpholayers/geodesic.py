"""Geodesic operators as fixed points: a step by the flat 3x3 window is repeated until nothing changes, and differentiated as it ran.

Images are (N, C, H, W). The values equal those of `varmorph.torch.reconstruction` and `leveling`. So do the gradients where no values are
equal; of equal values the first named takes the gradient, as in TensorFlow: in ``min(dilation(marker), mask)`` the dilation,
where the library gives it to the mask. S. Velasco-Forero, A. Rhim and J. Angulo (2022), Fixed point layers for geodesic morphological
operations, BMVC.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from varmorph.torch import dilation, erosion

__all__ = [
    "extended_maxima",
    "extended_minima",
    "h_concave",
    "h_convex",
    "h_maxima",
    "h_minima",
    "leveling",
    "reconstruction_by_dilation",
    "reconstruction_by_erosion",
    "regional_maxima",
    "regional_minima",
]

GREY_LEVEL = 1 / 255  # the least difference of two values of an 8-bit image in [0, 1]


def reconstruction_by_dilation(marker: Tensor, mask: Tensor, steps: int | None = None) -> Tensor:
    """Dilate the marker below the mask until nothing changes, or for a number of further steps after the first."""
    return _repeat(lambda m: _least(_dilated(m), mask), marker, steps)


def reconstruction_by_erosion(marker: Tensor, mask: Tensor, steps: int | None = None) -> Tensor:
    """Erode the marker above the mask until nothing changes, or for a number of further steps after the first."""
    return _repeat(lambda m: _greatest(_eroded(m), mask), marker, steps)


def leveling(marker: Tensor, image: Tensor, steps: int | None = None) -> Tensor:
    """Repeat m <- max(erosion(m), min(dilation(m), image)) from m = marker until nothing changes."""
    return _repeat(lambda m: _greatest(_eroded(m), _least(_dilated(m), image)), marker, steps)


def _repeat(step: Callable[[Tensor], Tensor], value: Tensor, steps: int | None) -> Tensor:
    # NaN equals nothing: no path of neighbours is longer than the image, so that more steps could not change anything.
    longest = value.shape[-2] * value.shape[-1] if steps is None else steps + 1
    for _ in range(longest):
        last, value = value, step(value)
        if torch.equal(last, value):
            break
    return value


def _dilated(x: Tensor) -> Tensor:
    return dilation(x, x.new_zeros(3, 3))


def _eroded(x: Tensor) -> Tensor:
    return erosion(x, x.new_zeros(3, 3))


def _least(first: Tensor, second: Tensor) -> Tensor:
    return torch.where(first <= second, first, second)


def _greatest(first: Tensor, second: Tensor) -> Tensor:
    return torch.where(first >= second, first, second)


def h_maxima(x: Tensor, h: Tensor | float) -> Tensor:
    """Lower every maximum by h (a number, or a tensor that broadcasts): the reconstruction of x from x - h."""
    return reconstruction_by_dilation(x - h, x)


def h_minima(x: Tensor, h: Tensor | float) -> Tensor:
    """Raise every minimum by h: the reconstruction by erosion of x from x + h."""
    return reconstruction_by_erosion(x + h, x)


def h_convex(x: Tensor, h: Tensor | float) -> Tensor:
    """Return what `h_maxima` takes away."""
    return x - h_maxima(x, h)


def h_concave(x: Tensor, h: Tensor | float) -> Tensor:
    """Return what `h_minima` adds."""
    return h_minima(x, h) - x


def regional_maxima(x: Tensor) -> Tensor:
    """Return an image in [0, 1/255], positive on the regional maxima; on them alone, up to rounding, if values are multiples of 1/255."""
    return h_convex(x, GREY_LEVEL)


def regional_minima(x: Tensor) -> Tensor:
    """Return an image in [0, 1/255], positive on the regional minima; on them alone, up to rounding, if values are multiples of 1/255."""
    return h_concave(x, GREY_LEVEL)


def extended_maxima(x: Tensor, h: Tensor | float) -> Tensor:
    """Return the `regional_maxima` of the `h_maxima`."""
    return regional_maxima(h_maxima(x, h))


def extended_minima(x: Tensor, h: Tensor | float) -> Tensor:
    """Return the `regional_minima` of the `h_minima`."""
    return regional_minima(h_minima(x, h))
