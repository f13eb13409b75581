"""Fixed networks whose spatial operator is the only exchangeable part (PyTorch).

Everything beside the operator works on one pixel at a time (1x1 convolutions, batch norm, ReLU) or is fixed (2x2 average pooling,
nearest-neighbour upsampling): with the identity as operator nothing spatial is learned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from morphobench.contract import InvalidPlugin, Task

__all__ = ["Classifier", "Operator", "Segmenter", "SpatialBlock", "build", "describe"]

Operator = Callable[[int, int, Mapping[str, Any]], nn.Module]
MakeOperator = Callable[[int], nn.Module]


def build(task: Task, operator: Operator, params: Mapping[str, Any]) -> nn.Module:
    """Return the backbone of a task around a spatial operator.

    Parameters
    ----------
    task : Task
        Classification, ordinal and multilabel get a `Classifier`; segmentation and restoration a `Segmenter`.
    operator : callable
        ``operator(channels, kernel_size, params)`` returns a module that maps (N, C, H, W) to the same shape.
    params : mapping
        ``kernel_size`` (default 3), ``width`` (channels at full resolution, default 8), ``blocks`` (operators at each
        resolution of the classifier, default [1, 1, 2]); the operator gets the whole mapping.

    Raises
    ------
    InvalidPlugin
        If there is no backbone for the kind of task, or the operator does not return a module.
    """
    kernel_size, width = int(params.get("kernel_size", 3)), int(params.get("width", 8))

    def make(channels: int) -> nn.Module:
        module = operator(channels, kernel_size, params)
        if not isinstance(module, nn.Module):
            raise InvalidPlugin(
                f"operator(channels, kernel_size, params) returned {type(module).__name__}, expected a torch.nn.Module"
            )
        return module

    if task.kind in ("classification", "ordinal", "multilabel"):
        return Classifier(task.input_shape[0], task.outputs, make, width, params.get("blocks", (1, 1, 2)))
    if task.kind in ("segmentation", "restoration"):
        return Segmenter(task.input_shape[0], task.outputs, make, width)
    raise InvalidPlugin(f"no backbone for {task.kind}: give build(task, params) instead of operator(...)")


def mixing(inputs: int, outputs: int) -> nn.Sequential:
    """Mix the channels of each pixel: 1x1 convolution, batch norm, ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class SpatialBlock(nn.Module):
    """The operator on each channel, then the mixing of the channels.

    Parameters
    ----------
    make_operator : callable
        Number of channels -> spatial operator.
    inputs, outputs : int
        Number of channels before and after the mixing.
    pool : bool
        Whether to halve the resolution in between, so that the mixing costs a quarter.
    """

    def __init__(self, make_operator: MakeOperator, inputs: int, outputs: int, pool: bool = False):
        super().__init__()
        self.operator = make_operator(inputs)
        self.mixing = mixing(inputs, outputs)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H, W), with pooling (N, outputs, ceil(H / 2), ceil(W / 2))."""
        y = self.operator(x)
        if y.shape != x.shape:
            raise InvalidPlugin(
                f"the spatial operator maps {tuple(x.shape)} to {tuple(y.shape)}, expected the same shape"
            )
        return self.mixing(halve(y) if self.pool else y)


class Classifier(nn.Module):
    """Spatial blocks at several resolutions, global average, linear scores; any image from 8x8 pixels.

    Parameters
    ----------
    inputs, outputs : int
        Channels of the image and number of scores.
    make_operator : callable
        Number of channels -> spatial operator.
    width : int
        Channels at full resolution; doubled at each pooling.
    blocks : sequence of int
        Number of spatial blocks at each resolution, at least one.
    """

    def __init__(
        self, inputs: int, outputs: int, make_operator: MakeOperator, width: int = 8, blocks: Sequence[int] = (1, 1, 2)
    ):
        super().__init__()
        self.stem = nn.Conv2d(inputs, width, 1)
        stages: list[SpatialBlock] = []
        for level, count in enumerate(blocks):
            last, channels = level == len(blocks) - 1, width * 2**level
            stages += [SpatialBlock(make_operator, channels, channels) for _ in range(count - 1)]
            stages.append(SpatialBlock(make_operator, channels, channels if last else 2 * channels, pool=not last))
        self.blocks = nn.Sequential(*stages)
        self.scores = nn.Linear(width * 2 ** (len(blocks) - 1), outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to scores (N, outputs)."""
        return self.scores(self.blocks(self.stem(x)).mean(dim=(2, 3)))


class Segmenter(nn.Module):
    """Encoder and decoder over three resolutions with skip connections; any image from 4x4 pixels.

    Parameters
    ----------
    inputs, outputs : int
        Channels of the image and number of scores a pixel.
    make_operator : callable
        Number of channels -> spatial operator.
    width : int
        Channels at full resolution; doubled at each of the two poolings.
    """

    def __init__(self, inputs: int, outputs: int, make_operator: MakeOperator, width: int = 8):
        super().__init__()
        fine, middle, coarse = width, 2 * width, 4 * width
        self.stem = nn.Conv2d(inputs, fine, 1)
        self.encoder = nn.ModuleList(
            [SpatialBlock(make_operator, fine, fine), SpatialBlock(make_operator, fine, middle)]
        )
        self.bottom = nn.Sequential(
            SpatialBlock(make_operator, middle, coarse), SpatialBlock(make_operator, coarse, middle)
        )
        self.merge = nn.ModuleList([mixing(2 * fine, fine), mixing(2 * middle, middle)])
        self.decoder = nn.ModuleList(
            [SpatialBlock(make_operator, fine, fine), SpatialBlock(make_operator, middle, fine)]
        )
        self.scores = nn.Conv2d(fine, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to scores (N, outputs, H, W)."""
        skips = []
        x = self.stem(x)
        for level, block in enumerate(self.encoder):
            x = block(halve(x) if level else x)
            skips.append(x)
        x = self.bottom(halve(x))
        for level in reversed(range(len(skips))):
            skip = skips[level]
            x = self.merge[level](torch.cat([skip, double(x, skip.shape[2:])], dim=1))
            x = self.decoder[level](x)
        return self.scores(x)


def halve(x: Tensor) -> Tensor:
    """Average 2x2 pixels; the last row and column of an odd size are averaged over the pixels there are."""
    return F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)


def double(x: Tensor, size: Sequence[int]) -> Tensor:
    """Repeat each pixel 2x2 times and cut to ``size``; unlike `interpolate`, deterministic on CUDA too."""
    n, c, h, w = x.shape
    x = x[:, :, :, None, :, None].expand(n, c, h, 2, w, 2).reshape(n, c, 2 * h, 2 * w)
    return x[:, :, : size[0], : size[1]]


def describe(model: nn.Module) -> dict[str, np.ndarray]:
    """Return the structuring functions, weights and levels of a model.

    Returns
    -------
    dict
        ``"<path of the layer>:bias"`` and ``":weight"`` (C, kh, kw), ``":level"`` in (0, 1), (C,) or (2, C). Read from the
        parameters ``bias``, ``log_weight`` and ``logit_level`` of any layer, and the kernels of depthwise convolutions.
    """
    learned: dict[str, np.ndarray] = {}
    for path, module in model.named_modules():
        own = {name: value.detach().cpu() for name, value in module.named_parameters(recurse=False)}
        if "bias" in own and own["bias"].ndim == 3:
            learned[f"{path}:bias"] = own["bias"].numpy()
        if "log_weight" in own:
            learned[f"{path}:weight"] = own["log_weight"].exp().numpy()
        for name in ("logit_level", "logit_levels"):
            if name in own:
                learned[f"{path}:level"] = own[name].sigmoid().numpy()
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1 and max(module.kernel_size) > 1:
            learned[f"{path}:weight"] = own["weight"].flatten(0, 1).numpy()
    return learned
