"""MorphoLayers: its operators on the controlled backbone, and networks of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from morphobench.contract import InvalidPlugin, Task
from morphobench.training.torch import backbones

from . import initialisers, layers
from .networks import NETWORKS
from .structuring import LineFunctions, QuadraticFunctions, StructuringFunctions

MakeLayer = Callable[..., nn.Module]

# What the first half of the channels meets, and the second.
HALVES: dict[str, tuple[MakeLayer, MakeLayer]] = {
    "depthwise": (layers.DepthwiseDilation2D, layers.DepthwiseErosion2D),
    "sum-merged": (layers.Dilation2D, layers.Erosion2D),
    "opening-closing": (layers.Opening2D, layers.Closing2D),
    "quadratic": (layers.DepthwiseDilation2D, layers.DepthwiseErosion2D),
}
INITIALISERS = {
    "zeros": initialisers.zeros_,
    "sparse-zeros": initialisers.sparse_zeros_,
    "quadratic": initialisers.quadratic_,
    "near-identity": initialisers.minus_ones_zero_centre_,
    "random-lattice": initialisers.random_lattice_,
}


def build(task: Task, params: Mapping[str, Any]) -> nn.Module:
    """Return the backbone around one of `HALVES`, or one of `NETWORKS`."""
    kind = params["kind"]
    if kind in HALVES:
        return backbones.build(task, halves, params)
    return _known("kind", kind, {**HALVES, **NETWORKS})(task, params)


def halves(channels: int, kernel_size: int, params: Mapping[str, Any]) -> nn.Module:
    """Return a spatial operator: dilations or openings on one half of the channels, their duals on the other."""
    initialiser = _known("initialiser", params["initialiser"], INITIALISERS)
    functions: Callable[..., nn.Module] = partial(StructuringFunctions, initialiser=initialiser)
    if params["kind"] == "quadratic":
        functions = partial(QuadraticFunctions, scale=params["scale"])

    def make(layer: MakeLayer, count: int) -> nn.Module:
        return layer(count, count if params["kind"] == "sum-merged" else 1, kernel_size, functions=functions)

    first, second = HALVES[params["kind"]]
    return Halves(channels, partial(make, first), partial(make, second))


class Halves(nn.Module):
    """One operator on the first half of the channels, another on the second half.

    Parameters
    ----------
    channels : int
        Number of channels; of an odd number the second half gets one more.
    make_first, make_second : callable
        Number of channels -> module.
    """

    def __init__(self, channels: int, make_first: Callable[[int], nn.Module], make_second: Callable[[int], nn.Module]):
        super().__init__()
        self.split = channels // 2
        self.first = make_first(self.split) if self.split else None
        self.second = make_second(channels - self.split)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        if self.first is None:
            return self.second(x)
        return torch.cat([self.first(x[:, : self.split]), self.second(x[:, self.split :])], dim=1)


def _known(key: str, value: str, known: Mapping[str, Any]) -> Any:
    if value not in known:
        raise InvalidPlugin(f"morpholayers: key {key!r}: found {value!r}, expected {', '.join(known)}")
    return known[value]


@torch.no_grad()
def describe(model: nn.Module) -> dict[str, np.ndarray]:
    """Return the structuring functions of every layer, ``"<path of the layer>:bias"``, (F * C, kh, kw)."""
    return {
        f"{path.removesuffix('.functions')}:bias": module().flatten(0, 1).cpu().numpy()
        for path, module in model.named_modules()
        if isinstance(module, StructuringFunctions | QuadraticFunctions | LineFunctions)
    }
