"""Max-plus dilation and erosion over the edges of a window."""

from __future__ import annotations

import torch
from torch import Tensor

from varmorph.torch.backend.choice import DEVICES, compute_dtype, implementation, is_transformed, of_one_type
from varmorph.torch.backend.ops import alone
from varmorph.torch.backend.ops import window as ops
from varmorph.torch.backend.ops.calls import call, differentiable_as, is_alone
from varmorph.torch.separable.neighbours import edge_values, edges_of, per_edge, signs_of
from varmorph.torch.separable.second_derivatives import supremum_backward
from varmorph.windows import Geometry, Window, outside_value

__all__ = ["dilate", "supremum"]

differentiable_as(ops.supremum_backward, supremum_backward)


def dilate(x: Tensor, bias: Tensor, geometry: Geometry, raised: int) -> Tensor:
    """Compute the greatest x + bias over the windows in the first `raised` channels, the least x - bias in the others."""
    dtype, outside = compute_dtype(x), outside_value(geometry)
    kernels = implementation("this dilation or erosion", x.device, DEVICES)
    if kernels == "cpu" and is_alone(x, bias) and of_one_type(x, bias, dtype=dtype):
        learning = torch.is_grad_enabled() and (x.requires_grad or bias.requires_grad)
        return alone.supremum(x, bias, geometry, outside, raised, learning)
    image, function = x.to(dtype), bias.to(dtype).flatten(1)
    if kernels != "tensor":
        learning = is_transformed() or (torch.is_grad_enabled() and (image.requires_grad or function.requires_grad))
        y, _ = call(ops.supremum, image, function, outside, raised, learning, kernels, *ops.as_plain_numbers(geometry))
    else:
        y = supremum(image, function, edges_of(geometry), outside, raised)
    return y.to(x.dtype)


def supremum(x: Tensor, bias: Tensor, window: Window, outside: float | None, raised: int) -> Tensor:
    """Do so in plain tensor code; the first edge in row-major order that attains the value takes the gradient.

    x : (N, C, H, W).  bias : (C, K), -inf leaves the element out.
    outside : value beyond the image, or None where edges from beyond the image are absent.
    """
    signs = signs_of(bias.shape[0], raised, x)
    values = edge_values(signs * x, window, -torch.inf) if outside is None else signs * edge_values(x, window, outside)
    offset = per_edge(bias, window)
    absent = torch.isneginf(offset)
    values = (values + offset.masked_fill(absent, 0.0)).masked_fill(absent, -torch.inf)
    first = values.detach().max(dim=0, keepdim=True).indices
    greatest = values.gather(0, first).squeeze(0)
    # An empty window, or one of -inf alone, has no edge that could take a gradient.
    return signs * greatest.masked_fill(torch.isneginf(greatest), -torch.inf) + 0.0
