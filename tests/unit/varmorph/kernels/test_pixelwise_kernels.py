"""The kernels for windows of any geometry against tensor code and the executable specification."""

import itertools

import numpy as np
import pytest
import torch
from by_position import by_position
from hypothesis import given, settings
from hypothesis import strategies as st

from varmorph import reference
from varmorph.kernels.window import pixelwise
from varmorph.kernels.window.layout import layout
from varmorph.torch.backend.ops.arrays import on_arrays
from varmorph.torch.separable import maxplus
from varmorph.torch.separable import minimisation as separable
from varmorph.windows import Geometry, window

PADDINGS = ("geodesic", "replicate", "reflect", "circular", "valid", 0.4)
WINDOWS = [  # image, window
    ((9, 13), (3, 3)),
    ((6, 5), (2, 3)),
    ((12, 11), (5, 4)),
    ((3, 2), (7, 6)),
    ((1, 4), (1, 1)),
]
STEPS = [((1, 1), (1, 1)), ((2, 3), (1, 1)), ((1, 2), (2, 1))]  # stride, rate
GEOMETRIES = [
    Geometry(*WINDOWS[w], *STEPS[(w + p + reverse) % 3], PADDINGS[p], reverse)
    for w, p, reverse in itertools.product(range(len(WINDOWS)), range(len(PADDINGS)), (False, True))
]
GEOMETRIES = [  # with padding "valid", those whose window fits
    geometry
    for geometry in GEOMETRIES
    if geometry.padding != "valid"
    or all(r * (s - 1) < n for s, r, n in zip(geometry.size, geometry.rate, geometry.image, strict=True))
]
LEVELS = torch.tensor([-40.0, -30.0, -1.3, 0.0, np.log(2), np.log(3), 3.0, 12.0, 40.0], dtype=torch.float64)
OPERATORS = ["dilation", "erosion", "half and half", "expectile", "quantile", "huber 0.05", "huber 0.7", "huber 30"]
every_operator = pytest.mark.parametrize("operator", OPERATORS)
every_geometry = pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda g: "-".join(map(str, g)).replace(" ", ""))
some_geometries = pytest.mark.parametrize(
    "geometry",
    [Geometry((7, 8), (3, 3), padding=padding, reverse=reverse) for padding in PADDINGS for reverse in (False, True)],
    ids=lambda g: f"{g.padding}-{g.reverse}",
)


def drawn(geometry, dtype=torch.float64, seed=0, channels=2, integers=False):
    """Draw image, offsets, weights and levels; one element is left out and one has no weight, if there are enough."""
    generator = torch.Generator().manual_seed(seed)
    elements = geometry.size[0] * geometry.size[1]
    shapes = (2, channels, *geometry.image), (channels, elements), (channels, elements), (channels,)
    x, bias, weight, level = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    if integers:
        x, bias, weight = (2 * x).round(), bias.round(), weight.sign() + 2
    else:
        weight = weight.exp()
    if elements > 5:
        bias[:, 1], weight[:, 2] = -torch.inf, 0.0
    return [argument.to(dtype) for argument in (x, bias, weight, 2 * level)]


def outside_of(geometry):
    return geometry.padding if isinstance(geometry.padding, float) else None


def is_max_plus(operator):
    return operator in ("dilation", "erosion", "half and half")


def raised_of(operator):
    """The number of channels, the first, of which the greatest is taken."""
    return {"dilation": 99, "erosion": 0, "half and half": 1}[operator]


def by_tensor(operator, arguments, geometry):
    """Return the result, and the tensors it depends on: the level in place of tau."""
    x, bias, weight, level = (argument.detach().requires_grad_() for argument in arguments)
    edges, outside = window(geometry), outside_of(geometry)
    if is_max_plus(operator):
        return maxplus.supremum(x, bias, edges, outside, raised_of(operator)), (x, bias)
    if not operator.startswith("huber"):
        y = separable.solve(x, bias, weight, level, edges, outside, operator)
        return y, (x, bias, weight, level) if operator == "expectile" else (x, bias)
    smoothing = torch.full_like(level, float(operator.split()[1])).requires_grad_()
    y = separable.solve(x, bias, weight, level, edges, outside, "huber", smoothing)
    return y, (x, bias, weight, level, smoothing)


def by_kernel(operator, arguments, geometry):
    """Return the result, and a function that gives the gradients for a cotangent."""
    x, bias, weight, level = arguments
    outside, tau, cotau = outside_of(geometry), torch.sigmoid(level), torch.sigmoid(-level)

    def by_level(gradients):
        return [*gradients[:3], gradients[3] * tau * (1 - tau), *gradients[4:]]

    if is_max_plus(operator):
        raised = raised_of(operator)
        y, chosen = on_arrays(pixelwise.supremum, x, bias, geometry, outside, raised, True)
        return y, lambda cotangent: on_arrays(pixelwise.supremum_backward, cotangent, chosen, bias, geometry, raised)
    problem = bias, weight, tau, cotau
    if operator == "expectile":
        y = on_arrays(pixelwise.expectile, x, *problem, geometry, outside)
        return y, lambda cotangent: by_level(
            on_arrays(pixelwise.expectile_backward, cotangent, x, y, *problem, geometry, outside)
        )
    if operator == "quantile":
        y, ends = on_arrays(pixelwise.quantile, x, *problem, geometry, outside)
        return y, lambda cotangent: on_arrays(pixelwise.quantile_backward, cotangent, ends, bias, geometry)
    smoothing = torch.full_like(level, float(operator.split()[1]))
    y, ends = on_arrays(pixelwise.huber, x, *problem, smoothing, geometry, outside)
    return y, lambda cotangent: by_level(
        on_arrays(pixelwise.huber_backward, cotangent, x, y, ends, *problem, smoothing, geometry, outside)
    )


def like(y, seed=1):
    return torch.randn(y.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(y.dtype)


def assert_same(found, expected, tolerance):
    """Compare up to a part of the largest finite number, and of 1 at least; NaN and infinities are to be the same."""
    finite = expected[expected.isfinite()].abs()
    scale = max(finite.max().item(), 1.0) if finite.numel() else 1.0
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * scale, equal_nan=True)


def assert_agreement(operator, arguments, geometry, value, gradient):
    expected, leaves = by_tensor(operator, arguments, geometry)
    found, pull_back = by_kernel(operator, arguments, geometry)
    assert_same(found, expected.detach(), value)
    cotangent = like(expected)
    for ours, theirs in zip(pull_back(cotangent), torch.autograd.grad(expected, leaves, cotangent), strict=True):
        assert_same(ours, theirs, gradient)


@every_operator
@every_geometry
def test_values_and_gradients_are_those_of_tensor_code(geometry, operator):
    assert_agreement(operator, drawn(geometry), geometry, 1e-14, 1e-11)


@every_operator
@some_geometries
def test_values_and_gradients_are_those_of_tensor_code_in_float32(geometry, operator):
    assert_agreement(operator, drawn(geometry, torch.float32), geometry, 2e-6, 5e-4)


@pytest.mark.parametrize("operator", [name for name in OPERATORS if name != "expectile"])
@some_geometries
def test_ties_and_flat_pieces_are_treated_as_by_tensor_code(geometry, operator):
    for seed in range(3):
        x, bias, weight, _ = drawn(geometry, seed=seed, channels=len(LEVELS), integers=True)
        assert_agreement(operator, [x, bias, weight, LEVELS], geometry, 1e-14, 1e-11)


@pytest.mark.parametrize("operator", OPERATORS[3:])
@pytest.mark.parametrize("integers", [True, False], ids=["ties", "generic"])
@some_geometries
def test_values_are_those_of_the_reference_at_all_levels(geometry, integers, operator):
    x, bias, weight, _ = drawn(geometry, channels=len(LEVELS), integers=integers)
    found, _ = by_kernel(operator, [x, bias, weight, LEVELS], geometry)
    assert_same(found, in_reference(operator, geometry, x, bias, weight, LEVELS), 1e-12)


def in_reference(operator, geometry, x, bias, weight, level, cotangent=None):
    """Compute in the reference, where reversed edges belong to erosions, with the other sign of bias and level."""
    _, size, stride, rate, padding, reverse = geometry
    sign = -1 if reverse else 1
    options = {"stride": stride, "rate": rate, "padding": padding, "penalty": operator.split()[0]}
    if operator.startswith("huber"):
        options["smoothing"] = float(operator.split()[1])
    absent = bias.isneginf()
    offset = torch.where(absent, bias, sign * bias.masked_fill(absent, 0.0))
    arrays = (x, offset.unflatten(1, size), weight.unflatten(1, size), sign * level)
    arrays = [array.numpy() for array in arrays]
    name = "variational_erosion" if reverse else "variational_dilation"
    if cotangent is None:
        return torch.from_numpy(by_position(getattr(reference, name))(*arrays, **options))
    exact = by_position(getattr(reference, f"{name}_gradient"))(*arrays, cotangent.numpy(), **options)
    gradients = exact.x, sign * exact.bias, exact.weight, sign * exact.logit_level
    return [torch.as_tensor(np.asarray(gradient)) for gradient in gradients]


@pytest.mark.parametrize("operator", OPERATORS[3:])
@every_geometry
def test_values_and_gradients_are_those_of_the_reference(geometry, operator):
    arguments = drawn(geometry)
    found, pull_back = by_kernel(operator, arguments, geometry)
    assert_same(found, in_reference(operator, geometry, *arguments), 1e-10)
    expected = in_reference(operator, geometry, *arguments, like(found))
    for ours, exact in zip(pull_back(like(found)), expected, strict=False):
        assert_same(ours, exact.reshape(ours.shape), 1e-8)


@every_geometry
def test_max_plus_is_that_of_the_reference(geometry):
    _, size, stride, rate, padding, reverse = geometry
    operator = "erosion" if reverse else "dilation"
    x, bias, *_ = arguments = drawn(geometry)
    expected = getattr(reference, operator)(
        x.numpy(), bias.unflatten(1, size).numpy(), stride=stride, rate=rate, padding=padding
    )
    assert_same(by_kernel(operator, arguments, geometry)[0], torch.from_numpy(expected), 1e-14)


@every_operator
@some_geometries
@pytest.mark.parametrize("numbers", [(np.nan,), (np.inf,), (-np.inf,), (np.inf, -np.inf, np.nan)], ids=str)
def test_nan_and_infinite_pixels_are_treated_as_by_tensor_code(numbers, geometry, operator):
    x, *parameters = drawn(geometry)
    generator = torch.Generator().manual_seed(2)
    for number in numbers:
        x[torch.rand(x.shape, generator=generator) < 0.05] = number
    expected, leaves = by_tensor(operator, [x, *parameters], geometry)
    found, pull_back = by_kernel(operator, [x, *parameters], geometry)
    assert_same(found, expected.detach(), 1e-12)
    if operator != "expectile":  # whose gradient means nothing at infinite results
        theirs = torch.autograd.grad(expected, leaves[:2], like(found))
        for ours, gradient in zip(pull_back(like(found)), theirs, strict=False):
            assert_same(ours, gradient, 1e-10)


@pytest.mark.parametrize("operator", OPERATORS[3:])
@pytest.mark.parametrize("level", [-800.0, 800.0])
def test_levels_may_be_so_high_that_one_side_has_no_weight_left(level, operator):
    geometry = Geometry((6, 7), (3, 3), padding="reflect", reverse=True)
    x, bias, weight, _ = drawn(geometry)
    found, _ = by_kernel(operator, [x, bias, weight, torch.full((2,), level, dtype=torch.float64)], geometry)
    expected, _ = by_tensor(operator, [x, bias, weight, torch.full((2,), level, dtype=torch.float64)], geometry)
    assert_same(found, expected.detach(), 1e-14)


@pytest.mark.parametrize("operator", ["dilation", "quantile", "huber 0.7"])
def test_a_window_without_neighbours_gives_no_gradient(operator):
    geometry = Geometry((1, 4), (1, 3))
    bias = torch.tensor([[0.0, -torch.inf, -torch.inf]])  # looks left: the first pixel sees nothing
    x = torch.tensor([[[[3.0, 1.0, 2.0, 5.0]]]])
    y, pull_back = by_kernel(operator, [x, bias, torch.ones(1, 3), torch.zeros(1)], geometry)
    assert y.flatten()[1:].tolist() == [3.0, 1.0, 2.0]
    assert not y.flatten()[0].isfinite()
    by_x, by_bias, *others = pull_back(torch.ones_like(y))
    assert by_x.flatten().tolist() == [1.0, 1.0, 1.0, 0.0]
    assert by_bias.flatten().tolist() == [3.0, 0.0, 0.0]
    assert all(gradient.isfinite().all() for gradient in others)


@pytest.mark.parametrize("operator", OPERATORS[3:])
def test_an_undefined_pixel_that_nobody_asks_for_spoils_no_gradient(operator):
    geometry = Geometry((4, 4), (2, 2), (2, 2), (1, 1), "valid", False)
    x, bias, weight, level = drawn(geometry, channels=1)
    x[..., 0, 0] = torch.nan
    y, pull_back = by_kernel(operator, [x, bias, weight, level], geometry)
    assert all(gradient.isfinite().all() for gradient in pull_back(torch.where(y.isnan(), 0.0, 1.0)))


@every_operator
@pytest.mark.parametrize("padding", ["circular", "reflect"])
def test_results_do_not_depend_on_the_number_of_threads(padding, operator):
    geometry = Geometry((40, 40), (3, 3), padding=padding, reverse=True)
    arguments = drawn(geometry, torch.float32, channels=17)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            y, pull_back = by_kernel(operator, arguments, geometry)
            results.append([y, *pull_back(like(y))])
    finally:
        torch.set_num_threads(before)
    for others in results[1:]:
        assert all(map(torch.equal, results[0], others))


@every_operator
@pytest.mark.parametrize(
    "geometry",
    [Geometry((20, 18), (17, 17)), Geometry((2, 40), (1, 35), padding="replicate", reverse=True)],
    ids=["the same everywhere", "bent back"],
)
def test_large_windows_keep_their_slots_apart(geometry, operator):
    assert window(geometry).elements.size > 255
    assert_agreement(operator, drawn(geometry), geometry, 1e-13, 1e-11)


@every_operator
def test_memory_layout_does_not_matter(operator):
    geometry = Geometry((6, 7), (3, 3), padding="reflect", reverse=True)
    x, *parameters = drawn(geometry)
    expected, pull_back = by_kernel(operator, [x, *parameters], geometry)
    for arranged in (x.to(memory_format=torch.channels_last), x.repeat(1, 1, 1, 2)[..., :7]):
        found, pull_back_found = by_kernel(operator, [arranged, *parameters], geometry)
        assert torch.equal(found, expected)
        cotangent = torch.ones(1, dtype=x.dtype).expand(expected.shape)
        assert all(map(torch.equal, pull_back_found(cotangent), pull_back(torch.ones_like(expected))))


@every_operator
def test_a_batch_may_be_empty(operator):
    geometry = Geometry((6, 7), (3, 3), padding="reflect", reverse=True)
    x, *parameters = drawn(geometry)
    y, pull_back = by_kernel(operator, [x[:0], *parameters], geometry)
    assert y.shape == (0, 2, 6, 7)
    by_x, *others = pull_back(y)
    assert by_x.shape == x[:0].shape
    assert not any(gradient.any() for gradient in others)


def test_slots_are_left_out_on_request():
    geometry = Geometry((6, 7), (3, 3), padding="reflect", reverse=True)
    x, bias, *_ = drawn(geometry)
    y, chosen = on_arrays(pixelwise.supremum, x, bias, geometry, None, 99, False)
    assert torch.equal(y, on_arrays(pixelwise.supremum, x, bias, geometry, None, 99, True)[0])
    assert chosen.shape == (0,)


pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))


@settings(deadline=None)
@given(
    image=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    size=pairs,
    stride=pairs,
    rate=pairs,
    padding=st.sampled_from(("geodesic", "replicate", "reflect", "circular")),
    reverse=st.booleans(),
)
def test_every_pixel_has_one_lane(image, size, stride, rate, padding, reverse):
    geometry = Geometry(image, size, stride, rate, padding, reverse)
    pixels = layout(geometry).pixels
    height, width = window(geometry).shape
    assert sorted(pixels[pixels >= 0].tolist()) == list(range(height * width))


def test_the_interior_of_a_bent_window_is_straight():
    lanes = layout(Geometry((20, 30), (3, 5), padding="reflect", reverse=True))
    straight = lanes.pixels[: lanes.straight]
    assert (straight >= 0).sum() == 18 * 26
    assert (lanes.offsets >= 0).sum() == 15
