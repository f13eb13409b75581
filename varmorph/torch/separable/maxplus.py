"""Max-plus dilation and erosion over the edges of a window."""

from __future__ import annotations

import torch
from torch import Tensor

from varmorph.torch.backend.choice import DEVICES, compute_dtype, implementation, is_transformed
from varmorph.torch.backend.ops import window as ops
from varmorph.torch.backend.ops.calls import call, differentiable_as
from varmorph.torch.separable.neighbours import edge_values, edges_of, per_edge
from varmorph.torch.separable.second_derivatives import supremum_backward
from varmorph.windows import Geometry, Window, outside_value

__all__ = ["dilate", "supremum"]

differentiable_as(ops.supremum_backward, supremum_backward)


def dilate(x: Tensor, bias: Tensor, geometry: Geometry, sign: int) -> Tensor:
    """Compute sign * max(sign * x + bias) over the windows: the dilation for sign 1, the erosion for -1."""
    dtype, beyond = compute_dtype(x), outside_value(geometry)
    image, function = x.to(dtype), bias.to(dtype).flatten(1)
    outside = -torch.inf if beyond is None else sign * beyond
    kernels = implementation("this dilation or erosion", x.device, DEVICES)
    if kernels != "tensor":
        learning = is_transformed() or (torch.is_grad_enabled() and (image.requires_grad or function.requires_grad))
        y, _ = call(ops.supremum, image, function, outside, sign, learning, kernels, *ops.as_plain_numbers(geometry))
    elif sign > 0:
        y = supremum(image, function, edges_of(geometry), outside)
    else:
        y = 0.0 - supremum(-image, function, edges_of(geometry), outside)
    return y.to(x.dtype)


def supremum(x: Tensor, bias: Tensor, window: Window, outside: float) -> Tensor:
    """Take the greatest x + bias over each window, in plain tensor code; the first such edge in row-major order takes the gradient.

    x : (N, C, H, W).  bias : (C, K), -inf leaves the element out.  outside : value beyond the image.
    """
    offset = per_edge(bias, window)
    absent = torch.isneginf(offset)
    values = edge_values(x, window, outside) + offset.masked_fill(absent, 0.0)
    values = values.masked_fill(absent, -torch.inf)
    first = values.detach().max(dim=0, keepdim=True).indices
    greatest = values.gather(0, first).squeeze(0)
    # An empty window, or one of -inf alone, has no edge that could take a gradient.
    return greatest.masked_fill(torch.isneginf(greatest), -torch.inf)
