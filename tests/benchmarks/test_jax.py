"""How JAX's half compares with what it replaces and with PyTorch's: see `test_bars`. Compilation is not timed."""

from functools import reduce

import numpy as np
import pytest
import torch
from by_position import by_position

import varmorph.torch

jax = pytest.importorskip("jax", reason="jax is not installed")
pytest.importorskip("equinox", reason="equinox is not installed")

import varmorph.jax  # noqa: E402

LEVEL, COUPLING = 3.0, 1.0
LAYERS = sorted(
    name for name in varmorph.jax.__all__ if name[0].isupper() and name.endswith("2d") and not name.endswith("Conv2d")
)


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
    peers = {"the same in PyTorch": in_torch(by_position(varmorph.torch.variational_dilation), arrays)}
    against(
        in_jax(by_position(varmorph.jax.variational_dilation), arrays), peers, operator="variational_dilation in JAX", window=3,
        shape=arrays[0].shape, phase="forward and backward", bar=3.0,
    )  # fmt: skip


def test_regularised_dilation_in_jax(against, arrays):
    image, *rest = arrays
    coupling = np.full(rest[-1].shape, COUPLING, np.float32)

    def solved(library):
        return lambda *leaves: by_position(library.regularised_dilation)(*leaves).value

    peers = {"the same in PyTorch": in_torch(solved(varmorph.torch), (image, *rest, coupling))}
    against(
        in_jax(solved(varmorph.jax), (image, *rest, coupling)), peers, operator="regularised_dilation in JAX", window=3,
        shape=image.shape, phase="forward and backward", bar=1.5,
    )  # fmt: skip


def relaxation(image, coupling):
    """One sweep of reweighted relaxation for a flat window, as one would write it for a fixed-point solver."""
    around = ((0, 0), (0, 0), (1, 1), (1, 1))
    padded, tau = jax.numpy.pad(image, around, constant_values=np.nan), 1 / (1 + np.exp(-LEVEL))
    height, width = image.shape[2:]
    seen = jax.numpy.stack([padded[..., i : i + height, j : j + width] for i in range(3) for j in range(3)])
    values, inside = jax.numpy.nan_to_num(seen), ~jax.numpy.isnan(seen)
    beside = jax.numpy.pad(jax.numpy.ones((height, width)), 1)
    count = beside[:-2, 1:-1] + beside[2:, 1:-1] + beside[1:-1, :-2] + beside[1:-1, 2:]

    def sweep(z, _=None):
        weights = inside * jax.numpy.where(values >= z, tau, 1 - tau)
        wide = jax.numpy.pad(z, around)
        neighbours = wide[..., :-2, 1:-1] + wide[..., 2:, 1:-1] + wide[..., 1:-1, :-2] + wide[..., 1:-1, 2:]
        return ((weights * values).sum(0) + coupling * neighbours) / (weights.sum(0) + coupling * count)

    return sweep


@pytest.mark.filterwarnings("ignore")  # of the libraries, about their own dependencies
@pytest.mark.parametrize("coupling", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("library", ["jaxopt", "optimistix"])
def test_a_fixed_point_of_another_library(against, timed, library, coupling):
    """The sweeps of relaxation to the same greatest movement, 1e-6 of the range; both stop all images at once."""
    peer = pytest.importorskip(library, reason=f"{library} is not installed")
    shape = (4, 2, 64, 64) if timed else (1, 1, 8, 8)
    image = np.random.default_rng(0).standard_normal(shape, np.float32)
    start, accuracy = jax.numpy.asarray(image), 1e-6 * float(np.ptp(image))
    sweep = relaxation(start, coupling)
    if library == "jaxopt":  # stops by the sum of squares
        solver = peer.FixedPointIteration(sweep, maxiter=5000, tol=accuracy * image.size**0.5, implicit_diff=False)
        solve = jax.jit(lambda z: solver.run(z).params)
    else:
        method = peer.FixedPointIteration(rtol=0.0, atol=accuracy, norm=peer.max_norm)
        solve = jax.jit(lambda z: peer.fixed_point(sweep, method, z, max_steps=5000).value)
    flat = jax.numpy.zeros((3, 3))
    ours = jax.jit(lambda x: varmorph.jax.regularised_dilation(x, flat, LEVEL, coupling))
    solution = ours(start)
    assert solution.certificate.forward.converged.all()
    assert abs(solve(start) - solution.value).max() <= 2e-3 * np.ptp(image)  # a small movement may be far from the end
    against(
        lambda: jax.block_until_ready(ours(start)), {f"{library}, coupling {coupling:g}": lambda: jax.block_until_ready(solve(start))},
        operator=f"regularised_dilation in JAX, coupling {coupling:g}", window=3, shape=shape, phase="forward", bar=1.0,
    )  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_compilation_of_a_layer(measure, timed, name):
    """Seconds that `jit` takes for a layer and its gradients; XLA compiles anew each time."""
    make = getattr(varmorph.jax, name)
    layer = make(2) if name in ("HMaxima2d", "Leveling2d", "Reconstruction2d") else make(2, 3)
    image = jax.numpy.zeros((2, 2, 32, 32) if timed else (1, 2, 5, 5))
    images = (image, image) if name in ("Leveling2d", "Reconstruction2d") else (image,)

    def compilation():
        gradients = jax.jit(jax.grad(lambda layer, *images: layer(*images).sum(), (0, 1)))
        jax.clear_caches()
        return gradients.lower(layer, *images).compile()

    info = {"operator": f"{name} in JAX", "implementation": "varmorph, XLA", "phase": "compilation", "window": [3, 3]}
    measure(compilation, once=True, **info, shape=list(image.shape), threads=torch.get_num_threads())
