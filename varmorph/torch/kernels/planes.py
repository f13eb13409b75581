"""The padded copy of one plane, and the adjoint of copying."""

from __future__ import annotations

from typing import Any

from varmorph.torch.kernels.compilation import kernel

__all__ = ["add_back", "fill"]


@kernel
def fill(copy: Any, plane: Any, rows: Any, columns: Any, sign: Any, outside: Any) -> None:
    """Write sign * plane into the flat padded copy, `outside` where the index maps leave the image."""
    width = columns.size
    for r in range(rows.size):
        line = copy[r * width : (r + 1) * width]
        if rows[r] < 0:
            line[:] = outside
        else:
            source = plane[rows[r]]
            for c in range(width):
                line[c] = sign * source[columns[c]] if columns[c] >= 0 else outside


@kernel
def add_back(plane: Any, copy: Any, rows: Any, columns: Any) -> None:
    """Add each cell of the flat padded copy to the pixel it was read from."""
    width = columns.size
    for r in range(rows.size):
        if rows[r] >= 0:
            target = plane[rows[r]]
            line = copy[r * width : (r + 1) * width]
            for c in range(width):
                if columns[c] >= 0:
                    target[columns[c]] += line[c]
