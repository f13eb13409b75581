"""The networks of `morphobench.training.torch.backbones` in JAX: the same layers in the same order, with the same names and first weights.

Modules are Equinox modules. Those with batch norm take and return its state: ``y, state = module(x, state)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from morphobench.contract import InvalidPlugin, Task
from morphobench.training.jax.initial_weights import InitialWeights
from morphobench.training.jax.layers import BatchNorm2d, Conv2d, Linear

__all__ = ["Classifier", "Operator", "Segmenter", "SpatialBlock", "build", "describe"]

Operator = Callable[[int, int, Mapping[str, Any]], eqx.Module]
MakeOperator = Callable[[int], Any]
State = eqx.nn.State
Mixing = tuple[Conv2d, BatchNorm2d]


def build(task: Task, operator: Operator, params: Mapping[str, Any]) -> eqx.Module:
    """Return the backbone of a task around a spatial operator; see `morphobench.training.torch.backbones.build`.

    Parameters
    ----------
    operator : callable
        ``operator(channels, kernel_size, params)`` returns an Equinox module that maps (N, C, H, W) to the same shape.
    params : mapping
        As in PyTorch, and ``stream``, the `InitialWeights` that layers draw their first weights from.

    Raises
    ------
    InvalidPlugin
        If there is no backbone for the kind of task, or the operator does not return a module.
    """
    kernel_size, width, stream = int(params.get("kernel_size", 3)), int(params.get("width", 8)), params["stream"]

    def make(channels: int) -> Any:
        module = operator(channels, kernel_size, params)
        if not isinstance(module, eqx.Module) or not callable(module):
            raise InvalidPlugin(
                f"operator(channels, kernel_size, params) returned {type(module).__name__}, expected an equinox.Module "
                "that can be called"
            )
        return module

    if task.kind in ("classification", "ordinal", "multilabel"):
        blocks = params.get("blocks", (1, 1, 2))
        return Classifier(task.input_shape[0], task.outputs, make, width, blocks, stream=stream)
    if task.kind in ("segmentation", "restoration"):
        return Segmenter(task.input_shape[0], task.outputs, make, width, stream=stream)
    raise InvalidPlugin(f"no backbone for {task.kind}: give build(task, params) instead of operator(...)")


def mixing(inputs: int, outputs: int, stream: InitialWeights) -> Mixing:
    """Return the layers that mix the channels of each pixel: 1x1 convolution and batch norm; `mix` applies them."""
    return Conv2d(inputs, outputs, 1, bias=False, stream=stream), BatchNorm2d(outputs)


def mix(layers: Mixing, x: jax.Array, state: State) -> tuple[jax.Array, State]:
    """Map (N, inputs, H, W) to (N, outputs, H, W): convolution, batch norm, ReLU."""
    convolution, norm = layers
    y, state = norm(convolution(x), state)
    return jax.nn.relu(y), state


class SpatialBlock(eqx.Module):
    """The operator on each channel, then the mixing of the channels; arguments as in `morphobench.training.torch.backbones`."""

    operator: Callable[[jax.Array], jax.Array]
    mixing: Mixing
    pool: bool = eqx.field(static=True)

    def __init__(
        self, make_operator: MakeOperator, inputs: int, outputs: int, pool: bool = False, *, stream: InitialWeights
    ):
        self.operator = make_operator(inputs)
        self.mixing = mixing(inputs, outputs, stream)
        self.pool = pool

    def __call__(self, x: jax.Array, state: State) -> tuple[jax.Array, State]:
        """Map (N, inputs, H, W) to (N, outputs, H, W), with pooling (N, outputs, ceil(H / 2), ceil(W / 2))."""
        y = self.operator(x)
        if y.shape != x.shape:
            raise InvalidPlugin(f"the spatial operator maps {x.shape} to {y.shape}, expected the same shape")
        return mix(self.mixing, halve(y) if self.pool else y, state)


class Classifier(eqx.Module):
    """Spatial blocks at several resolutions, global average, linear scores; arguments as in `morphobench.training.torch.backbones`."""

    stem: Conv2d
    blocks: tuple[SpatialBlock, ...]
    scores: Linear

    def __init__(
        self,
        inputs: int,
        outputs: int,
        make_operator: MakeOperator,
        width: int = 8,
        blocks: Sequence[int] = (1, 1, 2),
        *,
        stream: InitialWeights,
    ):
        self.stem = Conv2d(inputs, width, 1, stream=stream)
        stages: list[SpatialBlock] = []
        for level, count in enumerate(blocks):
            last, channels = level == len(blocks) - 1, width * 2**level
            stages += [SpatialBlock(make_operator, channels, channels, stream=stream) for _ in range(count - 1)]
            after = channels if last else 2 * channels
            stages.append(SpatialBlock(make_operator, channels, after, pool=not last, stream=stream))
        self.blocks = tuple(stages)
        self.scores = Linear(width * 2 ** (len(blocks) - 1), outputs, stream=stream)

    def __call__(self, x: jax.Array, state: State) -> tuple[jax.Array, State]:
        """Map (N, inputs, H, W) to scores (N, outputs)."""
        x = self.stem(x)
        for block in self.blocks:
            x, state = block(x, state)
        return self.scores(x.mean((2, 3))), state


class Segmenter(eqx.Module):
    """Encoder and decoder over three resolutions with skip connections; arguments as in `morphobench.training.torch.backbones`."""

    stem: Conv2d
    encoder: tuple[SpatialBlock, ...]
    bottom: tuple[SpatialBlock, ...]
    merge: tuple[Mixing, ...]
    decoder: tuple[SpatialBlock, ...]
    scores: Conv2d

    def __init__(
        self, inputs: int, outputs: int, make_operator: MakeOperator, width: int = 8, *, stream: InitialWeights
    ):
        fine, middle, coarse = width, 2 * width, 4 * width

        def block(inputs: int, outputs: int) -> SpatialBlock:
            return SpatialBlock(make_operator, inputs, outputs, stream=stream)

        self.stem = Conv2d(inputs, fine, 1, stream=stream)
        self.encoder = (block(fine, fine), block(fine, middle))
        self.bottom = (block(middle, coarse), block(coarse, middle))
        self.merge = (mixing(2 * fine, fine, stream), mixing(2 * middle, middle, stream))
        self.decoder = (block(fine, fine), block(middle, fine))
        self.scores = Conv2d(fine, outputs, 1, stream=stream)

    def __call__(self, x: jax.Array, state: State) -> tuple[jax.Array, State]:
        """Map (N, inputs, H, W) to scores (N, outputs, H, W)."""
        skips = []
        x = self.stem(x)
        for level, block in enumerate(self.encoder):
            x, state = block(halve(x) if level else x, state)
            skips.append(x)
        x = halve(x)
        for block in self.bottom:
            x, state = block(x, state)
        for level in reversed(range(len(skips))):
            skip = skips[level]
            x, state = mix(self.merge[level], jnp.concatenate([skip, double(x, skip.shape[2:])], axis=1), state)
            x, state = self.decoder[level](x, state)
        return self.scores(x), state


def halve(x: jax.Array) -> jax.Array:
    """Average 2x2 pixels; the last row and column of an odd size are averaged over the pixels there are."""
    h, w = x.shape[2:]
    # The mean of a pixel and its copy is the pixel.
    x = jnp.pad(x, ((0, 0), (0, 0), (0, h % 2), (0, w % 2)), mode="edge")
    upper, lower = x[:, :, ::2], x[:, :, 1::2]
    return (upper[..., ::2] + upper[..., 1::2] + lower[..., ::2] + lower[..., 1::2]) / 4


def double(x: jax.Array, size: Sequence[int]) -> jax.Array:
    """Repeat each pixel 2x2 times and cut to ``size``."""
    n, c, h, w = x.shape
    x = jnp.broadcast_to(x[:, :, :, None, :, None], (n, c, h, 2, w, 2)).reshape(n, c, 2 * h, 2 * w)
    return x[:, :, : size[0], : size[1]]


def describe(module: Any) -> dict[str, np.ndarray]:
    """Return the structuring functions, weights and levels of a module, as `morphobench.training.torch.backbones.describe` does."""
    learned: dict[str, np.ndarray] = {}
    for path, part in _modules(module):
        own = {name: np.asarray(value) for name, value in vars(part).items() if eqx.is_array(value)}
        if "bias" in own and own["bias"].ndim == 3:
            learned[f"{path}:bias"] = own["bias"]
        if "log_weight" in own:
            learned[f"{path}:weight"] = np.exp(own["log_weight"])
        for name in ("logit_level", "logit_levels"):
            if name in own:
                learned[f"{path}:level"] = 1 / (1 + np.exp(-own[name]))
        if isinstance(part, Conv2d) and part.groups == len(own["weight"]) > 1 and own["weight"].shape[-1] > 1:
            learned[f"{path}:weight"] = own["weight"].reshape(-1, *own["weight"].shape[2:])
    return learned


def _modules(tree: Any, path: str = "") -> Iterator[tuple[str, eqx.Module]]:
    """Yield every module with its path, whatever containers lie between."""
    children: Iterable[tuple[Any, Any]] = ()
    if isinstance(tree, eqx.Module):
        yield path, tree
        children = vars(tree).items()
    elif isinstance(tree, list | tuple):
        children = enumerate(tree)
    elif isinstance(tree, dict):
        children = tree.items()
    for name, child in children:
        yield from _modules(child, f"{path}.{name}" if path else str(name))
