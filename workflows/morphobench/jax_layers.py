"""The few layers that the backbones are made of, as Equinox modules that start, compute and are named as PyTorch's.

All map batches (N, C, H, W), unlike those of `equinox.nn`, which map one image.
"""

from __future__ import annotations

from itertools import product

import equinox as eqx
import jax
import jax.numpy as jnp

from morphobench.initial_weights import InitialWeights

__all__ = ["BatchNorm2d", "Conv2d", "Linear"]


class Linear(eqx.Module):
    """Affine map of the last dimension, as ``torch.nn.Linear``.

    Parameters
    ----------
    inputs, outputs : int
        Size of the last dimension before and after.
    stream : InitialWeights
        Where the first weights come from.
    """

    weight: jax.Array
    bias: jax.Array

    def __init__(self, inputs: int, outputs: int, *, stream: InitialWeights):
        weight, bias = stream.layer((outputs, inputs))
        self.weight, self.bias = jnp.asarray(weight), jnp.asarray(bias)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (..., inputs) to (..., outputs)."""
        return x @ self.weight.T + self.bias


class Conv2d(eqx.Module):
    """Convolution that keeps the size of the image, as ``torch.nn.Conv2d(..., padding="same")``.

    Parameters
    ----------
    inputs, outputs : int
        Number of channels before and after.
    kernel_size : int
        Side of the window, odd.
    groups : int
        Groups of channels that are convolved apart; ``groups=inputs=outputs`` is a depthwise convolution.
    bias : bool
        Whether each output has a constant.
    stream : InitialWeights
        Where the first weights come from.
    """

    weight: jax.Array
    bias: jax.Array | None
    groups: int = eqx.field(static=True)

    def __init__(
        self, inputs: int, outputs: int, kernel_size: int, *, groups: int = 1, bias: bool = True, stream: InitialWeights
    ):
        if kernel_size % 2 == 0 or inputs % groups or outputs % groups:
            raise ValueError(
                "expected an odd kernel_size and groups that divide inputs and outputs; found "
                f"kernel_size {kernel_size}, groups {groups}, inputs {inputs}, outputs {outputs}"
            )
        weight, offset = stream.layer((outputs, inputs // groups, kernel_size, kernel_size), bias)
        self.weight, self.bias = jnp.asarray(weight), None if offset is None else jnp.asarray(offset)
        self.groups = groups

    def __call__(self, x: jax.Array) -> jax.Array:
        """Map (N, inputs, H, W) to (N, outputs, H, W)."""
        outputs, inputs, *window = self.weight.shape
        if window == [1, 1] and self.groups == 1:
            y = self._mix(x)
        elif self.groups == outputs and inputs == 1:
            y = self._filter(x)
        else:
            y = jax.lax.conv_general_dilated(x, self.weight, (1, 1), "SAME", feature_group_count=self.groups)
        return y if self.bias is None else y + self.bias[:, None, None]

    def _mix(self, x: jax.Array) -> jax.Array:
        """Mix the channels of each pixel by a product of matrices: XLA's convolution takes longer on processors."""
        n, c, h, w = x.shape
        return (self.weight[:, :, 0, 0] @ x.reshape(n, c, h * w)).reshape(n, -1, h, w)

    def _filter(self, x: jax.Array) -> jax.Array:
        """Sum shifted images: XLA's convolution of single channels takes tens of times as long on processors."""
        side = self.weight.shape[-1]
        h, w = x.shape[2:]
        padded = jnp.pad(x, ((0, 0), (0, 0), (side // 2, side // 2), (side // 2, side // 2)))
        y = jnp.zeros_like(x)
        for row, column in product(range(side), repeat=2):
            shifted = padded[:, :, row : row + h, column : column + w]
            y += self.weight[:, 0, row, column, None, None] * shifted
        return y


class BatchNorm2d(eqx.Module):
    """Batch normalisation, as ``torch.nn.BatchNorm2d``.

    In training by mean and variance of the batch, in inference by their running averages. These are state
    (`equinox.nn.State`): given with the images and given back.

    Parameters
    ----------
    channels : int
        Number of channels.

    Attributes
    ----------
    inference : bool
        Changed by `equinox.nn.inference_mode`.
    """

    weight: jax.Array
    bias: jax.Array
    running_mean: eqx.nn.StateIndex
    running_var: eqx.nn.StateIndex
    num_batches_tracked: eqx.nn.StateIndex
    inference: bool

    momentum = 0.1
    epsilon = 1e-5

    def __init__(self, channels: int):
        self.weight, self.bias = jnp.ones(channels), jnp.zeros(channels)
        self.running_mean = eqx.nn.StateIndex(jnp.zeros(channels))
        self.running_var = eqx.nn.StateIndex(jnp.ones(channels))
        self.num_batches_tracked = eqx.nn.StateIndex(jnp.zeros((), int))
        self.inference = False

    def __call__(self, x: jax.Array, state: eqx.nn.State) -> tuple[jax.Array, eqx.nn.State]:
        """Map (N, channels, H, W) to the same shape, and the state to the next one."""
        if self.inference:
            mean, variance = state.get(self.running_mean), state.get(self.running_var)
        else:
            mean = x.mean((0, 2, 3))
            variance = jnp.square(x - mean[:, None, None]).mean((0, 2, 3))
            state = self._moved(state, mean, variance, x.size // x.shape[1])
        scale = self.weight * jax.lax.rsqrt(variance + self.epsilon)
        return x * scale[:, None, None] + (self.bias - mean * scale)[:, None, None], state

    def _moved(self, state: eqx.nn.State, mean: jax.Array, variance: jax.Array, count: int) -> eqx.nn.State:
        """Move the running averages towards the moments of a batch; the variance kept is the unbiased one."""
        unbiased = variance * (count / (count - 1)) if count > 1 else variance
        for index, value in ((self.running_mean, mean), (self.running_var, unbiased)):
            moved = (1 - self.momentum) * state.get(index) + self.momentum * value
            state = state.set(index, jax.lax.stop_gradient(moved))
        return state.set(self.num_batches_tracked, state.get(self.num_batches_tracked) + 1)
