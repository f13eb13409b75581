"""Levelings: against the iteration that defines them, their laws, and the gradient by provenance."""

import numpy as np
import pytest
import torch

from varmorph.torch import leveling, reconstruction

every_kind = pytest.mark.parametrize("plateaus", [True, False], ids=["plateaus", "generic"])


def images(seed, plateaus, shape=(2, 2, 7, 9)):
    """Return a marker and a reference that cross; whole numbers make plateaus and pixels where both are equal."""
    rng = np.random.default_rng(seed)
    if plateaus:
        return rng.integers(0, 4, shape).astype(float), rng.integers(0, 4, shape).astype(float)
    return rng.standard_normal(shape), 2 * rng.standard_normal(shape)


def neighbours(i, j, shape, connectivity):
    for di in (-1, 0, 1):
        for dj in (-1, 0, 1):
            inside = 0 <= i + di < shape[0] and 0 <= j + dj < shape[1]
            if inside and (connectivity == 8 or di == 0 or dj == 0):
                yield i + di, j + dj


def leveling_of_a_plane(marker, reference, connectivity):
    """Iterate m <- max(erosion(m), min(dilation(m), reference)), pixel by pixel, until nothing changes."""
    m = marker.copy()
    while True:
        before = m.copy()
        for place in np.ndindex(m.shape):
            around = [before[p] for p in neighbours(*place, m.shape, connectivity)]
            m[place] = max(min(around), min(max(around), reference[place]))
        if np.array_equal(m, before):
            return m


def brute_force(marker, reference, connectivity=8):
    planes = [
        leveling_of_a_plane(*(image[p] for image in (marker, reference)), connectivity)
        for p in np.ndindex(marker.shape[:2])
    ]
    return np.reshape(planes, marker.shape)


@every_kind
@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_end_of_the_iteration(plateaus, connectivity, seed):
    marker, reference = images(seed, plateaus)
    found = leveling(torch.from_numpy(marker), torch.from_numpy(reference), connectivity=connectivity)
    np.testing.assert_array_equal(found.numpy(), brute_force(marker, reference, connectivity))


@every_kind
@pytest.mark.parametrize("connectivity", [4, 8])
def test_it_is_a_reconstruction_where_the_marker_lies_on_one_side(plateaus, connectivity):
    marker, reference = map(torch.from_numpy, images(5, plateaus))
    for bound, by in ((torch.minimum, "dilation"), (torch.maximum, "erosion")):
        one_sided = bound(marker, reference)
        found, expected = (
            operator(one_sided, reference, connectivity=connectivity, **options)
            for operator, options in ((leveling, {}), (reconstruction, {"by": by}))
        )
        assert torch.equal(found, expected)


@every_kind
@pytest.mark.parametrize("seed", range(4))
def test_laws(plateaus, seed):
    marker, reference = map(torch.from_numpy, images(seed, plateaus))
    y = leveling(marker, reference)
    assert torch.equal(leveling(y, reference), y)
    assert torch.equal(leveling(-marker, -reference), -y)
    assert torch.equal(leveling(reference, reference), reference)
    assert (leveling(marker + 0.5, reference) >= y).all()
    assert (torch.minimum(marker, reference) <= y).all()
    assert (y <= torch.maximum(marker, reference)).all()


@every_kind
def test_no_edge_is_new(plateaus):
    marker, reference = map(torch.from_numpy, images(6, plateaus))
    y = leveling(marker, reference)
    for high, low in ((np.s_[..., 1:], np.s_[..., :-1]), (np.s_[..., :-1], np.s_[..., 1:])):
        falls = y[high] > y[low]
        assert (reference[high] >= y[high])[falls].all()
        assert (reference[low] <= y[low])[falls].all()


def jacobian_rows(leaves, **options):
    y = leveling(*leaves, **options)
    for place in np.ndindex(y.shape):
        gradients = torch.autograd.grad(y[place], leaves, retain_graph=True)
        yield y[place].detach(), [gradient.flatten() for gradient in gradients]


@every_kind
@pytest.mark.parametrize("connectivity", [4, 8])
def test_every_pixel_is_a_copy_of_one_pixel(plateaus, connectivity):
    leaves = [torch.from_numpy(image[:1, :1]).requires_grad_() for image in images(7, plateaus)]
    values = torch.cat([leaf.detach().flatten() for leaf in leaves])
    for value, gradients in jacobian_rows(leaves, connectivity=connectivity):
        row = torch.cat(gradients)
        assert sorted(row.unique().tolist()) == [0, 1]
        assert row.sum() == 1
        assert values[row.bool()] == value


def test_a_pixel_that_is_its_reference_is_a_copy_of_it():
    leaves = [torch.from_numpy(image[:1, :1]).requires_grad_() for image in images(8, True)]
    reference = leaves[1].detach().flatten()
    for i, (value, (_, by_reference)) in enumerate(jacobian_rows(leaves)):
        if value == reference[i]:
            assert by_reference.nonzero().flatten().tolist() == [i]


def test_among_equal_neighbours_the_first_is_copied():
    marker = torch.tensor([[[[0.0, 1.0], [1.0, 1.0]]]], requires_grad=True)
    reference = torch.tensor([[[[2.0, 1.0], [1.0, 1.0]]]], requires_grad=True)
    y = leveling(marker, reference)
    by_marker, by_reference = torch.autograd.grad(y[0, 0, 0, 0], (marker, reference))
    assert not by_marker.any()
    assert by_reference.tolist() == [[[[0.0, 1.0], [0.0, 0.0]]]]


def test_a_pixel_copies_what_its_neighbour_was_at_that_time():
    # The left pixel and the middle exchange values in one step: a parent followed afterwards would lead back and forth.
    marker = torch.tensor([[[[1.0, 0.5, 0.0]]]], requires_grad=True)
    reference = torch.tensor([[[[0.0, 3.0, 0.0]]]], requires_grad=True)
    y = leveling(marker, reference)
    assert y.tolist() == [[[[0.5, 1.0, 0.0]]]]
    by_marker, by_reference = torch.autograd.grad((y * torch.tensor([1.0, 10.0, 100.0])).sum(), (marker, reference))
    assert by_marker.tolist() == [[[[10.0, 1.0, 0.0]]]]
    assert by_reference.tolist() == [[[[0.0, 0.0, 100.0]]]]


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("seed", range(3))
def test_the_gradient_equals_central_differences(connectivity, seed):
    arguments = images(seed, False, (1, 2, 4, 5))
    leaves = [torch.from_numpy(image).requires_grad_() for image in arguments]
    cotangent = np.random.default_rng(9).standard_normal(arguments[0].shape)
    y = leveling(*leaves, connectivity=connectivity)
    gradients = torch.autograd.grad(y, leaves, torch.from_numpy(cotangent))
    assert all(gradient.any() for gradient in gradients)
    for i, gradient in enumerate(gradients):
        numerical = np.zeros_like(cotangent)
        for place in np.ndindex(cotangent.shape):
            values = []
            for sign in (1, -1):
                moved = [image.copy() for image in arguments]
                moved[i][place] += sign * 1e-7
                values.append(brute_force(*moved, connectivity))
            numerical[place] = (cotangent * (values[0] - values[1])).sum() / 2e-7
        np.testing.assert_allclose(gradient.numpy(), numerical, atol=1e-6)


def test_a_long_path_is_followed():
    length = 300
    marker, reference = torch.zeros(1, 1, 1, length), torch.full((1, 1, 1, length), 2.0)
    marker[..., 0] = 1.0
    marker.requires_grad_()
    y = leveling(marker, reference)
    assert (y == 1).all()
    assert torch.autograd.grad(y.sum(), marker)[0].flatten().tolist() == [length] + [0] * (length - 1)


def test_nan_stays_where_it_is():
    marker, reference = (torch.from_numpy(image) for image in images(10, True, (2, 1, 6, 6)))
    marker[0, 0, 1, 2] = torch.nan
    reference[0, 0, 4, 3] = torch.nan
    leaves = [marker.requires_grad_(), reference.requires_grad_()]
    y = leveling(*leaves)
    assert y.isnan().nonzero().tolist() == [[0, 0, 1, 2], [0, 0, 4, 3]]
    gradients = torch.autograd.grad(y.sum(), leaves)
    assert sum(gradient.sum() for gradient in gradients) == y.numel()
    assert torch.equal(y[1:], leveling(marker[1:], reference[1:]))


def test_infinite_pixels_are_values_like_others():
    marker = torch.tensor([[[[torch.inf, 0.0, 0.0, -torch.inf]]]])
    reference = torch.tensor([[[[torch.inf, torch.inf, 1.0, -torch.inf]]]])
    assert leveling(marker, reference).tolist() == [[[[torch.inf, torch.inf, 1.0, -torch.inf]]]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_copy_keeps_every_bit(dtype):
    marker, reference = (torch.from_numpy(image).to(dtype) for image in images(11, False))
    y = leveling(marker, reference)
    assert y.dtype == dtype
    assert torch.equal(y, leveling(marker.double(), reference.double()).to(dtype))


def test_the_smallest_images():
    empty = torch.zeros(0, 2, 4, 4, requires_grad=True)
    y = leveling(empty - 1, empty)
    assert y.shape == (0, 2, 4, 4)
    assert torch.autograd.grad(y.sum(), empty)[0].shape == (0, 2, 4, 4)
    marker, reference = (torch.full((1, 1, 1, 1), value, requires_grad=True) for value in (1.0, 2.0))
    y = leveling(marker, reference)
    assert y.item() == 1
    assert [gradient.item() for gradient in torch.autograd.grad(y, (marker, reference))] == [1, 0]


def test_second_derivatives_are_those_of_the_function_of_the_copies():
    leaves = [torch.from_numpy(image).requires_grad_() for image in images(12, False)]
    assert torch.autograd.gradgradcheck(leveling, leaves)


X = torch.zeros(1, 2, 4, 4)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (
            (X, X[:, :1]),
            {},
            ValueError,
            r"marker and reference must have one shape, found \(1, 2, 4, 4\) and \(1, 1, 4, 4\)",
        ),
        ((X[0], X), {}, ValueError, r"marker must have shape \(N, C, H, W\)"),
        ((X, X[..., :0]), {}, ValueError, r"reference must have shape \(N, C, H, W\) with C, H, W >= 1"),
        ((X, X.long()), {}, TypeError, "reference must hold floating point numbers, found dtype torch.int64"),
        ((X, X.numpy()), {}, TypeError, "reference must be a torch.Tensor, found ndarray"),
        ((X, X), {"connectivity": 6}, ValueError, "connectivity must be 4 or 8, found 6"),
    ],
)
def test_wrong_input_is_named(arguments, options, error, message):
    with pytest.raises(error, match=message):
        leveling(*arguments, **options)
