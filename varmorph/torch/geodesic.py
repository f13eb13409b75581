"""Geodesic reconstruction and the operators built on it, differentiated by provenance.

Every value of a reconstruction is a copy of one pixel of the marker or of the mask, plus offsets along a path. While it is
computed, each pixel records the neighbour that raised it last. The records form a forest; the backward pass sums the
gradient from its leaves to its roots. No iterations are stored.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from varmorph.torch.arguments import check_bias, check_image
from varmorph.torch.functional import dilation, erosion
from varmorph.torch.neighbours import edge_values, per_edge
from varmorph.torch.windows import Window, window

__all__ = [
    "closing_by_reconstruction",
    "extended_maxima",
    "fill_holes",
    "h_convex",
    "h_maxima",
    "h_minima",
    "opening_by_reconstruction",
    "reconstruction",
    "regional_maxima",
]

Direction = Literal["dilation", "erosion"]
ROOT = -1


def reconstruction(
    marker: Tensor, mask: Tensor, bias: Tensor | None = None, *, by: Direction = "dilation", connectivity: int = 8
) -> Tensor:
    """Reconstruct a mask from a marker: repeat u_i <- min(mask_i, max_k(u_{i+k} + bias_k)) from u = min(marker, mask).

    Parameters
    ----------
    marker, mask : (N, C, H, W)
        Images of one shape. Where the marker lies above the mask it is clipped to it (below, by erosion).
    bias : (C, kh, kw) or (kh, kw), optional
        Offsets <= 0, 0 at the origin, which is (kh // 2, kw // 2); -inf leaves a neighbour out. Default: zeros on the
        neighbours of `connectivity`.
    by : {"dilation", "erosion"}
        By erosion the signs of all images change, and the result lies above the mask.
    connectivity : {4, 8}
        Neighbours of a pixel, if no bias is given.

    Returns
    -------
    (N, C, H, W)

    Raises
    ------
    TypeError
        If an image is not a floating point tensor.
    ValueError
        If shapes differ, or bias is positive somewhere or not 0 at its origin.

    Notes
    -----
    The gradient of a pixel goes to the one pixel of marker or mask that its value is a copy of (to the mask where both are
    equal), and to the bias as often as the path from there uses it. The first neighbour in row-major order that attains the
    maximum is taken. L. Vincent (1993), Morphological grayscale reconstruction in image analysis, IEEE Transactions on
    Image Processing 2(2), 176-201.

    Examples
    --------
    >>> import torch
    >>> mask = torch.tensor([[[[1.0, 3.0, 1.0, 2.0, 1.0]]]])
    >>> reconstruction(mask - 1, mask)
    tensor([[[[1., 2., 1., 1., 1.]]]])
    """
    marker, mask = check_image(marker, "marker"), check_image(mask, "mask")
    if marker.shape != mask.shape:
        raise ValueError(f"marker and mask must have one shape, found {tuple(marker.shape)} and {tuple(mask.shape)}")
    if by not in ("dilation", "erosion"):
        raise ValueError(f"by must be 'dilation' or 'erosion', found {by!r}")
    offsets = _neighbourhood(connectivity, mask) if bias is None else bias
    offsets = _check_offsets(check_bias(offsets, mask.shape[1]))
    dtype = torch.float64 if torch.float64 in (marker.dtype, mask.dtype) else torch.float32
    sign = 1 if by == "dilation" else -1
    images = sign * marker.to(dtype), sign * mask.to(dtype)
    return (sign * _Reconstruction.apply(*images, offsets.to(dtype))).to(mask.dtype)


def _neighbourhood(connectivity: int, like: Tensor) -> Tensor:
    if connectivity not in (4, 8):
        raise ValueError(f"connectivity must be 4 or 8, found {connectivity!r}")
    flat = torch.zeros(3, 3, dtype=like.dtype, device=like.device)
    if connectivity == 4:
        flat[::2, ::2] = -torch.inf
    return flat


def _check_offsets(bias: Tensor) -> Tensor:
    height, width = bias.shape[-2:]
    if bool((bias > 0).any()) or bool((bias[:, height // 2, width // 2] != 0).any()):
        raise ValueError("bias of a reconstruction must be <= 0, and 0 at its origin (kh // 2, kw // 2)")
    return bias


class _Grown(NamedTuple):
    """The result, and for each pixel the slot of the window it was last raised through (ROOT: none) and its root's image."""

    value: Tensor
    slot: Tensor
    of_mask: Tensor


def _grow(marker: Tensor, mask: Tensor, bias: Tensor, seen: Window) -> _Grown:
    offset = per_edge(bias.flatten(1), seen)
    absent = torch.isneginf(offset)
    value, of_mask = torch.minimum(marker, mask), mask <= marker
    slot = torch.full(value.shape, ROOT, device=value.device)
    while True:
        around = edge_values(value, seen, -torch.inf) + offset.masked_fill(absent, 0.0)
        best, through = around.masked_fill(absent | around.isnan(), -torch.inf).max(0)
        raised = torch.minimum(best, mask)
        rises = raised > value  # strictly: a pixel of a plateau keeps its parent, so that there is no cycle
        if not rises.any():
            return _Grown(value, slot, of_mask)
        # A pixel that reaches the mask is a copy of it for good, even if its neighbours rise further.
        clipped = best >= mask
        value = torch.where(rises, raised, value)
        of_mask = torch.where(rises, clipped, of_mask)
        slot = torch.where(rises, through.masked_fill(clipped, ROOT), slot)


class _Reconstruction(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, marker: Tensor, mask: Tensor, bias: Tensor) -> Tensor:
        ctx.empty, ctx.bias_shape = mask.numel() == 0, bias.shape
        if ctx.empty:
            return torch.minimum(marker, mask)
        size = (bias.shape[-2], bias.shape[-1])
        ctx.window = window((mask.shape[-2], mask.shape[-1]), size, (1, 1), (1, 1), "geodesic", False)
        grown = _grow(marker, mask, bias, ctx.window)
        ctx.save_for_backward(grown.slot, grown.of_mask)
        return grown.value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (cotangent,) = cotangents
        if ctx.empty:
            return cotangent, cotangent, cotangent.new_zeros(ctx.bias_shape)
        slot, of_mask = ctx.saved_tensors
        is_root = slot == ROOT
        total = _sum_to_the_roots(cotangent, _parents(slot, ctx.window), is_root)
        elements = torch.as_tensor(ctx.window.elements, device=slot.device)[slot.clamp(min=0)]
        channels, size = slot.shape[1], ctx.bias_shape[-2] * ctx.bias_shape[-1]
        place = elements + size * torch.arange(channels, device=slot.device)[:, None, None]
        by_bias = total.new_zeros(channels * size).index_add(0, place[~is_root], total[~is_root])
        by_root = total.masked_fill(~is_root, 0.0)
        return by_root.masked_fill(of_mask, 0.0), by_root.masked_fill(~of_mask, 0.0), by_bias.view(ctx.bias_shape)


def _parents(slot: Tensor, seen: Window) -> Tensor:
    """Flat index, over all planes, of the pixel that raised each pixel; a root is its own parent."""
    (height, width), device = slot.shape[-2:], slot.device
    rows, columns = (torch.as_tensor(axis.source, device=device) for axis in (seen.rows, seen.columns))
    sources = (rows[:, None, :, None] * width + columns[None, :, None, :]).flatten(0, 1)  # the pixel at each slot
    i, j = torch.arange(height, device=device)[:, None], torch.arange(width, device=device)
    own = torch.arange(slot.numel(), device=device).view(slot.shape)
    return torch.where(slot == ROOT, own, own - (i * width + j) + sources[slot.clamp(min=0), i, j])


def _sum_to_the_roots(cotangent: Tensor, parent: Tensor, is_root: Tensor) -> Tensor:
    """Sum over the descendants of each pixel, itself included."""
    parents, depth = parent.flatten(), (~is_root).long().flatten()
    jump = parents
    while bool((depth[jump] > 0).any()):  # doubling: after k rounds a pixel knows its first 2^k ancestors
        depth, jump = depth + depth[jump], jump[jump]
    order, total = depth.argsort(descending=True), cotangent.flatten().clone()
    for level in order.split(torch.bincount(depth).flip(0).tolist())[:-1]:
        total.index_add_(0, parents[level], total[level])
    return total.view(cotangent.shape)


def h_maxima(x: Tensor, h: Tensor | float, *, connectivity: int = 8) -> Tensor:
    """Lower every maximum by h, or to the height at which it joins a higher one: the reconstruction of x from x - h.

    It is an image, not the binary map that scikit-image gives the name.

    Examples
    --------
    >>> import torch
    >>> h_maxima(torch.tensor([[[[0.0, 5.0, 0.0, 1.0, 0.0]]]]), 2.0)
    tensor([[[[0., 3., 0., 0., 0.]]]])
    """
    return reconstruction(x - h, x, connectivity=connectivity)


def h_minima(x: Tensor, h: Tensor | float, *, connectivity: int = 8) -> Tensor:
    """Raise every minimum by h, or to the height at which it joins a lower one; the dual of `h_maxima`."""
    return reconstruction(x + h, x, by="erosion", connectivity=connectivity)


def h_convex(x: Tensor, h: Tensor | float, *, connectivity: int = 8) -> Tensor:
    """What `h_maxima` takes away: the domes of height at most h."""
    return x - h_maxima(x, h, connectivity=connectivity)


def regional_maxima(x: Tensor, *, connectivity: int = 8) -> Tensor:
    """Tell which pixels belong to a plateau whose neighbours all are lower: bool, no gradient.

    A constant image is one such plateau.

    Examples
    --------
    >>> import torch
    >>> regional_maxima(torch.tensor([[[[0.0, 2.0, 2.0, 1.0, 3.0]]]]))
    tensor([[[[False,  True,  True, False,  True]]]])
    """
    x = check_image(x).detach()
    x = x if x.dtype == torch.float64 else x.float()
    # From the next lower number every pixel is reached again that has a higher neighbour, or is connected to one that has.
    return reconstruction(x.nextafter(torch.full_like(x, -torch.inf)), x, connectivity=connectivity) < x


def extended_maxima(x: Tensor, h: Tensor | float, *, connectivity: int = 8) -> Tensor:
    """Tell which pixels belong to the regional maxima of `h_maxima`: bool, no gradient."""
    return regional_maxima(h_maxima(x, h, connectivity=connectivity), connectivity=connectivity)


def opening_by_reconstruction(x: Tensor, bias: Tensor, *, connectivity: int = 8) -> Tensor:
    """Reconstruct x from its erosion: what the erosion leaves keeps its shape; the rest goes. `bias` as in `erosion`."""
    return reconstruction(erosion(x, bias), x, connectivity=connectivity)


def closing_by_reconstruction(x: Tensor, bias: Tensor, *, connectivity: int = 8) -> Tensor:
    """Reconstruct x by erosion from its dilation; the dual of `opening_by_reconstruction`."""
    return reconstruction(dilation(x, bias), x, by="erosion", connectivity=connectivity)


def fill_holes(x: Tensor, *, connectivity: int = 8) -> Tensor:
    """Fill the minima that do not touch the border of the image.

    `connectivity` is that of the holes' surroundings: what is dark and connected to the border stays.

    Examples
    --------
    >>> import torch
    >>> ring = torch.ones(1, 1, 5, 5)
    >>> ring[..., 2, 2] = 0
    >>> fill_holes(ring).min().item()
    1.0
    """
    x = check_image(x)
    inner = torch.zeros(x.shape[-2:], dtype=torch.bool, device=x.device)
    inner[1:-1, 1:-1] = True
    return reconstruction(x.masked_fill(inner, torch.inf), x, by="erosion", connectivity=connectivity)
