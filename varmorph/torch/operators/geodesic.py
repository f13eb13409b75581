"""Geodesic reconstruction and the operators built on it, differentiated by provenance.

Every value of a reconstruction is a copy of one pixel of the marker or of the mask, plus offsets along a path. The backward
pass finds the shortest of these paths, which form a forest, and sums the gradient from its leaves to its roots. It needs
the images and the result, but nothing of the iterations.
"""

from __future__ import annotations

from itertools import count
from typing import Any, NamedTuple

import torch
from torch import Tensor

from varmorph.arguments import Direction, check_connectivity, check_direction
from varmorph.torch.arguments import check_image, check_image_pair, check_nonnegative, check_offsets
from varmorph.torch.backend.choice import compute_dtype, implementation, refuse_to_be_written_down
from varmorph.torch.backend.ops import reconstruction as ops
from varmorph.torch.backend.ops.calls import NO_FORWARD_MODE, call, differentiable_as, one_after_the_other
from varmorph.torch.operators.window import dilation, erosion
from varmorph.torch.separable.neighbours import edge_values, flat_neighbourhood, flat_shifts, per_edge
from varmorph.torch.shapes import Images, Marks, PerChannel, StructuringFunction
from varmorph.windows import Geometry, Window, window

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

ROOT = -1


def reconstruction(
    marker: Images,
    mask: Images,
    bias: StructuringFunction | None = None,
    *,
    by: Direction = "dilation",
    connectivity: int = 8,
) -> Images:
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
        Of the dtype of `mask`. A pixel that is NaN in marker or mask is NaN; no neighbour copies it.

    Raises
    ------
    TypeError
        If an image is not a floating point tensor.
    ValueError
        If shapes differ, connectivity is neither 4 nor 8, or bias is positive somewhere or not 0 at its origin.

    Notes
    -----
    The gradient of a pixel goes to the one pixel of marker or mask that its value is a copy of (to the mask where the
    result equals it), and to the bias as often as the path from there uses it. Of several paths the one with the fewest
    steps is taken; of several neighbours that lie on such paths, the first in row-major order.
    L. Vincent (1993), Morphological grayscale reconstruction in image analysis, IEEE Transactions on Image Processing 2(2),
    176-201.

    Examples
    --------
    >>> import torch
    >>> mask = torch.tensor([[[[1.0, 3.0, 1.0, 2.0, 1.0]]]])
    >>> reconstruction(mask - 1, mask)
    tensor([[[[1., 2., 1., 1., 1.]]]])
    """
    marker, mask = check_image_pair(marker, mask, ("marker", "mask"))
    if bias is None:
        bias = flat_neighbourhood(check_connectivity(connectivity), mask.dtype, mask.device)
    offsets = check_offsets(bias, mask.shape[1])
    dtype = compute_dtype(marker, mask)
    sign = 1 if check_direction(by) == "dilation" else -1
    arguments = marker.to(dtype), mask.to(dtype), offsets.to(dtype)
    refuse_to_be_written_down("reconstruction")
    if implementation("reconstruction", mask.device) == "cpu":
        return call(ops.reconstruction, *arguments, sign).to(mask.dtype)
    return (sign * _Reconstruction.apply(sign * arguments[0], sign * arguments[1], arguments[2])).to(mask.dtype)


def _grow(marker: Tensor, mask: Tensor, bias: Tensor, seen: Window) -> Tensor:
    offset = per_edge(bias.flatten(1), seen)
    absent = torch.isneginf(offset)
    value = torch.minimum(marker, mask)
    while True:
        around = edge_values(value, seen, -torch.inf) + offset.masked_fill(absent, 0.0)
        best = around.masked_fill(absent | around.isnan(), -torch.inf).amax(0)
        raised = torch.minimum(best, mask)
        rises = raised > value
        if not rises.any():
            return value
        value = torch.where(rises, raised, value)


class _Forest(NamedTuple):
    """The slot of the window through which each pixel is a copy of its parent (ROOT: none), and its distance to the root."""

    slot: Tensor
    depth: Tensor


def _shortest_paths(marker: Tensor, mask: Tensor, value: Tensor, bias: Tensor, seen: Window) -> _Forest:
    """Join each pixel, level by level from the roots, to the first neighbour on the last level that it is a copy of."""
    joined = (value == marker) | (value == mask) | value.isnan()
    offset = per_edge(bias.flatten(1), seen)
    absent = torch.isneginf(offset)
    copies = ~absent & (edge_values(value, seen, 0.0) + offset.masked_fill(absent, 0.0) == value)
    slot = torch.full(value.shape, ROOT, device=value.device)
    depth = torch.zeros_like(slot)
    for level in count(1):
        through = edge_values(joined, seen, False) & copies & ~joined
        joins = through.any(0)
        if not joins.any():
            break
        slot = torch.where(joins, through.byte().argmax(0), slot)
        depth = depth.masked_fill(joins, level)
        joined = joined | joins
    return _Forest(slot, depth)


class _Reconstruction(torch.autograd.Function):
    @staticmethod
    def forward(marker: Tensor, mask: Tensor, bias: Tensor) -> Tensor:
        if not mask.numel() or mask.device.type == "meta":
            return torch.minimum(marker, mask)
        return _grow(marker, mask, bias, _window_of(mask, bias))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        marker, mask, bias = inputs
        ctx.save_for_backward(marker, mask, output, bias)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, ...]:
        return _pull_back(cotangents[0], *ctx.saved_tensors)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> None:
        raise RuntimeError(NO_FORWARD_MODE)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        return one_after_the_other(_Reconstruction.apply)(info, in_dims, *arguments)


def _window_of(mask: Tensor, bias: Tensor) -> Window:
    return window(Geometry((mask.shape[-2], mask.shape[-1]), (bias.shape[-2], bias.shape[-1])))


def _pull_back(
    cotangent: Tensor, marker: Tensor, mask: Tensor, value: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Give the cotangent of each pixel to the pixel of marker or mask it is a copy of, and to bias along the way."""
    if not mask.numel():
        return cotangent, cotangent, torch.zeros_like(bias)
    with torch.no_grad():
        slot, depth = _shortest_paths(marker, mask, value, bias, _window_of(mask, bias))
    is_root = slot == ROOT
    total = _sum_to_the_roots(cotangent, _parents(slot, (bias.shape[-2], bias.shape[-1])), depth)
    size = bias[0].numel()
    place = slot + size * torch.arange(len(bias), device=slot.device)[:, None, None]
    steps = total.masked_fill(is_root, 0.0).flatten()
    by_bias = total.new_zeros(bias.numel()).index_add(0, place.masked_fill(is_root, 0).flatten(), steps)
    by_root, of_mask = total.masked_fill(~is_root, 0.0), value == mask
    return by_root.masked_fill(of_mask, 0.0), by_root.masked_fill(~of_mask, 0.0), by_bias.view(bias.shape)


def _reconstruction_backward(
    grad_y: Tensor, marker: Tensor, mask: Tensor, y: Tensor, bias: Tensor, sign: int
) -> tuple[Tensor, ...]:
    by_marker, by_mask, by_bias = _pull_back(grad_y, sign * marker, sign * mask, sign * y, bias)
    return by_marker, by_mask, sign * by_bias


differentiable_as(ops.reconstruction_backward, _reconstruction_backward)


def _parents(slot: Tensor, size: tuple[int, int]) -> Tensor:
    """Flat index, over all planes, of the pixel that each pixel is a copy of; a root is its own parent."""
    shifts = flat_shifts(size, slot.shape[-1], slot.device)
    own = torch.arange(slot.numel(), device=slot.device).view(slot.shape)
    return torch.where(slot == ROOT, own, own + shifts[slot.clamp(min=0)])


def _sum_to_the_roots(cotangent: Tensor, parent: Tensor, depth: Tensor) -> Tensor:
    """Sum over the descendants of each pixel, itself included."""
    levels = torch.bincount(depth.flatten()).flip(0).tolist()
    order, total = depth.flatten().argsort(descending=True), cotangent.flatten()
    for level in order.split(levels)[:-1]:
        total = total.index_add(0, parent.flatten()[level], total[level])
    return total.view(cotangent.shape)


def h_maxima(x: Images, h: PerChannel, *, connectivity: int = 8) -> Images:
    """Lower every maximum by h, or to the height at which it joins a higher one: the reconstruction of x from x - h.

    It is an image, not the binary map that scikit-image gives the name, which marks the pixels that are lowered by h in full;
    see `extended_maxima`.

    Parameters
    ----------
    x : (N, C, H, W)
        Images, floating point; computed in float32 unless they are float64.
    h : number, () or (C,)
        Height >= 0, one for each channel or for all. It gets a gradient: -1 from every pixel that comes from x - h.
    connectivity : {4, 8}
        Neighbours of a pixel.

    Returns
    -------
    (N, C, H, W)

    Raises
    ------
    TypeError
        If x or h is not a floating point tensor (or, for h, a number).
    ValueError
        If a shape does not fit, h is negative, infinite or NaN, or connectivity is neither 4 nor 8.

    Notes
    -----
    Its gradient is that of `reconstruction`. P. Soille (2003), Morphological Image Analysis, 2nd edition, chapter 6.

    Examples
    --------
    >>> import torch
    >>> h_maxima(torch.tensor([[[[0.0, 5.0, 0.0, 1.0, 0.0]]]]), 2.0)
    tensor([[[[0., 3., 0., 0., 0.]]]])
    """
    image, height = _image_and_height(x, h)
    return reconstruction(image - height, image, connectivity=connectivity).to(x.dtype)


def _image_and_height(x: Tensor, h: Tensor | float) -> tuple[Tensor, Tensor]:
    """Check both and bring them to the dtype of the computation: rounded to few bits, x - h could meet another plateau."""
    image = check_image(x)
    image = image.to(compute_dtype(image))
    return image, check_nonnegative("h", h, image.shape[1], image).to(image.dtype)[:, None, None]


def h_minima(x: Images, h: PerChannel, *, connectivity: int = 8) -> Images:
    """Raise every minimum by h, or to the height at which it joins a lower one: -h_maxima(-x, h).

    Arguments, result, errors and source are those of `h_maxima`.

    Examples
    --------
    >>> import torch
    >>> h_minima(torch.tensor([[[[5.0, 0.0, 5.0, 4.0, 5.0]]]]), 2.0)
    tensor([[[[5., 2., 5., 5., 5.]]]])
    """
    image, height = _image_and_height(x, h)
    return reconstruction(image + height, image, by="erosion", connectivity=connectivity).to(x.dtype)


def h_convex(x: Images, h: PerChannel, *, connectivity: int = 8) -> Images:
    """What `h_maxima` takes away: the domes of height at most h.

    Arguments, result, errors and source are those of `h_maxima`.

    Examples
    --------
    >>> import torch
    >>> h_convex(torch.tensor([[[[0.0, 5.0, 0.0, 1.0, 0.0]]]]), 2.0)
    tensor([[[[0., 2., 0., 1., 0.]]]])
    """
    image, height = _image_and_height(x, h)
    return (image - reconstruction(image - height, image, connectivity=connectivity)).to(x.dtype)


def regional_maxima(x: Images, *, connectivity: int = 8) -> Marks:
    """Tell which pixels belong to a plateau whose neighbours all are lower: bool, no gradient.

    A plateau is a connected set of pixels of one value. A constant image is one plateau without neighbours, hence a maximum
    everywhere; `skimage.morphology.local_maxima` says the contrary. A pixel that is NaN is no maximum, and no neighbour.
    Arguments and errors are those of `h_maxima`. L. Vincent (1993), see `reconstruction`.

    Examples
    --------
    >>> import torch
    >>> regional_maxima(torch.tensor([[[[0.0, 2.0, 2.0, 1.0, 3.0]]]]))
    tensor([[[[False,  True,  True, False,  True]]]])
    """
    x = check_image(x).detach()
    x = x.to(compute_dtype(x))
    flat = flat_neighbourhood(check_connectivity(connectivity), x.dtype, x.device)
    number = x.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    below = x.where(dilation(number, flat) > x, -torch.inf)
    # From the pixels with a higher neighbour a pixel is reached at its own height unless it belongs to a maximum.
    lower = reconstruction(below, x, connectivity=connectivity) < x
    nothing = torch.isneginf(number.amax((-2, -1), keepdim=True)) if x.numel() else lower
    return lower | (torch.isneginf(x) & nothing)


def extended_maxima(x: Images, h: PerChannel, *, connectivity: int = 8) -> Marks:
    """Tell which pixels belong to the regional maxima of `h_maxima`: bool, no gradient.

    A dome that is higher than h counts with all of its pixels down to h below its top. One that is at most h high sinks into
    the plateau around it, which counts if it is a maximum of the lowered image: an image whose range is at most h becomes
    constant, and all of it counts. `skimage.morphology.h_maxima` marks the pixels that were lowered by h in full instead: of
    a dome higher than h the top alone, the top of a dome of height h as well, and nothing where the range is below h.
    The result is the same in all precisions that hold the numbers of x, h and their differences. Arguments, errors and source are
    those of `h_maxima`.

    Examples
    --------
    >>> import torch
    >>> extended_maxima(torch.tensor([[[[0.0, 5.0, 4.0, 0.0, 1.0, 0.0]]]]), 2.0)
    tensor([[[[False,  True,  True, False, False, False]]]])
    """
    image, height = _image_and_height(x, h)
    return regional_maxima(h_maxima(image, height.flatten(), connectivity=connectivity), connectivity=connectivity)


def opening_by_reconstruction(x: Images, bias: StructuringFunction, *, connectivity: int = 8) -> Images:
    """Reconstruct x from its erosion: what the erosion leaves keeps its shape, the rest goes.

    Arguments and errors are those of `erosion` and `reconstruction`. Soille (2003), chapter 6, see `h_maxima`.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[[[0.0, 3.0, 0.0, 2.0, 2.0, 4.0]]]])
    >>> opening_by_reconstruction(x, torch.zeros(1, 3))
    tensor([[[[0., 0., 0., 2., 2., 2.]]]])
    """
    return reconstruction(erosion(x, bias), x, connectivity=connectivity)


def closing_by_reconstruction(x: Images, bias: StructuringFunction, *, connectivity: int = 8) -> Images:
    """Reconstruct x by erosion from its dilation: what the dilation leaves dark keeps its shape, the rest is filled.

    It is -opening_by_reconstruction(-x, ...) where `bias` is symmetric; arguments, errors and source as there.

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[[[3.0, 0.0, 3.0, 2.0, 2.0, 1.0]]]])
    >>> closing_by_reconstruction(x, torch.zeros(1, 3))
    tensor([[[[3., 3., 3., 2., 2., 2.]]]])
    """
    return reconstruction(dilation(x, bias), x, by="erosion", connectivity=connectivity)


def fill_holes(x: Images, *, connectivity: int = 8) -> Images:
    """Fill the minima that do not touch the border of the image.

    `connectivity` is that of the holes' surroundings: what is dark and connected to the border stays. Arguments and errors
    are otherwise those of `h_maxima`. L. Vincent (1993), see `reconstruction`.

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
