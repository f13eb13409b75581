"""Fixed points and contrast operators of methods/morpholayers."""

import numpy as np
import pytest
import torch
from skimage.morphology import reconstruction

import varmorph.torch


@pytest.fixture
def geodesic(plugin):
    return plugin("geodesic")


def flat(size=3):
    return torch.zeros(3, size, size, dtype=torch.float64)


@pytest.mark.parametrize(("by", "shift"), [("dilation", -0.4), ("erosion", 0.4)])
def test_reconstruction_is_that_of_scikit_image(geodesic, images, by, shift):
    found = getattr(geodesic, f"reconstruction_by_{by}")(images + shift, images)
    for plane, image in zip(found.flatten(0, 1), images.flatten(0, 1).numpy(), strict=True):
        np.testing.assert_array_equal(plane, reconstruction(image + shift, image, method=by, footprint=np.ones((3, 3))))


def test_leveling_is_that_of_the_library(geodesic, images):
    marker = images.flip(0)
    torch.testing.assert_close(
        geodesic.leveling(marker, images), varmorph.torch.leveling(marker, images), rtol=0, atol=0
    )


def test_the_gradient_through_the_loop_is_that_of_the_library_where_nothing_is_equal(geodesic, images):
    heights = torch.full((2, 3, 1, 1), 0.3, dtype=torch.float64, requires_grad=True)
    image = images.clone().requires_grad_()
    found = torch.autograd.grad((geodesic.h_maxima(image, heights) * images.flip(-1)).sum(), (image, heights))
    marker, mask = (images - 0.3).requires_grad_(), images.clone().requires_grad_()
    rebuilt = (varmorph.torch.reconstruction(marker, mask) * images.flip(-1)).sum()
    by_marker, by_mask = torch.autograd.grad(rebuilt, (marker, mask))
    torch.testing.assert_close(found[0], by_marker + by_mask)
    torch.testing.assert_close(found[1], -by_marker.sum((-2, -1), keepdim=True))


def test_of_equal_values_the_dilation_takes_the_gradient(geodesic):
    marker = torch.tensor([[[[1.0, 0.0]]]], requires_grad=True)
    mask = torch.tensor([[[[1.0, 1.0]]]], requires_grad=True)
    by_marker, by_mask = torch.autograd.grad(geodesic.reconstruction_by_dilation(marker, mask).sum(), (marker, mask))
    assert by_marker.flatten().tolist() == [2.0, 0.0]
    assert by_mask.flatten().tolist() == [0.0, 0.0]


def test_a_number_of_steps_stops_before_the_end(geodesic):
    mask, marker = torch.ones(1, 1, 1, 9), torch.zeros(1, 1, 1, 9)
    marker[..., 0] = 1
    assert geodesic.reconstruction_by_dilation(marker, mask, steps=2).sum() == 4
    assert geodesic.reconstruction_by_dilation(marker, mask).sum() == 9


def test_an_image_that_is_not_a_number_ends_too(geodesic):
    assert geodesic.h_maxima(torch.full((1, 1, 4, 4), torch.nan), 0.1).isnan().all()


def test_maxima_and_minima_are_dual(geodesic, images):
    torch.testing.assert_close(geodesic.h_minima(images, 0.2), -geodesic.h_maxima(-images, 0.2))
    torch.testing.assert_close(geodesic.h_concave(images, 0.2), geodesic.h_convex(-images, 0.2))
    torch.testing.assert_close(geodesic.extended_minima(images, 0.2), geodesic.extended_maxima(-images, 0.2))


def test_regional_maxima_rise_over_their_neighbours(geodesic, images):
    grey = (images * 255).round() / 255
    found = geodesic.regional_maxima(grey) > 0.5 / 255
    assert torch.equal(found, varmorph.torch.regional_maxima(grey))
    assert torch.equal(geodesic.regional_minima(grey) > 0.5 / 255, varmorph.torch.regional_maxima(-grey))


def test_a_toggle_takes_the_nearer_of_dilation_and_erosion(plugin):
    x = torch.tensor([[[[0.0, 0.2, 1.0, 0.5, 0.0]]]])
    toggled = plugin("contrast").toggle_mapping(x, torch.zeros(1, 1, 3))
    assert toggled.flatten().tolist() == pytest.approx([0.0, 0.0, 1.0, 0.5, 0.0])


def test_repeated_toggles_leave_only_values_of_the_image(plugin, images):
    layer = plugin("contrast").ToggleMapping2D(3, 2, 3, steps=20)
    found = layer(images)
    assert found.shape == (2, 6, 9, 8)
    assert set(found.flatten().tolist()) <= set(images.flatten().tolist())
    torch.testing.assert_close(found[:, :3], plugin("contrast").toggle_mapping(found[:, :3], flat()))


@pytest.mark.parametrize("erosion_first", [True, False])
def test_lasry_lions_is_a_quadratic_operator_then_its_narrower_dual(plugin, images, erosion_first):
    layer = plugin("contrast").LasryLions2D(3, 2, 5, erosion_first=erosion_first).double()
    operators, narrow = plugin("operators"), layer.functions()
    names = ("erosion", "dilation") if erosion_first else ("dilation", "erosion")
    inner = getattr(operators, names[0])(images, (layer.ratio[..., None, None] * narrow)[1])
    outer = getattr(operators, names[1])(inner, narrow[1])
    torch.testing.assert_close(layer(images)[:, 3:], outer)
    sign = 1 if erosion_first else -1
    assert (sign * (layer(images) - images.repeat(1, 2, 1, 1)) <= 1e-12).all()


def test_lasry_lions_of_equal_widths_is_the_opening(plugin, images):
    layer = plugin("contrast").LasryLions2D(3, 1, 5).double()
    with torch.no_grad():
        layer.ratio.fill_(3.0)  # brought back to 1
    torch.testing.assert_close(layer(images), plugin("operators").opening(images, layer.functions()[0]))
