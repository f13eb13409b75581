"""The CPU kernel of the reconstruction against tensor code and specification, and its gradient against what defines it.

Cotangents are whole numbers: their sums are exact in every order, so that gradients can be compared bit by bit.
"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from varmorph import reference
from varmorph.torch import backend, fill_holes, reconstruction
from varmorph.torch.backend.ops.reconstruction import reconstruction as op
from varmorph.torch.backend.ops.reconstruction import reconstruction_backward as backward_op

BY = ["dilation", "erosion"]
every_direction = pytest.mark.parametrize("by", BY)
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
every_kind = pytest.mark.parametrize("plateaus", [True, False], ids=["plateaus", "generic"])


def images(shape, plateaus=False, dtype=torch.float64, seed=0):
    """Return marker and mask; the marker lies far below the mask but for few pixels, so that values travel far."""
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 4, shape) if plateaus else rng.standard_normal(shape)
    marker = np.where(rng.random(shape) < 0.1, mask + rng.integers(-1, 2, shape), -3)
    return [torch.from_numpy(image).to(dtype) for image in (marker, mask)]


def offsets(size, channels=2, plateaus=False, dtype=torch.float64, seed=0):
    """Return a structuring function of which a third is left out; halves give many paths of one sum."""
    rng = np.random.default_rng(seed)
    shape = (channels, *size)
    bias = rng.integers(-1, 1, shape) / 2 if plateaus else -rng.exponential(0.2, shape)
    bias[rng.random(shape) < 1 / 3] = -np.inf
    bias[:, size[0] // 2, size[1] // 2] = 0
    return torch.from_numpy(bias).to(dtype)


def whole_numbers(shape, dtype):
    return torch.randint(-9, 10, shape, generator=torch.Generator().manual_seed(2)).to(dtype)


def value_and_gradients(arguments, name="cpu", **options):
    leaves = [argument.detach().requires_grad_() for argument in arguments]
    with backend(name):
        y = reconstruction(*leaves, **options)
        return [y.detach(), *torch.autograd.grad(y, leaves, whole_numbers(y.shape, y.dtype))]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@every_direction
@every_dtype
@every_kind
@pytest.mark.parametrize("size", [(1, 1), (3, 3), (2, 3), (1, 5), (4, 1), (5, 4), (7, 7)])
def test_values_and_gradients_are_those_of_tensor_code(size, plateaus, dtype, by):
    for shape in ((2, 2, 13, 17), (1, 2, 1, 1), (1, 2, 1, 9), (1, 2, 9, 1), (0, 2, 5, 5)):
        arguments = [*images(shape, plateaus, dtype), offsets(size, 2, plateaus, dtype)]
        assert_same(value_and_gradients(arguments, by=by), value_and_gradients(arguments, "tensor", by=by))


@every_direction
@every_kind
@pytest.mark.parametrize("connectivity", [4, 8])
def test_a_flat_reconstruction_is_that_of_tensor_code(connectivity, plateaus, by):
    arguments, options = images((2, 2, 30, 40), plateaus), {"connectivity": connectivity, "by": by}
    assert_same(value_and_gradients(arguments, **options), value_and_gradients(arguments, "tensor", **options))


@every_direction
@every_kind
@pytest.mark.parametrize("size", [(3, 3), (2, 4), (1, 5)])
def test_values_are_those_of_the_specification(size, plateaus, by):
    arguments = [*images((2, 2, 9, 11), plateaus), offsets(size, 2, plateaus)]
    expected = reference.reconstruction(*(argument.numpy() for argument in arguments), by=by)
    np.testing.assert_array_equal(value_and_gradients(arguments, by=by)[0].numpy(), expected)


NUMBERS = st.sampled_from([0.0, 1.0, 2.0, 0.1, -torch.inf, torch.inf, torch.nan])


@st.composite
def problems(draw):
    """Small images of few values, among them such as are no numbers, and a structuring function of few."""
    height, width, rows, columns = (draw(st.integers(1, limit)) for limit in (5, 5, 4, 4))

    def tensor(shape, values):
        count = int(np.prod(shape))
        return torch.tensor(draw(st.lists(values, min_size=count, max_size=count))).view(shape)

    bias = tensor((1, rows, columns), st.sampled_from([0.0, -0.1, -1.0, -torch.inf]))
    bias[:, rows // 2, columns // 2] = 0
    return [*(tensor((1, 1, height, width), NUMBERS) for _ in range(2)), bias], draw(st.sampled_from(BY))


@given(problems())
def test_ties_nan_and_infinity_are_treated_as_in_tensor_code(problem):
    arguments, by = problem
    assert_same(value_and_gradients(arguments, by=by), value_and_gradients(arguments, "tensor", by=by))


@pytest.mark.parametrize("name", ["cpu", "tensor"])
@every_kind
@pytest.mark.parametrize("with_bias", [True, False])
def test_a_pixel_is_its_root_plus_the_offsets_that_its_gradient_counts(with_bias, plateaus, name):
    marker, mask = images((1, 1, 6, 7), plateaus, seed=3)
    bias = offsets((3, 3), 1, plateaus, seed=4) if with_bias else torch.zeros(1, 3, 3, dtype=torch.float64)
    leaves = [argument.requires_grad_() for argument in (marker, mask, bias)]
    with backend(name):
        y = reconstruction(*leaves)
        for place in np.ndindex(y.shape):
            *by_image, uses = torch.autograd.grad(y[place], leaves, retain_graph=True)
            chosen = torch.cat([gradient.flatten() for gradient in by_image])
            assert chosen.sort().values.tolist() == [0] * (chosen.numel() - 1) + [1]
            assert by_image[1].any() or y[place] != mask[place]  # what has reached the mask is a copy of it
            assert (uses >= 0).all()
            root = torch.cat([marker.flatten(), mask.flatten()])[chosen.bool()]
            along_path = (uses * bias)[uses > 0].sum()
            torch.testing.assert_close(y[place], (root + along_path).squeeze(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["cpu", "tensor"])
def test_the_path_has_the_fewest_steps_possible(name):
    marker = torch.zeros(1, 1, 1, 7)
    marker[..., 0] = marker[..., 5] = 1.0
    marker.requires_grad_()
    with backend(name):
        y = reconstruction(marker, torch.full((1, 1, 1, 7), 2.0))
    (gradient,) = torch.autograd.grad(y.sum(), marker)
    assert gradient.flatten().tolist() == [3, 0, 0, 0, 0, 4, 0]  # pixel 3 is nearer to 5 than to 0


@pytest.mark.parametrize("name", ["cpu", "tensor"])
def test_of_equally_short_paths_the_first_neighbour_is_taken(name):
    marker = torch.tensor([[[[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]]], requires_grad=True)
    with backend(name):
        y = reconstruction(marker, torch.full((1, 1, 3, 3), 2.0), connectivity=4)
    (gradient,) = torch.autograd.grad(y[..., 1, 1].sum(), marker)
    assert gradient.nonzero().tolist() == [[0, 0, 0, 1]]


@every_direction
def test_values_spread_from_few_pixels_over_noise(by):
    mask = images((1, 1, 60, 70), dtype=torch.float32)[1]
    marker = torch.full_like(mask, -9.0)
    marker[..., ::30, ::30] = mask[..., ::30, ::30]
    arguments = (marker, mask) if by == "dilation" else (-marker, -mask)
    assert_same(value_and_gradients(arguments, by=by), value_and_gradients(arguments, "tensor", by=by))


def test_values_follow_a_labyrinth():
    walls = torch.zeros(1, 1, 41, 41)
    walls[..., 1::2, :] = -1
    walls[..., 1::4, -1] = walls[..., 3::4, 0] = 0
    marker = torch.full_like(walls, -1)
    marker[..., 0, 0] = -0.5
    marker.requires_grad_()
    with backend("cpu"):
        y = reconstruction(marker, walls)
    assert torch.equal(y, torch.where(walls < 0, walls, -0.5))
    assert torch.autograd.grad(y.sum(), marker)[0][..., 0, 0] == (walls == 0).sum()


def test_holes_are_filled_as_by_tensor_code():
    x = images((2, 2, 20, 21), dtype=torch.float32)[1]
    results = []
    for name in ("cpu", "tensor"):
        with backend(name):
            results.append(fill_holes(x))
    assert torch.equal(*results)


@every_direction
def test_results_do_not_depend_on_the_number_of_threads(by):
    arguments = [*images((5, 3, 64, 64), dtype=torch.float32), offsets((3, 3), 3, dtype=torch.float32)]
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(value_and_gradients(arguments, by=by))
    finally:
        torch.set_num_threads(before)
    for others in results[1:]:
        assert_same(results[0], others)


def test_memory_layout_does_not_matter():
    marker, mask = images((2, 3, 8, 9))
    bias = offsets((3, 3), 3)
    expected = value_and_gradients((marker, mask, bias))
    for arrange in (
        lambda x: x.contiguous(memory_format=torch.channels_last),
        lambda x: x.transpose(-2, -1).contiguous().transpose(-2, -1),
        lambda x: x.repeat_interleave(2, -1)[..., ::2],
    ):
        assert_same(value_and_gradients((arrange(marker), arrange(mask), bias)), expected)


def test_the_input_is_left_alone():
    arguments = [*images((1, 2, 8, 9)), offsets((3, 3))]
    copies = [argument.clone() for argument in arguments]
    value_and_gradients(arguments)
    assert all(map(torch.equal, arguments, copies))


def test_a_window_may_have_more_elements_than_a_byte_counts():
    arguments = [*images((1, 1, 20, 21)), offsets((17, 17), 1)]
    assert_same(value_and_gradients(arguments), value_and_gradients(arguments, "tensor"))


@pytest.mark.parametrize("by", ["dilation", "erosion"])
def test_second_derivatives_are_those_of_differences(by):
    leaves = [image.double().requires_grad_() for image in images((1, 1, 4, 4))]
    with backend("cpu"):
        assert torch.autograd.gradgradcheck(lambda *leaves: reconstruction(*leaves, by=by), leaves)


@pytest.mark.parametrize("shape", [(2, 2, 5, 6), (0, 2, 3, 3)])
def test_pytorch_accepts_the_ops(shape):
    arguments = [*images(shape), offsets((3, 3))]
    torch.library.opcheck(op, (*(argument.clone().requires_grad_() for argument in arguments), -1))
    y = op(*arguments, 1)
    torch.library.opcheck(backward_op, (torch.ones_like(y), arguments[0], arguments[1], y, arguments[2], 1))


@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning")
@every_direction
def test_a_reconstruction_compiles_as_a_whole(by):
    arguments = [*images((1, 2, 5, 6)), offsets((3, 3))]
    torch._dynamo.reset()
    results = []
    for function in (reconstruction, torch.compile(reconstruction, fullgraph=True, backend="aot_eager")):
        leaves = [argument.detach().requires_grad_() for argument in arguments]
        y = function(*leaves, by=by)
        results.append([y.detach(), *torch.autograd.grad(y.sum(), leaves)])
    assert_same(*results)
