"""The few layers that the backbones are made of, as Equinox modules that start, compute and are named as PyTorch's.

All map batches (N, C, H, W), unlike those of `equinox.nn`, which map one image.
"""

from __future__ import annotations

from itertools import product

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from morphobench.training.jax.initial_weights import InitialWeights

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
            y = depthwise(x, self.weight[:, 0])
        else:
            y = jax.lax.conv_general_dilated(x, self.weight, (1, 1), "SAME", feature_group_count=self.groups)
        return y if self.bias is None else y + self.bias[:, None, None]

    def _mix(self, x: jax.Array) -> jax.Array:
        """Mix the channels of each pixel by a product of matrices: XLA's convolution takes longer on processors."""
        n, c, h, w = x.shape
        return (self.weight[:, :, 0, 0] @ x.reshape(n, c, h * w)).reshape(n, -1, h, w)


@jax.custom_vjp
def depthwise(x: jax.Array, kernels: jax.Array) -> jax.Array:
    """Correlate each channel of (N, C, H, W) with its kernel (C, side, side), the image being zero outside.

    A sum of shifted images: XLA's convolution of single channels takes tens of times as long on processors.
    """
    y = jnp.zeros_like(x)
    for kernel, shifted in zip(kernels.reshape(len(kernels), -1).T, _shifts(x, kernels.shape[-1]), strict=True):
        y += kernel[:, None, None] * shifted
    return y


def _shifts(x: jax.Array, side: int) -> list[jax.Array]:
    """Return the image as each pixel of the window sees it, row by row of the window."""
    (h, w), margin = x.shape[2:], (side // 2, side // 2)
    padded = jnp.pad(x, ((0, 0), (0, 0), margin, margin))
    return [padded[:, :, row : row + h, column : column + w] for row, column in product(range(side), repeat=2)]


def _depthwise_forward(x: jax.Array, kernels: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return depthwise(x, kernels), (x, kernels)


def _depthwise_backward(kept: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernels = kept
    products = tuple(shifted * gradient for shifted in _shifts(x, kernels.shape[-1]))
    # One reduction that makes all sums in one pass: XLA's own gradient passes over the image for each of them, which takes a
    # training step of 64x64 pixels to thrice its time.
    zeros = (np.zeros((), x.dtype),) * len(products)
    sums = jax.lax.reduce(products, zeros, lambda a, b: tuple(map(jax.lax.add, a, b)), (2, 3))
    return depthwise(gradient, kernels[:, ::-1, ::-1]), jnp.stack(sums, axis=-1).sum(0).reshape(kernels.shape)


depthwise.defvjp(_depthwise_forward, _depthwise_backward)


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
        # Made by NumPy, since jnp.ones would compile a program for every shape.
        ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
        self.weight, self.bias = jnp.asarray(ones), jnp.asarray(zeros)
        self.running_mean = eqx.nn.StateIndex(jnp.asarray(zeros))
        self.running_var = eqx.nn.StateIndex(jnp.asarray(ones))
        self.num_batches_tracked = eqx.nn.StateIndex(jnp.asarray(np.int32(0)))
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
