"""The separable operator as plain iterations that automatic differentiation goes through.

Written from the specification (expectile penalty, window cut at the border) and apart from `varmorph`, which it
checks. On a window the unknown z solves sum_k w_k a_k (v_k - z) = 0, where v_k = x_k + b_k are the neighbours and
a_k is the level tau for v_k >= z, 1 - tau below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "Neighbours",
    "above",
    "curvature",
    "gradient_step",
    "neighbours",
    "newton_step",
    "newton_updates",
    "relative_residual",
    "unrolled",
    "weighted_mean",
]


class Neighbours(NamedTuple):
    """What each output pixel sees: `value` v and `weight` w, (N, C, T, H, W); `level` tau and its complement (C, 1, 1).

    Places outside the image have weight 0.
    """

    value: Tensor
    weight: Tensor
    level: Tensor
    complement: Tensor


def neighbours(x: Tensor, bias: Tensor, weight: Tensor, logit_level: Tensor, *, erosion: bool = False) -> Neighbours:
    """Gather the window of every pixel, differentiably.

    Parameters
    ----------
    x : Tensor
        (N, C, H, W).
    bias, weight : Tensor
        (C, kh, kw).
    logit_level : Tensor
        (C,).
    erosion : bool
        Reverse the edges: offsets, biases and levels change sign.
    """
    height, width = x.shape[-2:]
    rows, columns = bias.shape[-2:]
    origin = (rows // 2, columns // 2)
    before = (rows - 1 - origin[0], columns - 1 - origin[1]) if erosion else origin
    after = (rows - 1 - before[0], columns - 1 - before[1])
    margin = (before[1], after[1], before[0], after[0])
    padded, inside = functional.pad(x, margin), functional.pad(torch.ones_like(x[:1, :1]), margin)
    values, weights = [], []
    for i in range(rows):
        for j in range(columns):
            top, left = (rows - 1 - i, columns - 1 - j) if erosion else (i, j)
            here = (..., slice(top, top + height), slice(left, left + width))
            offset = bias[:, i, j, None, None]
            values.append(padded[here] - offset if erosion else padded[here] + offset)
            weights.append(weight[:, i, j, None, None] * inside[here])
    logit = (-logit_level if erosion else logit_level)[:, None, None, None]
    return Neighbours(torch.stack(values, 2), torch.stack(weights, 2), torch.sigmoid(logit), torch.sigmoid(-logit))


def above(window: Neighbours, z: Tensor) -> Tensor:
    """Active set: which neighbours lie at or above z; (N, C, T, H, W), bool, no gradient."""
    return window.value.detach() >= z.detach()[:, :, None]


def curvature(window: Neighbours, z: Tensor) -> Tensor:
    """Weight times level or its complement, by the side of z on which each neighbour lies; (N, C, T, H, W)."""
    return window.weight * torch.where(above(window, z), window.level, window.complement)


def weighted_mean(window: Neighbours) -> Tensor:
    """Start of the iterations: the solution for level 1/2, (N, C, H, W)."""
    return (window.weight * window.value).sum(2) / window.weight.sum(2)


def newton_step(window: Neighbours, z: Tensor) -> Tensor:
    """One Newton step, which is one fixed-point step: the weighted mean for the signs at z.

    z enters through the signs alone, so no gradient passes through it.
    """
    stiffness = curvature(window, z)
    return (stiffness * window.value).sum(2) / stiffness.sum(2)


def gradient_step(window: Neighbours, z: Tensor) -> Tensor:
    """One step of gradient descent from z, with the largest step that always descends: one over the curvature bound."""
    bound = window.weight.sum(2).amax((-2, -1), keepdim=True) * torch.maximum(window.level, window.complement)[:, 0]
    gradient = (curvature(window, z) * (z[:, :, None] - window.value)).sum(2)
    return z - gradient / bound.detach()


def unrolled(window: Neighbours, steps: int, step: Callable[[Neighbours, Tensor], Tensor]) -> Tensor:
    """``steps`` iterations of ``step`` from the weighted mean, all of them part of the autograd graph."""
    z = weighted_mean(window)
    for _ in range(steps):
        z = step(window, z)
    return z


@torch.no_grad()
def newton_updates(window: Neighbours) -> tuple[Tensor, int]:
    """Solve and count: the solution (N, C, H, W) and the Newton steps until no sign and no value changes.

    At most one step for each neighbour is needed; a constant window may go to and fro by one rounding unit, which
    the same bound ends.
    """
    z = weighted_mean(window)
    signs = above(window, z)
    for count in range(1, window.value.shape[2] + 1):
        moved = newton_step(window, z)
        new_signs = above(window, moved)
        settled = bool((new_signs == signs).all()) or bool((moved == z).all())
        z, signs = moved, new_signs
        if settled:
            return z, count
    return z, window.value.shape[2]


@torch.no_grad()
def relative_residual(window: Neighbours, z: Tensor) -> float:
    """Largest gradient of the energy over curvature times range of the neighbours; 0 for constant input."""
    stiffness = curvature(window, z)
    inside = window.weight > 0
    values = window.value[inside.expand_as(window.value)]
    spread = float(values.max() - values.min()) if values.numel() else 0.0
    if spread == 0.0:
        return 0.0
    gradient = (stiffness * (z[:, :, None] - window.value)).sum(2)
    return float((gradient.abs() / stiffness.sum(2)).max()) / spread
