"""Reconstruction, what is built on it, and levelings in PyTorch, JAX and the reference: values, gradients, ties."""

import numpy as np
import pytest

from varmorph import reference

jax = pytest.importorskip("jax", reason="jax is not installed")
torch = pytest.importorskip("torch", reason="torch is not installed")

import varmorph.jax  # noqa: E402
import varmorph.torch  # noqa: E402

every_backend = pytest.mark.parametrize("backend", ["cpu", "xla"])
every_draw = pytest.mark.parametrize("ties", [False, True], ids=["generic", "ties"])


def draw(ties):
    """Marker, mask and offsets; whole numbers have plateaus and ties."""
    rng = np.random.default_rng(0)
    marker, mask = (rng.integers(0, 4, (2, 2, 7, 8)) if ties else rng.standard_normal((2, 2, 7, 8)) for _ in range(2))
    offsets = -rng.integers(0, 2, (2, 3, 3)) if ties else -0.3 * rng.random((2, 3, 3))
    offsets = offsets.astype(float)
    offsets[:, 1, 1], offsets[1, 0, 2] = 0, -np.inf
    return marker.astype(float), mask.astype(float), offsets


def assert_same(function, arrays, backend, **options):
    """Values and gradients are those of plain tensor code; returns the values."""
    leaves = [torch.tensor(array, requires_grad=True) for array in arrays]
    with varmorph.torch.backend("tensor"):
        expected = getattr(varmorph.torch, function)(*leaves, **options)
    cotangent = np.random.default_rng(1).standard_normal(expected.shape)
    gradients = torch.autograd.grad(expected, leaves, torch.tensor(cotangent), allow_unused=True)

    @jax.jit
    def value_and_gradients(*arrays):
        with varmorph.jax.backend(backend):
            y, pullback = jax.vjp(lambda *a: getattr(varmorph.jax, function)(*a, **options), *arrays)
            return y, pullback(cotangent)

    y, found = value_and_gradients(*arrays)
    np.testing.assert_array_equal(y, expected.detach())
    for ours, theirs in zip(found, gradients, strict=True):
        np.testing.assert_allclose(ours, np.zeros(ours.shape) if theirs is None else theirs, rtol=0, atol=1e-10)
    return y


@every_backend
@every_draw
@pytest.mark.parametrize("by", ["dilation", "erosion"])
def test_reconstruction(by, ties, backend):
    marker, mask, offsets = draw(ties)
    y = assert_same("reconstruction", (marker, mask, offsets), backend, by=by)
    np.testing.assert_allclose(y, reference.reconstruction(marker, mask, offsets, by=by), rtol=0, atol=1e-12)
    y = assert_same("reconstruction", (marker, mask), backend, by=by, connectivity=4)
    np.testing.assert_array_equal(y, reference.reconstruction(marker, mask, by=by, connectivity=4))


@every_backend
@every_draw
@pytest.mark.parametrize("function", ["h_maxima", "h_minima", "h_convex"])
def test_operators_with_a_height(function, ties, backend):
    assert_same(function, (draw(ties)[1], np.array([1.0, 0.5])), backend)


@every_backend
@pytest.mark.parametrize("function", ["opening_by_reconstruction", "closing_by_reconstruction"])
def test_openings_and_closings_by_reconstruction(function, backend):
    assert_same(function, (draw(ties=False)[1], np.zeros((2, 3, 3))), backend)


@every_backend
@every_draw
def test_fill_holes_and_levelings(ties, backend):
    marker, mask, _ = draw(ties)
    assert_same("fill_holes", (mask,), backend)
    y = assert_same("leveling", (marker, mask), backend)
    np.testing.assert_array_equal(y, reference.leveling(marker, mask))


@every_backend
@every_draw
def test_maxima(ties, backend):
    image = draw(ties)[1]
    with varmorph.jax.backend(backend):
        found = [varmorph.jax.regional_maxima(image), varmorph.jax.extended_maxima(image, 1.0)]
    tensor = torch.tensor(image)
    expected = [varmorph.torch.regional_maxima(tensor), varmorph.torch.extended_maxima(tensor, 1.0)]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@every_backend
def test_nan_stays_where_it_is(backend):
    marker, mask, _ = draw(ties=True)
    marker[0, 0, 2, 3], mask[1, 0, 4, 4] = np.nan, np.nan
    assert_same("reconstruction", (marker, mask), backend)
    assert_same("leveling", (marker, mask), backend)


def test_offsets_must_not_lift():
    marker, mask, _ = draw(ties=False)
    with pytest.raises(ValueError, match="bias of a reconstruction must be <= 0"):
        varmorph.jax.reconstruction(marker, mask, np.ones((3, 3)))
