"""Structuring functions: against scikit-image's footprints, in operators and in layers of both frameworks."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import morphology

import varmorph.jax
import varmorph.torch
from varmorph import reference, structuring


@pytest.mark.parametrize("radius", range(8))
@pytest.mark.parametrize("name", ["disk", "diamond"])
def test_footprints_are_those_of_scikit_image(name, radius):
    function = getattr(structuring, name)(radius)
    np.testing.assert_array_equal(function == 0, getattr(morphology, name)(radius) == 1)
    np.testing.assert_array_equal(np.unique(function[function != 0]), [-np.inf] if radius else [])


@pytest.mark.parametrize("size", range(1, 7))
def test_squares_and_crosses(size):
    assert (structuring.square(size) == 0).all()
    inside = structuring.cross(size) == 0
    assert inside.sum() == 2 * size - 1
    assert inside[size // 2].all()
    assert inside[:, size // 2].all()


@pytest.mark.parametrize("length", [1, 3, 7, 15])
@pytest.mark.parametrize("angle", [0, 10, 30, 45, 60, 90, 120, 135, 180, -45, 200.5])
def test_lines_have_their_length_pass_through_the_origin_and_are_symmetric_and_connected(length, angle):
    inside = structuring.line(length, angle) == 0
    assert inside.sum() == length
    assert inside[inside.shape[0] // 2, inside.shape[1] // 2]
    np.testing.assert_array_equal(inside, inside[::-1, ::-1])
    assert ndimage.label(inside, np.ones((3, 3)))[1] == 1
    np.testing.assert_array_equal(inside, structuring.line(length, angle + 180) == 0)
    mirrored = structuring.line(length, -angle) == 0
    np.testing.assert_array_equal(mirrored, inside[::-1])


def test_quadratic_functions_form_a_scale_space():
    small, other = structuring.quadratic(9, 0.5), structuring.quadratic(9, 1.5)
    impulse = np.full((1, 1, 9, 9), -1e9)
    impulse[0, 0, 4, 4] = 0.0
    twice = reference.dilation(reference.dilation(impulse, small), other)[0, 0]
    once = reference.dilation(impulse, structuring.quadratic(9, 2.0))[0, 0]
    # on a grid the two steps stay below the one, and meet it where the way divides into whole pixels
    assert (twice <= once + 1e-12).all()
    np.testing.assert_allclose(twice[4, ::4], once[4, ::4])


@pytest.mark.parametrize("window", [(3, 3), (4, 3), (2, 4), (1, 1), (1, 6)])
def test_a_mirrored_function_turns_erosion_and_dilation_into_each_other(window):
    rng = np.random.default_rng(0)
    image, function = rng.random((1, 1, 7, 8)), rng.random(window)
    turned = structuring.mirrored(function)
    np.testing.assert_array_equal(reference.dilation(image, turned), -reference.erosion(-image, function))
    np.testing.assert_array_equal(reference.erosion(image, turned), -reference.dilation(-image, function))


def test_odd_windows_are_mirrored_in_both_axes():
    function = np.random.default_rng(0).random((3, 5))
    np.testing.assert_array_equal(structuring.mirrored(function), function[::-1, ::-1])


def test_a_function_of_one_axis_is_not_mirrored():
    with pytest.raises(ValueError, match=r"shape \(kh, kw\), found \(3,\)"):
        structuring.mirrored(np.zeros(3))


def test_a_flat_function_is_that_of_other_libraries():
    image = np.random.default_rng(0).random((9, 11))
    footprint = morphology.disk(2)
    found = reference.dilation(image[None, None], structuring.flat(footprint))[0, 0]
    np.testing.assert_array_equal(
        found, ndimage.grey_dilation(image, footprint=footprint, mode="constant", cval=-np.inf)
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: structuring.flat([0, 1]), r"footprint must have shape \(kh, kw\).*found \(2,\)"),
        (lambda: structuring.flat(np.zeros((3, 3))), "footprint must have"),
        (lambda: structuring.disk(1.5), "radius must be an integer >= 0, found 1.5"),
        (lambda: structuring.diamond(-1), "radius must be an integer >= 0, found -1"),
        (lambda: structuring.square(0), "side must be a positive integer, found 0"),
        (lambda: structuring.cross(True), "size must be a positive integer, found True"),
        (lambda: structuring.line(4, 0), "length must be odd, found 4"),
        (lambda: structuring.line(3, np.inf), "angle must be a finite number"),
        (lambda: structuring.quadratic(3, 0), "scale must be a positive number, found 0"),
    ],
)
def test_what_is_no_function_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


LAYERS = [
    "Dilation2d",
    "Opening2d",
    "VariationalErosion2d",
    "VariationalOpening2d",
    "RegularisedDilation2d",
    "JointClosing2d",
]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("per_channel", [False, True])
def test_layers_begin_with_a_function(name, per_channel):
    function = structuring.disk(1)
    initial = np.stack((function, structuring.quadratic(3, 1.0))) if per_channel else function
    ours = getattr(varmorph.torch, name)(2, initial=initial)
    theirs = getattr(varmorph.jax, name)(2, initial=initial)
    for bias in (ours.bias.detach().numpy(), np.asarray(theirs.bias)):
        np.testing.assert_allclose(bias, np.broadcast_to(initial, (2, 3, 3)), rtol=1e-6)
    assert ours.kernel_size == theirs.kernel_size == (3, 3)
    x = np.random.default_rng(0).random((1, 2, 5, 6), np.float32)
    value = ours(torch.from_numpy(x))
    np.testing.assert_allclose(value.detach().numpy(), theirs(jnp.asarray(x)), atol=1e-5)
    value.sum().backward()
    torch.optim.SGD(ours.parameters(), 0.1).step()
    assert torch.isneginf(ours.bias[0, 0, 0])
    ours.reset_parameters()
    np.testing.assert_allclose(ours.bias.detach().numpy(), np.broadcast_to(initial, (2, 3, 3)), rtol=1e-6)


def test_a_reconstruction_begins_with_a_function():
    initial = structuring.cross(3)
    for library in (varmorph.torch, varmorph.jax):
        assert library.Reconstruction2d(1, initial=initial).kernel_size == (3, 3)
        assert library.Reconstruction2d(1).kernel_size == (3, 3)


@pytest.mark.parametrize("library", [varmorph.torch, varmorph.jax])
@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((1,), {}, "kernel_size must be .* unless initial is given"),
        ((1, 5), {"initial": structuring.disk(1)}, r"kernel_size must be that of initial \(3, 3\), found 5"),
        ((2,), {"initial": np.zeros((3, 3, 3))}, r"initial must have shape \(2, kh, kw\) or \(kh, kw\)"),
        ((1,), {"initial": np.full((3, 3), -np.inf)}, "initial must keep at least one element"),
        ((1,), {"initial": np.full((3, 3), np.nan)}, "initial must hold finite numbers or -inf"),
    ],
)
def test_a_window_has_one_size_and_numbers(library, arguments, options, message):
    with pytest.raises(ValueError, match=message):
        library.Dilation2d(*arguments, **options)
