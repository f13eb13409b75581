"""Regional and extended maxima: the rule, where scikit-image has another one, and numbers that arithmetic loses."""

import numpy as np
import pytest
import torch
from skimage import morphology

from varmorph import reference
from varmorph.torch import backend, extended_maxima, h_maxima, regional_maxima

PRECISIONS = [torch.bfloat16, torch.float16, torch.float32, torch.float64]
every_precision = pytest.mark.parametrize("dtype", PRECISIONS, ids=str)
both_backends = pytest.mark.parametrize("name_of_backend", ["auto", "tensor"])


def staircase():
    """Rim 10, ring 13, centre 14."""
    image = torch.full((1, 1, 5, 5), 10.0)
    image[..., 1:4, 1:4] = 13
    image[..., 2, 2] = 14
    return image


def integers(seed):
    return np.random.default_rng(seed).integers(0, 6, (2, 2, 7, 8)).astype(float)


@pytest.fixture
def flushed_denormals():
    """Let this thread take denormal numbers for 0."""
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush denormal numbers")
    yield
    torch.set_flush_denormal(False)


@every_precision
@both_backends
@pytest.mark.parametrize(("height", "pixels"), [(0.0, 1), (1.0, 9), (3.0, 9), (4.0, 25), (5.0, 25)])
def test_extended_maxima_of_a_staircase(dtype, name_of_backend, height, pixels):
    with backend(name_of_backend):
        assert int(extended_maxima(staircase().to(dtype), height).sum()) == pixels
    assert reference.extended_maxima(staircase().numpy(), height).sum() == pixels


@every_precision
@both_backends
def test_maxima_do_not_depend_on_the_precision(dtype, name_of_backend):
    for seed in range(20):
        image = integers(seed)
        with backend(name_of_backend):
            found = (
                extended_maxima(torch.from_numpy(image).to(dtype), 2.0),
                regional_maxima(torch.from_numpy(image).to(dtype)),
            )
        np.testing.assert_array_equal(found[0], reference.extended_maxima(image, 2.0))
        np.testing.assert_array_equal(found[1], reference.regional_maxima(image))


@pytest.mark.parametrize("height", [1.0, 2.0, 3.0])
def test_scikit_image_marks_what_is_lowered_by_the_whole_height(height):
    for seed in range(20):
        image = torch.from_numpy(integers(seed)[:1, :1])
        lowered = image - h_maxima(image, height) >= height
        found = morphology.h_maxima(image[0, 0].numpy(), height, np.ones((3, 3))).astype(bool)
        np.testing.assert_array_equal(lowered[0, 0], found)


def test_a_constant_image_is_a_maximum_here_and_none_in_scikit_image():
    assert regional_maxima(torch.ones(1, 1, 4, 4)).all()
    assert not morphology.local_maxima(np.ones((4, 4))).any()
    assert extended_maxima(staircase(), 5.0).all()
    assert not morphology.h_maxima(staircase()[0, 0].numpy(), 5.0).any()


@both_backends
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_infinite_values_are_values_as_others(dtype, name_of_backend):
    low, high = -torch.inf, torch.inf
    rows = [[low, 0, low], [low, low, low], [high, high, high], [low, high, low], [1, low, 1], [high, 0, high]]
    tops = [[0, 1, 0], [1, 1, 1], [1, 1, 1], [0, 1, 0], [1, 0, 1], [1, 0, 1]]
    image = torch.tensor(rows, dtype=dtype)[:, None, None]
    with backend(name_of_backend):
        found = regional_maxima(image)
    assert found[:, 0, 0].int().tolist() == tops
    np.testing.assert_array_equal(found, reference.regional_maxima(image.numpy()))


@both_backends
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_neighbouring_numbers_are_told_apart(dtype, name_of_backend):
    one = torch.ones((), dtype=dtype)
    largest, least = torch.finfo(dtype).max, torch.finfo(dtype).smallest_normal
    above = float(one.nextafter(2 * one))
    rows = [[1, above, 1], [0, least, 0], [-least, 0, -least], [-largest, -largest, largest]]
    image = torch.tensor(rows, dtype=dtype)[:, None, None]
    with backend(name_of_backend):
        found = regional_maxima(image)
    assert found[:, 0, 0].int().tolist() == [[0, 1, 0]] * 3 + [[0, 0, 1]]


@both_backends
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_maxima_around_zero_where_denormal_numbers_are_flushed(flushed_denormals, dtype, name_of_backend):
    image = torch.tensor([[[[-1.0, 0.0, -1.0]]], [[[0.0, 1.0, 0.0]]]], dtype=dtype)
    with backend(name_of_backend):
        assert regional_maxima(image).flatten(1).tolist() == [[False, True, False]] * 2
        assert extended_maxima(image, 1.0).all()


@both_backends
def test_a_pixel_that_is_no_number_is_no_maximum_and_no_neighbour(name_of_backend):
    image = torch.tensor([[[[2.0, torch.nan, 3.0, 3.0, 1.0]]]])
    with backend(name_of_backend):
        assert regional_maxima(image).flatten().int().tolist() == [1, 0, 1, 1, 0]
