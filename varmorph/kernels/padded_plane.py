"""The padded copy of one plane, and the adjoint of copying.

Loops over a plane run over *lanes*: the cells of the flat padded copy, row after row, so that short rows still fill the
vector unit. Their number is rounded up to a multiple of `LANES`, which spares the slow remainder of a vector loop; the
lanes beyond the last output, and those between two rows, compute numbers that nobody reads.
"""

from __future__ import annotations

from typing import Any

from varmorph.kernels.compilation import kernel, plus

__all__ = ["LANES", "add_back", "fill", "holds_nan", "lines_of", "read_lanes", "rounded", "write_lanes"]

LANES = 32


@kernel
def rounded(cells: int, lanes: int = LANES) -> int:
    """Round a number of cells up to a multiple of lanes."""
    return (cells + lanes - 1) // lanes * lanes


@kernel
def lines_of(height: int, width: int, pitch: int) -> tuple[int, int]:
    """Give into how many lines of which length the lanes of an output fall: one a row, or one line if little lies between rows.

    The length is a multiple of `LANES`, so that the last line may reach beyond the last output.
    """
    if height == 1 or pitch <= rounded(width):
        return 1, rounded((height - 1) * pitch + width)
    return height, rounded(width)


@kernel
def straight_run(columns: Any) -> tuple[int, int]:
    """Find the cells [first, last) at which the map of the columns is simply increasing: a copy of a row's middle."""
    first = 0
    while first < columns.size and columns[first] != 0:
        first += 1
    last = first
    while last < columns.size and columns[last] == last - first:
        last += 1
    return first, last


@kernel
def fill(copy: Any, plane: Any, rows: Any, columns: Any, sign: Any, outside: Any) -> None:
    """Write sign * plane into the flat padded copy, `outside` where the index maps leave the image."""
    width = columns.size
    first, last = straight_run(columns)
    for r in range(rows.size):
        line = copy[r * width : (r + 1) * width]
        if rows[r] < 0:
            line[:] = outside
        else:
            source = plane[rows[r]]
            for c in range(first):
                line[c] = sign * source[columns[c]] if columns[c] >= 0 else outside
            middle = line[first:last]
            for c in range(last - first):
                middle[c] = sign * source[c]
            for c in range(last, width):
                line[c] = sign * source[columns[c]] if columns[c] >= 0 else outside
    copy[rows.size * width :] = outside


@kernel
def holds_nan(plane: Any) -> bool:
    """Tell whether a pixel of a contiguous plane is NaN."""
    pixels, kind = plane.reshape(plane.size), plane.dtype.type
    found = kind(0)
    for i in range(pixels.size):
        found = plus(found, kind(pixels[i] != pixels[i]))
    return found > 0


@kernel
def _reads_once(pixels: Any, length: int) -> bool:
    """Tell whether an axis of the copy holds each pixel of the image exactly once, in order."""
    first, last = straight_run(pixels)
    return last - first == length and (pixels >= 0).sum() == length


@kernel
def add_back(plane: Any, copy: Any, rows: Any, columns: Any) -> None:
    """Write into a plane, for each pixel, the sum of the cells of the flat padded copy that were read from it."""
    width = columns.size
    first, last = straight_run(columns)
    once = _reads_once(rows, plane.shape[0]) and _reads_once(columns, plane.shape[1])
    if not once:
        plane[:] = 0
    for r in range(rows.size):
        if rows[r] < 0:
            continue
        target = plane[rows[r]]
        line = copy[r * width : (r + 1) * width]
        middle = line[first:last]
        if once:
            for c in range(target.size):
                target[c] = middle[c]
            continue
        for c in range(last - first):
            target[c] += middle[c]
        for c in range(first):
            if columns[c] >= 0:
                target[columns[c]] += line[c]
        for c in range(last, width):
            if columns[c] >= 0:
                target[columns[c]] += line[c]


@kernel
def read_lanes(plane: Any, lanes: Any, pitch: int, sign: Any) -> None:
    """Write sign * lanes, rows of length `pitch`, into a plane; adding 0 turns -0 into 0."""
    zero = lanes.dtype.type(0)
    for i in range(plane.shape[0]):
        row = plane[i]
        line = lanes[i * pitch : i * pitch + row.size]
        for j in range(row.size):
            row[j] = sign * line[j] + zero


@kernel
def write_lanes(lanes: Any, plane: Any, pitch: int) -> None:
    """Write a plane into lanes whose rows have length `pitch`."""
    for i in range(plane.shape[0]):
        row = plane[i]
        line = lanes[i * pitch : i * pitch + row.size]
        for j in range(row.size):
            line[j] = row[j]
