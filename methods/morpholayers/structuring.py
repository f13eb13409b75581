"""Where the structuring functions of a layer come from: free ones, quadratic ones, and line segments."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .initialisers import squared_distance

__all__ = ["LineFunctions", "QuadraticFunctions", "StructuringFunctions", "lines", "projected_"]


class StructuringFunctions(nn.Module):
    """Structuring functions that are learned element by element.

    Parameters
    ----------
    filters, channels : int
        F and C.
    window : pair of int
        kh and kw.
    initialiser : callable
        Writes the first values, see `initialisers`; by default the flat rectangle.
    constraint : callable, optional
        Projection, see `constraints`. It is applied to the parameter itself before each use; its gradient is that of the
        unprojected parameter, as for the constraints of Keras.

    Attributes
    ----------
    kernel : Parameter
        (F, C, kh, kw).
    """

    def __init__(
        self,
        filters: int,
        channels: int,
        window: Sequence[int],
        *,
        initialiser: Callable[[Tensor], object] = nn.init.zeros_,
        constraint: Callable[[Tensor], Tensor] | None = None,
    ):
        super().__init__()
        self.kernel = nn.Parameter(torch.empty(filters, channels, *window))
        self.constraint = constraint
        initialiser(self.kernel)

    def forward(self) -> Tensor:
        """Return the structuring functions, (F, C, kh, kw)."""
        return self.kernel if self.constraint is None else projected_(self.kernel, self.constraint)


@torch.no_grad()
def projected_(parameter: Tensor, constraint: Callable[[Tensor], Tensor]) -> Tensor:
    """Bring a parameter into a constraint and return it."""
    nearest = constraint(parameter)
    if not torch.equal(nearest, parameter):  # what a backward pass still needs is left untouched
        parameter.copy_(nearest)
    return parameter


class QuadraticFunctions(nn.Module):
    """Paraboloids -weight (distance to the centre / (2 scale))^2 whose weight is learned.

    Parameters
    ----------
    filters, channels, window
        As in `StructuringFunctions`.
    scale : float
        Positive.
    low, high : float
        The first weights are drawn from U(low, high).

    Attributes
    ----------
    weight : Parameter
        (F, C).
    """

    def __init__(
        self,
        filters: int,
        channels: int,
        window: Sequence[int],
        *,
        scale: float = 4.0,
        low: float = 0.1,
        high: float = 1.0,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(filters, channels).uniform_(low, high))
        self.register_buffer("paraboloid", -squared_distance(window) / (2 * scale) ** 2, persistent=False)

    def forward(self) -> Tensor:
        """Return the structuring functions, (F, C, kh, kw)."""
        return self.weight[..., None, None] * self.paraboloid


class LineFunctions(nn.Module):
    """Structuring functions on the `lines` of a square window of odd size, one for each; what lies beside a line is left out.

    Parameters
    ----------
    filters, channels, window
        As in `StructuringFunctions`; filters must be 2 (kh - 1), the number of lines.

    Attributes
    ----------
    kernel : Parameter
        (F, C, kh, kw), zeros at first; only the elements on the line of each filter are used.

    Raises
    ------
    ValueError
        If the window is not square or its size is even, or the number of filters is not that of the lines.
    """

    def __init__(self, filters: int, channels: int, window: Sequence[int]):
        super().__init__()
        on_line = lines(window)
        if filters != len(on_line):
            raise ValueError(
                f"filters must be {len(on_line)}, the number of lines of a window {tuple(window)}, found {filters}"
            )
        self.kernel = nn.Parameter(torch.zeros(filters, channels, *window))
        self.register_buffer("beside", ~on_line[:, None], persistent=False)

    def forward(self) -> Tensor:
        """Return the structuring functions, (F, C, kh, kw), -inf beside the lines."""
        return self.kernel.masked_fill(self.beside, -torch.inf)


def lines(window: Sequence[int]) -> Tensor:
    """Return the digital line segments through the centre of a square window, bool (2 (size - 1), size, size).

    Each leads from a border element to the opposite one, and is symmetric to the centre. P. Soille (2003), Morphological Image
    Analysis, 2nd edition, chapter 3.
    """
    height, width = window
    if height != width or height % 2 == 0:
        raise ValueError(f"lines need a square window of odd size, found {tuple(window)}")
    reach = height // 2
    steps = torch.arange(-reach, reach + 1)
    down_the_left = [(row, -reach) for row in range(-reach, reach + 1)]
    along_the_top = [(-reach, column) for column in range(-reach + 1, reach)]
    endpoints = down_the_left + along_the_top
    found = torch.zeros(len(endpoints), height, width, dtype=torch.bool)
    for line, (row, column) in zip(found, endpoints, strict=True):
        line[
            (steps * row / max(reach, 1)).round().long() + reach,
            (steps * column / max(reach, 1)).round().long() + reach,
        ] = True
    return found
