"""Lipschitz constants in the sup norm, computed by walking the layers of a network, and the certificates that follow.

With L the constant and m the margin f_y - max_{j != y} f_j of the true score at an image, the prediction is y for every image that
differs by less than m / (2 L) in each pixel (Tsuzuku, Sato, Sugiyama, NeurIPS 2018, in the sup norm).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["CENTRING", "certified_by_margin", "lipschitz_constant", "margins", "rounding_bound"]

CENTRING = 2.0  # of the map from pixels in [0, 1] to the [-1, 1] that networks see

# What moves no value further than the greatest change of its input.
ONE = (nn.AvgPool2d, nn.MaxPool2d, nn.ReLU, nn.Flatten, nn.Identity)


def lipschitz_constant(module: nn.Module) -> float:
    """Return a bound of the change of the outputs over that of the inputs, both in the sup norm, in evaluation mode.

    A module of a kind that is not known says its own by an attribute ``lipschitz``, or names by it the module that computes its
    outputs; as varmorph's layers do that mix channels.

    Raises
    ------
    TypeError
        If a layer does not say its constant.
    """
    if isinstance(module, nn.Sequential):
        return math.prod(lipschitz_constant(layer) for layer in module)
    if isinstance(module, ONE):
        return 1.0
    own = getattr(module, "lipschitz", None)
    if isinstance(own, nn.Module):
        return lipschitz_constant(own)
    if not isinstance(own, (int, float)):
        raise TypeError(
            f"{type(module).__name__} does not say its Lipschitz constant: give it an attribute `lipschitz`"
        )
    return float(own)


def margins(scores: Tensor, truth: Tensor) -> Tensor:
    """Return how far the true score lies above the greatest other one (N,), negative where it does not."""
    own = torch.nn.functional.one_hot(truth, scores.shape[1]).bool()
    return scores[own] - scores.masked_fill(own, -torch.inf).amax(1)


def certified_by_margin(model: nn.Module, images: Tensor, truth: Tensor, epsilon: float) -> Tensor:
    """Tell for which images no change of at most ``epsilon`` a pixel takes the prediction away from the truth.

    Parameters
    ----------
    model : Module
        In evaluation mode and float64; every layer says its Lipschitz constant.
    images : Tensor
        (N, C, H, W) in [0, 1], float64.
    truth : Tensor
        (N,) of int64.
    epsilon : float
        In units of pixels.

    Returns
    -------
    Tensor
        (N,) of bool. The margin is reduced by what rounding may have added to it, at the image and at any other within reach.
    """
    slope = CENTRING * lipschitz_constant(model)
    with torch.no_grad():
        scores, rounding = _with_rounding(model, images / 0.5 - 1)
    return margins(scores, truth) - 4 * rounding > 2 * slope * epsilon * (1 + 1e-12)


def rounding_bound(model: nn.Module, inputs: Tensor) -> float:
    """Bound the error of each score that rounding makes, of a network whose layers have Lipschitz constants.

    A layer sums, or chooses from, at most as many terms as it has parameters or as its window has positions; each operation on
    values of at most size s adds at most eps s, and a layer after it multiplies what has gathered by its constant.
    """
    with torch.no_grad():
        return _with_rounding(model, inputs)[1]


def _with_rounding(model: nn.Module, inputs: Tensor) -> tuple[Tensor, float]:
    total, unit = 0.0, torch.finfo(inputs.dtype).eps

    def gather(layer: nn.Module, given: tuple[Tensor, ...], found: Tensor) -> None:
        nonlocal total
        numbers = [value for value in (*layer.parameters(), *layer.buffers()) if value.is_floating_point()]
        terms = sum(value.numel() for value in numbers) + _positions(layer) + 16
        size = max(float(value.abs().amax()) for value in (given[0], found, *numbers) if value.numel())
        total = total * max(lipschitz_constant(layer), 1.0) + terms * unit * size

    handles = [layer.register_forward_hook(gather) for layer in model.modules() if not list(layer.children())]
    try:
        scores = model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return scores, total


def _positions(layer: nn.Module) -> int:
    """Number of positions that a pooling window has."""
    size: Any = getattr(layer, "kernel_size", 1)
    return math.prod(size) if isinstance(size, tuple) else size**2 if isinstance(size, int) else 1
