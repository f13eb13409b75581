"""Geodesic reconstruction: against scikit-image and the specification, and its gradient by provenance."""

import numpy as np
import pytest
import torch
from skimage import morphology

import varmorph.torch
from varmorph import reference
from varmorph.torch import closing, fill_holes, h_convex, h_maxima, h_minima, opening_by_reconstruction, reconstruction

FOOTPRINTS = {8: np.ones((3, 3)), 4: np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])}


def images(seed, plateaus, shape=(2, 2, 9, 11)):
    """Return marker and mask; whole numbers make plateaus, on which values say nothing about where they came from."""
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 5, shape).astype(float) if plateaus else rng.standard_normal(shape)
    drop = rng.integers(-1, 4, shape) if plateaus else rng.exponential(1.0, shape) - 0.1
    return mask - drop, mask


def structuring_function(seed, size=(3, 3)):
    bias = -np.random.default_rng(seed).exponential(0.3, (2, *size))
    bias[:, size[0] // 2, size[1] // 2] = 0
    bias[0, 0, 0] = -np.inf
    return bias


every_kind = pytest.mark.parametrize("plateaus", [True, False], ids=["plateaus", "generic"])


@every_kind
@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("seed", range(4))
def test_it_equals_scikit_image(plateaus, connectivity, seed):
    marker, mask = images(seed, plateaus)
    marker = np.minimum(marker, mask)  # scikit-image refuses what lies above
    for sign, by in ((1, "dilation"), (-1, "erosion")):
        found = reconstruction(*map(torch.from_numpy, (sign * marker, sign * mask)), by=by, connectivity=connectivity)
        for n, c in np.ndindex(2, 2):
            expected = morphology.reconstruction(
                sign * marker[n, c], sign * mask[n, c], method=by, footprint=FOOTPRINTS[connectivity]
            )
            np.testing.assert_array_equal(found[n, c].numpy(), expected)


@every_kind
@pytest.mark.parametrize("size", [(3, 3), (2, 3), (1, 5), (5, 4)])
@pytest.mark.parametrize("by", ["dilation", "erosion"])
def test_it_equals_the_specification(plateaus, size, by):
    marker, mask = images(0, plateaus)
    for bias in (None, structuring_function(1, size)):
        found = reconstruction(
            torch.from_numpy(marker), torch.from_numpy(mask), None if bias is None else torch.from_numpy(bias), by=by
        )
        np.testing.assert_array_equal(found.numpy(), reference.reconstruction(marker, mask, bias, by=by))


@pytest.mark.parametrize("by", ["dilation", "erosion"])
def test_the_gradient_equals_central_differences(by):
    sign = 1 if by == "dilation" else -1
    marker, mask = (sign * image for image in images(2, False, (1, 2, 5, 6)))
    arguments = [marker, mask, structuring_function(3)]
    leaves = [torch.from_numpy(argument).requires_grad_() for argument in arguments]
    cotangent = np.random.default_rng(4).standard_normal(mask.shape)
    gradients = torch.autograd.grad(reconstruction(*leaves, by=by), leaves, torch.from_numpy(cotangent))
    assert all(gradient.any() for gradient in gradients)
    for i, (argument, gradient) in enumerate(zip(arguments, gradients, strict=True)):
        numerical = np.zeros_like(argument)
        for place in np.ndindex(argument.shape):
            if i == 2 and argument[place] in (0, -np.inf):  # the origin is fixed, the other is left out
                continue
            step = np.zeros_like(argument)
            step[place] = 1e-7
            ahead, behind = (
                reference.reconstruction(*arguments[:i], argument + s * step, *arguments[i + 1 :], by=by)
                for s in (1, -1)
            )
            numerical[place] = (cotangent * (ahead - behind)).sum() / 2e-7
        np.testing.assert_allclose(gradient.numpy(), numerical, atol=1e-6)


@every_kind
@pytest.mark.parametrize("with_bias", [True, False])
def test_every_pixel_is_a_copy_of_one_pixel(plateaus, with_bias):
    marker, mask = (torch.from_numpy(image[:1, :1, :5, :6]).requires_grad_() for image in images(5, plateaus))
    bias = torch.from_numpy(structuring_function(6)[1:]) if with_bias else None
    y = reconstruction(marker, mask, bias)
    for place in np.ndindex(y.shape):
        by_marker, by_mask = torch.autograd.grad(y[place], (marker, mask), retain_graph=True)
        both = torch.cat([by_marker.flatten(), by_mask.flatten()])
        assert sorted(both.unique().tolist()) == [0, 1]
        assert both.sum() == 1
        origin = torch.cat([marker.flatten(), mask.flatten()])[both.bool()]
        assert origin >= y[place]
        assert with_bias or origin == y[place]


@pytest.mark.parametrize("seed", range(5))
def test_laws(seed):
    marker, mask = map(torch.from_numpy, images(seed, seed % 2 == 0))
    bias = torch.from_numpy(structuring_function(seed))
    y = reconstruction(marker, mask, bias)
    assert (y <= mask).all()
    assert (y >= torch.minimum(marker, mask)).all()
    assert torch.equal(reconstruction(y, mask, bias), y)
    assert (reconstruction(marker + 0.5, mask, bias) >= y).all()
    assert torch.equal(reconstruction(mask, mask, bias), mask)
    assert torch.equal(-reconstruction(-marker, -mask, bias, by="erosion"), y)


def test_a_long_path_is_followed_and_counted():
    length = 300
    mask, marker = torch.full((1, 1, 1, length), 2.0), torch.zeros(1, 1, 1, length)
    marker[..., 0] = 1.0
    step = torch.tensor([[-1e-3, 0.0, -torch.inf]], requires_grad=True)  # looks left: values run to the right
    marker.requires_grad_()
    y = reconstruction(marker, mask, step)
    by_marker, by_step = torch.autograd.grad(y[..., -1].sum(), (marker, step))
    assert by_marker.flatten().nonzero().flatten().tolist() == [0]
    assert by_step.tolist() == [[length - 1, 0, 0]]


def test_domes_and_basins():
    x = torch.tensor([[[[0.0, 5.0, 1.0, 2.0, 0.0, 7.0]]]])
    assert h_maxima(x, 2.0).flatten().tolist() == [0, 3, 1, 1, 0, 5]
    assert h_convex(x, 2.0).flatten().tolist() == [0, 2, 0, 1, 0, 2]
    assert torch.equal(h_minima(x, 2.0), -h_maxima(-x, 2.0))


@every_kind
@pytest.mark.parametrize("connectivity", [4, 8])
def test_regional_maxima_are_those_of_scikit_image(plateaus, connectivity):
    _, x = images(7, plateaus, (3, 2, 9, 11))
    found = varmorph.torch.regional_maxima(torch.from_numpy(x), connectivity=connectivity).numpy()
    for n, c in np.ndindex(3, 2):
        expected = morphology.local_maxima(x[n, c], connectivity=1 if connectivity == 4 else 2)
        np.testing.assert_array_equal(found[n, c], expected)


def test_extended_maxima_are_the_domes_that_are_high_enough():
    x = torch.tensor([[[[0.0, 5.0, 4.0, 5.0, 0.0, 1.0, 0.0, 7.0]]]])
    found = varmorph.torch.extended_maxima(x, 2.0)
    assert found.flatten().tolist() == [False, True, True, True, False, False, False, True]


def test_opening_by_reconstruction_keeps_whole_what_it_keeps():
    x = torch.zeros(1, 1, 8, 12)
    x[..., 1:7, 1:7] = 1
    x[..., 3, 7:9] = 1  # a spur on the square
    x[..., 4, 10] = 1  # a speck
    flat = torch.zeros(3, 3)
    y = opening_by_reconstruction(x, flat, connectivity=4)
    expected = x.clone()
    expected[..., 4, 10] = 0
    assert torch.equal(y, expected)
    assert torch.equal(varmorph.torch.closing_by_reconstruction(-x, flat, connectivity=4), -expected)


def test_holes_are_filled_and_bays_are_not():
    x = torch.zeros(1, 1, 7, 9)
    x[..., 1:6, 1:6] = 1
    x[..., 3, 3] = 0  # a hole
    x[..., 2, 5] = 0  # a bay
    filled = x.clone()
    filled[..., 3, 3] = 1
    assert torch.equal(fill_holes(x), filled)
    assert torch.equal(closing(fill_holes(x), torch.zeros(1, 1)), filled)


def test_types_and_empty_batches():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        x = torch.rand(1, 1, 4, 4).to(dtype)
        assert reconstruction(x - 0.5, x).dtype == dtype
    empty = torch.zeros(0, 2, 4, 4, requires_grad=True)
    y = reconstruction(empty - 1, empty)
    assert y.shape == (0, 2, 4, 4)
    assert torch.autograd.grad(y.sum(), empty)[0].shape == (0, 2, 4, 4)


X = torch.zeros(1, 2, 4, 4)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((X, X[:, :1]), {}, r"marker and mask must have one shape, found \(1, 2, 4, 4\) and \(1, 1, 4, 4\)"),
        ((X[0], X), {}, r"marker must have shape \(N, C, H, W\)"),
        ((X, X), {"by": "opening"}, "by must be 'dilation' or 'erosion', found 'opening'"),
        ((X, X), {"connectivity": 6}, "connectivity must be 4 or 8, found 6"),
        ((X, X, torch.ones(3, 3)), {}, "bias of a reconstruction must be <= 0"),
        ((X, X, -torch.ones(3, 3)), {}, "and 0 at its origin"),
    ],
)
def test_wrong_input_is_named(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        reconstruction(*arguments, **options)


@every_kind
@pytest.mark.parametrize("backend", ["tensor", "cpu"])
def test_its_gradient_is_that_of_the_specification(plateaus, backend):
    marker, mask = images(0, plateaus)
    arrays = marker, mask, structuring_function(3)
    cotangent = np.random.default_rng(1).standard_normal(mask.shape)
    leaves = [torch.from_numpy(array).requires_grad_() for array in arrays]
    with varmorph.torch.backend(backend):
        found = torch.autograd.grad(reconstruction(*leaves), leaves, torch.from_numpy(cotangent))
    for gradient, expected in zip(found, reference.reconstruction_gradient(*arrays, cotangent), strict=True):
        np.testing.assert_allclose(gradient.numpy(), expected, atol=1e-12)


def test_the_specification_refuses_to_follow_what_is_no_number():
    with pytest.raises(ValueError, match="must be numbers"):
        reference.reconstruction_sources([[[[0.0, np.nan]]]], [[[[1.0, 1.0]]]], [[0.0, 0.0, 0.0]])
