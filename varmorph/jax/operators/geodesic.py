"""Geodesic reconstruction and the operators built on it, differentiated by provenance; see `varmorph.torch.operators.geodesic`.

Every value of a reconstruction is a copy of one pixel of the marker or of the mask, plus offsets along a path. The backward
pass finds the shortest of these paths, which form a forest, and sums the gradient from its leaves to its roots. There is no
forward mode.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from varmorph.arguments import Direction, check_connectivity, check_direction
from varmorph.jax.arguments import check_image, check_image_pair, check_nonnegative, check_offsets
from varmorph.jax.backend.choice import compute_dtype, on_platform
from varmorph.jax.backend.ffi import call_kernel
from varmorph.jax.operators.window import dilation, erosion
from varmorph.jax.separable.neighbours import edge_values, flat_neighbourhood, flat_shifts, per_edge
from varmorph.jax.shapes import Images, Marks, PerChannel, StructuringFunction
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
        If an image is not a floating point array.
    ValueError
        If shapes differ, connectivity is neither 4 nor 8, or bias is positive somewhere or not 0 at its origin.

    Notes
    -----
    The gradient is that of `varmorph.torch.reconstruction`, ties included. L. Vincent (1993), Morphological grayscale
    reconstruction in image analysis, IEEE Transactions on Image Processing 2(2), 176-201.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> mask = jnp.array([[[[1.0, 3.0, 1.0, 2.0, 1.0]]]])
    >>> reconstruction(mask - 1, mask)
    Array([[[[1., 2., 1., 1., 1.]]]], dtype=float32)
    """
    marker, mask = check_image_pair(marker, mask, ("marker", "mask"))
    if bias is None:
        bias = flat_neighbourhood(check_connectivity(connectivity), mask.dtype)
    offsets = check_offsets(bias, mask.shape[1])
    dtype = compute_dtype(marker, mask)
    sign = 1 if check_direction(by) == "dilation" else -1
    return _reconstruction(marker.astype(dtype), mask.astype(dtype), offsets.astype(dtype), sign).astype(mask.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _reconstruction(marker: jax.Array, mask: jax.Array, bias: jax.Array, sign: int) -> jax.Array:
    result = (jax.ShapeDtypeStruct(mask.shape, mask.dtype),)

    def by_kernel(*arrays: jax.Array) -> jax.Array:
        return call_kernel("reconstruction.reconstruction", result, *arrays, options=(sign,))[0]

    def by_xla(marker: jax.Array, mask: jax.Array, bias: jax.Array) -> jax.Array:
        return sign * _grow(sign * marker, sign * mask, bias)

    return on_platform(by_kernel, by_xla, marker, mask, bias)


def _forward(marker: jax.Array, mask: jax.Array, bias: jax.Array, sign: int) -> tuple[jax.Array, tuple[Any, ...]]:
    y = _reconstruction(marker, mask, bias, sign)
    return y, (marker, mask, y, bias)


def _backward(sign: int, kept: tuple[Any, ...], grad_y: jax.Array) -> tuple[jax.Array, ...]:
    marker, mask, _, bias = kept
    results = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in (marker, mask, bias)]

    def by_kernel(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        return call_kernel("reconstruction_gradient.reconstruction_backward", results, *arrays, options=(sign,))

    def by_xla(*arrays: jax.Array) -> tuple[jax.Array, ...]:
        grad_y, marker, mask, y = (sign * image for image in arrays[:-1])
        by_marker, by_mask, by_bias = _give_back(grad_y, marker, mask, y, arrays[-1])
        return sign * by_marker, sign * by_mask, by_bias

    return on_platform(by_kernel, by_xla, grad_y, *kept)


_reconstruction.defvjp(_forward, _backward)


def _seen(bias: jax.Array, shape: tuple[int, ...]) -> Window:
    return window(Geometry((shape[-2], shape[-1]), (bias.shape[-2], bias.shape[-1])))


def _grow(marker: jax.Array, mask: jax.Array, bias: jax.Array) -> jax.Array:
    seen = _seen(bias, mask.shape)
    offset = per_edge(bias.reshape(bias.shape[0], -1), seen)
    absent = jnp.isneginf(offset)

    def raised(value: jax.Array) -> jax.Array:
        around = edge_values(value, seen, -jnp.inf) + jnp.where(absent, 0.0, offset)
        best = jnp.where(absent | jnp.isnan(around), -jnp.inf, around).max(0)
        return jnp.minimum(best, mask)

    def step(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        value, proposed = state
        value = jnp.where(proposed > value, proposed, value)
        return value, raised(value)

    start = jnp.minimum(marker, mask)
    return jax.lax.while_loop(lambda state: (state[1] > state[0]).any(), step, (start, raised(start)))[0]


def _shortest_paths(
    marker: jax.Array, mask: jax.Array, value: jax.Array, bias: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Join each pixel, level by level from the roots, to the first neighbour on the last level that it is a copy of.

    Returns the slot through which it is a copy (ROOT: none) and its distance to the root.
    """
    seen = _seen(bias, mask.shape)
    offset = per_edge(bias.reshape(bias.shape[0], -1), seen)
    absent = jnp.isneginf(offset)
    copies = ~absent & (edge_values(value, seen, 0.0) + jnp.where(absent, 0.0, offset) == value)
    roots = (value == marker) | (value == mask) | jnp.isnan(value)

    def step(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        level, joined, slot, depth, _ = state
        through = edge_values(joined, seen, False) & copies & ~joined
        joins = through.any(0)
        slot, depth = jnp.where(joins, through.argmax(0), slot), jnp.where(joins, level, depth)
        return level + 1, joined | joins, slot, depth, joins.any()

    none = jnp.full(value.shape, ROOT)
    start: tuple[jax.Array, ...] = (jnp.asarray(1), roots, none, jnp.zeros_like(none), jnp.bool_(True))
    _, _, slot, depth, _ = jax.lax.while_loop(lambda state: state[4], step, start)
    return slot, depth


def _give_back(
    grad_y: jax.Array, marker: jax.Array, mask: jax.Array, value: jax.Array, bias: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Sum the gradient along the paths to their roots, and give it to marker, mask and bias."""
    slot, depth = _shortest_paths(marker, mask, value, bias)
    is_root = slot == ROOT
    own = jnp.arange(slot.size).reshape(slot.shape)
    shifts = flat_shifts((bias.shape[-2], bias.shape[-1]), mask.shape[-1])
    parent = jnp.where(is_root, own, own + shifts[jnp.maximum(slot, 0)]).reshape(-1)
    levels = depth.reshape(-1)

    def pass_on(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        level, total = state
        return level - 1, total.at[parent].add(jnp.where(levels == level, total, 0.0))

    start = (depth.max(initial=0), grad_y.reshape(-1))
    total = jax.lax.while_loop(lambda state: state[0] > 0, pass_on, start)[1].reshape(grad_y.shape)
    place = jnp.maximum(slot, 0) + bias[0].size * jnp.arange(bias.shape[0])[:, None, None]
    by_bias = jnp.zeros(bias.size, total.dtype).at[place.reshape(-1)].add(jnp.where(is_root, 0.0, total).reshape(-1))
    by_root, of_mask = jnp.where(is_root, total, 0.0), value == mask
    return jnp.where(of_mask, 0.0, by_root), jnp.where(of_mask, by_root, 0.0), by_bias.reshape(bias.shape)


def _image_and_height(x: jax.Array, h: jax.Array | float) -> tuple[jax.Array, jax.Array]:
    """Check both and bring them to the dtype of the computation: rounded to few bits, x - h could meet another plateau."""
    image = check_image(x)
    image = image.astype(compute_dtype(image))
    return image, check_nonnegative("h", h, image.shape[1], image).astype(image.dtype)[:, None, None]


def h_maxima(x: Images, h: PerChannel, *, connectivity: int = 8) -> Images:
    """Lower every maximum by h, or to the height at which it joins a higher one: the reconstruction of x from x - h.

    x : (N, C, H, W).  h : number >= 0, () or (C,); it has a gradient.  connectivity : 4 or 8. Errors and source are those of
    `varmorph.torch.h_maxima`.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> h_maxima(jnp.array([[[[0.0, 5.0, 0.0, 1.0, 0.0]]]]), 2.0)
    Array([[[[0., 3., 0., 0., 0.]]]], dtype=float32)
    """
    image, height = _image_and_height(x, h)
    return reconstruction(image - height, image, connectivity=connectivity).astype(x.dtype)


def h_minima(x: Images, h: PerChannel, *, connectivity: int = 8) -> Images:
    """Raise every minimum by h, or to the height at which it joins a lower one; arguments as in `h_maxima`."""
    image, height = _image_and_height(x, h)
    return reconstruction(image + height, image, by="erosion", connectivity=connectivity).astype(x.dtype)


def h_convex(x: Images, h: PerChannel, *, connectivity: int = 8) -> Images:
    """What `h_maxima` takes away: the domes of height at most h; arguments as there."""
    image, height = _image_and_height(x, h)
    return (image - reconstruction(image - height, image, connectivity=connectivity)).astype(x.dtype)


def regional_maxima(x: Images, *, connectivity: int = 8) -> Marks:
    """Tell which pixels belong to a plateau whose neighbours all are lower: bool, no gradient; x as in `h_maxima`.

    The rule, and where scikit-image has another one, is that of `varmorph.torch.regional_maxima`: a constant image is a maximum
    everywhere.
    """
    x = jax.lax.stop_gradient(check_image(x))
    x = x.astype(compute_dtype(x))
    flat = flat_neighbourhood(check_connectivity(connectivity), x.dtype)
    below = jnp.where(dilation(jnp.where(jnp.isnan(x), -jnp.inf, x), flat) <= x, -jnp.inf, x)
    # From the pixels with a higher neighbour a pixel is reached at its own height unless it belongs to a maximum.
    lower = reconstruction(below, x, connectivity=connectivity) < x
    return lower | (jnp.isneginf(x) & ~(x > -jnp.inf).any((-2, -1), keepdims=True))


def extended_maxima(x: Images, h: PerChannel, *, connectivity: int = 8) -> Marks:
    """Tell which pixels belong to the regional maxima of `h_maxima`: bool, no gradient; arguments as there.

    The rule, and where scikit-image has another one, is that of `varmorph.torch.extended_maxima`: an image whose range is at
    most h is a maximum everywhere.
    """
    image, height = _image_and_height(x, h)
    return regional_maxima(h_maxima(image, height.reshape(-1), connectivity=connectivity), connectivity=connectivity)


def opening_by_reconstruction(x: Images, bias: StructuringFunction, *, connectivity: int = 8) -> Images:
    """Reconstruct x from its erosion: what the erosion leaves keeps its shape, the rest goes.

    Arguments and errors are those of `erosion` and `reconstruction`.
    """
    return reconstruction(erosion(x, bias), x, connectivity=connectivity)


def closing_by_reconstruction(x: Images, bias: StructuringFunction, *, connectivity: int = 8) -> Images:
    """Reconstruct x by erosion from its dilation: what the dilation leaves dark keeps its shape, the rest is filled.

    Arguments and errors are those of `dilation` and `reconstruction`.
    """
    return reconstruction(dilation(x, bias), x, by="erosion", connectivity=connectivity)


def fill_holes(x: Images, *, connectivity: int = 8) -> Images:
    """Fill the minima that do not touch the border of the image; `connectivity` is that of the holes' surroundings."""
    x = check_image(x)
    inner = np.zeros(x.shape[-2:], bool)
    inner[1:-1, 1:-1] = True
    return reconstruction(jnp.where(inner, jnp.inf, x).astype(x.dtype), x, by="erosion", connectivity=connectivity)
