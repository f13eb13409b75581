"""How JAX's half compares with what it replaces and with PyTorch's: see `test_bars`. Compilation is not timed."""

from functools import reduce

import numpy as np
import pytest
import torch

import varmorph.torch

jax = pytest.importorskip("jax", reason="jax is not installed")
pytest.importorskip("equinox", reason="equinox is not installed")

import varmorph.jax  # noqa: E402

LEVEL = 3.0


@pytest.fixture
def arrays(timed, seconds):
    """Image, structuring function, weights and levels, in float32; a smaller batch where little time is given."""
    samples = (32 if seconds >= 0.1 else 2) if timed else 1
    shape, window = ((samples, 16, 64, 64), (16, 3, 3)) if timed else ((1, 2, 8, 8), (2, 3, 3))
    image = np.random.default_rng(0).standard_normal(shape, np.float32)
    function = np.zeros(window, np.float32)
    function[:, 0, 0] = -0.5
    return image, function, np.ones(window, np.float32), np.full(window[0], LEVEL, np.float32)


def in_jax(function, arrays):
    """A call that computes a function and the gradients of all its arguments, compiled."""
    call = jax.jit(lambda cotangent, *arrays: jax.vjp(function, *arrays)[1](cotangent))
    arrays = tuple(map(jax.numpy.asarray, arrays))
    cotangent = jax.numpy.ones_like(arrays[0])
    return lambda: jax.block_until_ready(call(cotangent, *arrays))


def in_torch(function, arrays):
    leaves = [torch.from_numpy(array.copy()).requires_grad_() for array in arrays]
    cotangent = torch.ones_like(leaves[0])
    return lambda: torch.autograd.grad(function(*leaves), leaves, cotangent)


def greatest_of_shifted_images(x, bias):
    """Max-plus dilation as one would write it without this library."""
    (*_, height, width), (_, rows, columns) = x.shape, bias.shape
    around = ((0, 0), (0, 0), (rows // 2, rows // 2), (columns // 2, columns // 2))
    padded = jax.numpy.pad(x, around, constant_values=-np.inf)
    shifts = [(i, j) for i in range(rows) for j in range(columns)]
    return reduce(
        jax.numpy.maximum,
        [padded[..., i : i + height, j : j + width] + bias[:, i, j][:, None, None] for i, j in shifts],
    )


def test_dilation_in_jax(against, arrays):
    image, function, *_ = arrays
    peers = {"reduce(jnp.maximum) in JAX": in_jax(greatest_of_shifted_images, (image, function))}
    against(
        in_jax(varmorph.jax.dilation, (image, function)), peers, operator="dilation in JAX, non-flat", window=3,
        shape=image.shape, phase="forward and backward", bar=0.25,
    )  # fmt: skip


def test_variational_dilation_in_jax(against, arrays):
    peers = {"the same in PyTorch": in_torch(varmorph.torch.variational_dilation, arrays)}
    against(
        in_jax(varmorph.jax.variational_dilation, arrays), peers, operator="variational_dilation in JAX", window=3,
        shape=arrays[0].shape, phase="forward and backward", bar=3.0,
    )  # fmt: skip
