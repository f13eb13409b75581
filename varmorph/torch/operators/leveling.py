"""Levelings, differentiated by provenance.

Every value of a leveling is a copy of one pixel of the marker or of the reference. While it is computed, each pixel carries
along which one. Parents, as a reconstruction records them, would not do: a neighbour may move on after it was copied.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from varmorph.arguments import check_connectivity
from varmorph.torch.arguments import check_image_pair
from varmorph.torch.backend.choice import compute_dtype, refuse_to_be_written_down
from varmorph.torch.backend.ops.calls import NO_FORWARD_MODE, one_after_the_other
from varmorph.torch.separable.neighbours import edge_values, flat_neighbourhood, flat_shifts, inside_image, per_edge
from varmorph.torch.shapes import Images
from varmorph.windows import Geometry, window

__all__ = ["leveling"]


def leveling(marker: Images, reference: Images, *, connectivity: int = 8) -> Images:
    """Level a reference by a marker: repeat m <- max(erosion(m), min(dilation(m), reference)) from m = marker to the end.

    A pixel rises where the marker lies below the reference and falls where it lies above, to values of its neighbours,
    until it reaches its reference value or nothing moves. No edge of the result is new: where a pixel is higher than its
    neighbour, its reference is at least as high as it, and its neighbour's at most as high as that.

    Parameters
    ----------
    marker, reference : (N, C, H, W)
        Images of one shape; computed in float32 unless one is float64.
    connectivity : {4, 8}
        Neighbours of a pixel. The window is cut at the border.

    Returns
    -------
    (N, C, H, W)
        Of the dtype of `reference`. A pixel that is NaN in marker or reference is NaN; no neighbour copies it.

    Raises
    ------
    TypeError
        If an image is not a floating point tensor.
    ValueError
        If the shapes differ, or connectivity is neither 4 nor 8.

    Notes
    -----
    All pixels are updated at once, and a value that was reached is kept until the next strict change. So the gradient of a
    pixel goes to the one pixel of marker or reference that its value is a copy of: to the first neighbour in row-major
    order among equal ones, and to the reference once the pixel has reached it (from the start where both are equal).
    F. Meyer (1998), The levelings, in Mathematical Morphology and its Applications to Image and Signal
    Processing (ISMM), 199-206.

    Examples
    --------
    >>> import torch
    >>> reference = torch.tensor([[[[0.0, 4.0, 4.0, 1.0, 5.0, 0.0]]]])
    >>> marker = torch.tensor([[[[2.0, 2.0, 3.0, 3.0, 2.0, 2.0]]]])
    >>> leveling(marker, reference)
    tensor([[[[2., 3., 3., 2., 3., 2.]]]])
    """
    marker, reference = check_image_pair(marker, reference, ("marker", "reference"))
    dtype = compute_dtype(marker, reference)
    neighbours = flat_neighbourhood(check_connectivity(connectivity), dtype, reference.device)
    refuse_to_be_written_down("leveling")
    value, _ = _Leveling.apply(marker.to(dtype), reference.to(dtype), neighbours)
    return value.to(reference.dtype)


def _level(marker: Tensor, reference: Tensor, neighbours: Tensor) -> tuple[Tensor, Tensor]:
    """Return the result, and for each pixel the flat index of its root: a marker pixel, or behind them a reference pixel."""
    height, width = marker.shape[-2:]
    seen = window(Geometry((height, width), (3, 3)))
    present = inside_image(seen, marker.device) & ~torch.isneginf(per_edge(neighbours.view(1, 9), seen))
    shifts = flat_shifts((3, 3), width, marker.device)
    pixel = torch.arange(marker.numel(), device=marker.device).view(marker.shape)
    own_reference = pixel + marker.numel()
    # Turned upside down where it starts above the reference, every pixel rises: one rule for both directions.
    sign = torch.where(marker > reference, -1.0, 1.0).to(marker.dtype)
    goal = sign * reference
    value = marker.masked_fill(reference.isnan(), torch.nan)
    root = torch.where((marker == reference) | reference.isnan(), own_reference, pixel)
    while True:
        around = sign * edge_values(value, seen, 0.0)
        best, through = around.where(present & ~around.isnan(), -torch.inf).max(0)
        reached = best >= goal
        rises = torch.minimum(best, goal) > sign * value
        if not rises.any():
            return value, root
        copied = root.flatten()[torch.where(rises, pixel + shifts[through], pixel)]
        root = torch.where(rises & reached, own_reference, copied)
        value = torch.where(rises, sign * torch.minimum(best, goal), value)


class _Leveling(torch.autograd.Function):
    @staticmethod
    def forward(marker: Tensor, reference: Tensor, neighbours: Tensor) -> tuple[Tensor, Tensor]:
        if marker.numel() == 0 or marker.device.type == "meta":
            return marker.clone(), torch.zeros_like(marker, dtype=torch.long)
        return _level(marker, reference, neighbours)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, Tensor, None]:
        (root,), cotangent = ctx.saved_tensors, cotangents[0]
        both = cotangent.new_zeros(2 * cotangent.numel()).index_add(0, root.flatten(), cotangent.flatten())
        by_marker, by_reference = both.view(2, *cotangent.shape)
        return by_marker, by_reference, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> None:
        raise RuntimeError(NO_FORWARD_MODE)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        return one_after_the_other(_Leveling.apply)(info, in_dims, *arguments)
