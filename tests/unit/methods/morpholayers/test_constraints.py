"""Constraints, initialisers and the regulariser of methods/morpholayers."""

import numpy as np
import pytest
import torch
from skimage.morphology import diamond, disk

CONSTRAINTS = ["non_positive", "non_positive_extensive", "lattice", "zero_to_one", "disk", "diamond"]
BOUNDS = {"lattice": (-1, 1), "zero_to_one": (0, 1), "disk": (-1, 1), "diamond": (-1, 1)}


@pytest.fixture
def kernel():
    return 3 * torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_a_constraint_is_a_projection_to_its_values(plugin, kernel, name):
    before = kernel.clone()
    found = getattr(plugin("constraints"), name)(kernel)
    assert torch.equal(kernel, before)
    low, high = BOUNDS.get(name, (-1, 0))
    assert (found.min(), found.max()) == (low, high)
    assert torch.equal(getattr(plugin("constraints"), name)(found), found)


def test_an_extensive_function_is_zero_at_the_centre_alone(plugin, kernel):
    found = plugin("constraints").non_positive_extensive(kernel.clamp(max=-0.5))
    assert (found == 0).nonzero()[:, 2:].unique(dim=0).tolist() == [[2, 2]]


@pytest.mark.parametrize(("name", "element"), [("disk", disk(2)), ("diamond", diamond(2))])
def test_masks_are_those_of_scikit_image(plugin, kernel, name, element):
    found = getattr(plugin("constraints"), name)(kernel.clamp(min=-0.5))
    assert torch.equal(found != -1, torch.tensor(element).bool().expand_as(found))
    assert torch.equal(found, plugin("constraints").structuring_element(element)(kernel.clamp(min=-0.5)))


def test_sparse_zeros_are_zeros_among_the_bottom(plugin):
    torch.manual_seed(0)
    kernel = plugin("initialisers").sparse_zeros_(torch.empty(40, 10, 5, 5), 0.75)
    assert set(kernel.unique().tolist()) == {-1.0, 0.0}
    assert (kernel == 0).float().mean() == pytest.approx(0.25, abs=0.02)


def test_quadratic_falls_with_the_squared_distance(plugin):
    kernel = plugin("initialisers").quadratic_(torch.empty(2, 1, 5, 5), c=0.2, t=2.0)
    rows, columns = np.indices((5, 5)) - 2
    np.testing.assert_allclose(kernel, np.broadcast_to(-0.2 * (rows**2 + columns**2) / 4, (2, 1, 5, 5)), atol=1e-7)


def test_near_identity_changes_no_image_in_the_lattice(plugin, images):
    kernel = plugin("initialisers").minus_ones_zero_centre_(torch.empty(3, 3, 3, dtype=torch.float64))
    assert torch.equal(plugin("operators").dilation(images, kernel), images)
    assert torch.equal(plugin("operators").erosion(images, kernel), images)


def test_a_structuring_element_is_zero_inside_and_the_bottom_beside(plugin):
    kernel = plugin("initialisers").structuring_element_(torch.empty(1, 2, 5, 5), disk(2))
    assert torch.equal(kernel, (torch.tensor(disk(2)) - 1.0).expand(1, 2, 5, 5))


def test_a_random_lattice_fills_the_negative_half(plugin):
    kernel = plugin("initialisers").random_lattice_(torch.empty(100, 1, 5, 5))
    assert -1 <= kernel.min() < -0.9 < -0.1 < kernel.max() <= 0


def test_the_regulariser_measures_the_height_over_the_bottom(plugin):
    penalty = plugin("regulariser").l1_l2_lattice
    kernel = torch.tensor([[-1.0, -0.5], [0.0, -3.0]])
    assert penalty(kernel, l1=2.0) == pytest.approx(2.0 * (0 + 0.5 + 1 + 2))
    assert penalty(kernel, l2=0.5) == pytest.approx(0.5 * (0.25 + 1 + 4))
    assert penalty(torch.full((3, 3), -1.0), l1=1.0, l2=1.0) == 0
