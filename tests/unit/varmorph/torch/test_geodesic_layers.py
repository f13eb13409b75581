"""The geodesic layers: parameters, the projection of the offsets, what they print, and that they travel and learn."""

import pickle

import pytest
import torch

import varmorph.torch
from varmorph.torch import HMaxima2d, Leveling2d, Reconstruction2d, h_maxima, leveling, reconstruction

MADE = {
    "Reconstruction2d": lambda: Reconstruction2d(3, (3, 2), by="erosion"),
    "HMaxima2d": lambda: HMaxima2d(3, initial_height=0.5, connectivity=4),
    "Leveling2d": lambda: Leveling2d(3, connectivity=4),
}
EXPECTED = {
    "Reconstruction2d": lambda layer, x, y: reconstruction(x, y, layer.offsets, by="erosion"),
    "HMaxima2d": lambda layer, x: h_maxima(x, layer.log_height.exp(), connectivity=4),
    "Leveling2d": lambda layer, x, y: leveling(x, y, connectivity=4),
}
SHAPES = {"Reconstruction2d": {"bias": (3, 3, 2)}, "HMaxima2d": {"log_height": (3,)}, "Leveling2d": {}}
REPRS = {
    "Reconstruction2d": "Reconstruction2d(3, kernel_size=(3, 2), by='erosion')",
    "HMaxima2d": "HMaxima2d(3, initial_height=0.5, connectivity=4)",
    "Leveling2d": "Leveling2d(3, connectivity=4)",
}
every_layer = pytest.mark.parametrize("name", MADE)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer(name):
    made = MADE[name]()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * randn(*parameter.shape))
    return made


def images(name):
    return [randn(2, 3, 7, 6, seed=seed) for seed in ((1,) if name == "HMaxima2d" else (1, 2))]


@every_layer
def test_a_layer_applies_the_function_of_its_name(name):
    made = layer(name)
    assert torch.equal(made(*images(name)), EXPECTED[name](made, *images(name)))


@every_layer
def test_shapes_of_the_parameters_and_what_is_printed(name):
    made = layer(name)
    assert {key: tuple(value.shape) for key, value in made.state_dict().items()} == SHAPES[name]
    assert repr(made) == REPRS[name]


@every_layer
def test_a_layer_survives_pickling_and_loading_its_state(name):
    made = layer(name)
    copy = pickle.loads(pickle.dumps(made))
    fresh = MADE[name]()
    fresh.load_state_dict(made.state_dict())
    assert repr(copy) == repr(made)
    for other in (copy, fresh):
        assert torch.equal(other(*images(name)), made(*images(name)))


@every_layer
def test_every_parameter_and_image_receives_a_finite_gradient(name):
    made, given = layer(name), [image.requires_grad_() for image in images(name)]
    made(*given).square().sum().backward()
    for leaf in (*made.parameters(), *given):
        assert torch.isfinite(leaf.grad).all()
        assert leaf.grad.any()


@every_layer
def test_a_layer_works_in_float64_and_under_autocast(name):
    made = layer(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert made(*(image.bfloat16() for image in images(name))).dtype == torch.bfloat16
    assert made.double()(*(image.double() for image in images(name))).dtype == torch.float64


def test_layers_start_flat_at_their_height():
    assert Reconstruction2d(2).bias.tolist() == torch.zeros(2, 3, 3).tolist()
    torch.testing.assert_close(HMaxima2d(2).height, torch.full((2,), 0.1))
    made = layer("HMaxima2d")
    made.reset_parameters()
    torch.testing.assert_close(made.height, torch.full((3,), 0.5))


def test_the_offsets_of_a_reconstruction_are_the_nearest_admissible_ones():
    made = Reconstruction2d(1)
    with torch.no_grad():
        made.bias.copy_(torch.tensor([[[-1.0, 2.0, 0.0], [-0.5, 7.0, 0.5], [-torch.inf, -7.0, 1.0]]]))
    assert made.offsets.tolist() == [[[-1.0, 0.0, 0.0], [-0.5, 0.0, 0.0], [-torch.inf, -7.0, 0.0]]]
    with torch.no_grad():
        made.bias[0, 1, 1] = -7.0
    assert made.offsets[0, 1, 1].item() == 0


@pytest.mark.parametrize("cotangent", [-1.0, 1.0])
def test_the_gradient_of_the_projection_passes_where_a_step_counts_or_leads_back(cotangent):
    made = Reconstruction2d(1, (1, 5))
    with torch.no_grad():
        made.bias.copy_(torch.tensor([[[-1.0, 0.0, 0.0, 2.0, -3.0]]]))
    (cotangent * made.offsets).sum().backward()
    beyond = max(cotangent, 0.0)  # a descent step lowers an entry where the gradient is positive
    assert made.bias.grad.flatten().tolist() == [cotangent, cotangent, 0.0, beyond, cotangent]


def test_an_offset_that_was_carried_over_zero_comes_back():
    made = Reconstruction2d(1, (1, 3))
    with torch.no_grad():
        made.bias.fill_(0.4)
    marker, mask = torch.zeros(1, 1, 1, 8), torch.full((1, 1, 1, 8), 5.0)
    marker[..., 0] = 4.0
    wanted = reconstruction(marker, mask, torch.tensor([[-0.5, 0.0, 0.0]]))
    optimiser = torch.optim.SGD(made.parameters(), lr=0.02)
    for _ in range(100):
        optimiser.zero_grad()
        loss = (made(marker, mask) - wanted).square().mean()
        loss.backward()
        optimiser.step()
    assert made.offsets[0, 0, 0].item() == pytest.approx(-0.5, abs=0.01)
    assert made.bias[0, 0, 1].item() == pytest.approx(0.4)  # the origin stays what it was


def test_h_maxima_recover_a_height_from_pairs():
    pairs = torch.rand(8, 2, 10, 10, generator=torch.Generator().manual_seed(3))
    heights = torch.tensor([0.15, 0.6])
    wanted = h_maxima(pairs, heights)
    made = HMaxima2d(2, initial_height=0.3)
    optimiser = torch.optim.Adam(made.parameters(), lr=0.05)
    for _ in range(100):
        optimiser.zero_grad()
        loss = (made(pairs) - wanted).square().mean()
        loss.backward()
        optimiser.step()
    torch.testing.assert_close(made.height.detach(), heights, rtol=0.02, atol=0)


X = torch.zeros(2, 3, 5, 5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Reconstruction2d(0), "channels must be a positive integer, found 0"),
        (lambda: Reconstruction2d(3, (3, 0)), r"kernel_size must be a positive integer .* found \(3, 0\)"),
        (lambda: Reconstruction2d(3, by="closing"), "by must be 'dilation' or 'erosion', found 'closing'"),
        (
            lambda: Reconstruction2d(2)(X, X),
            r"marker must have the channels of the layer, 2, found shape \(2, 3, 5, 5\)",
        ),
        (
            lambda: Reconstruction2d(3)(X, X[:, :1]),
            r"mask must have the channels of the layer, 3, found shape \(2, 1, 5, 5\)",
        ),
        (lambda: Reconstruction2d(3)(X, X[:1]), "marker and mask must have one shape"),
        (lambda: HMaxima2d(0), "channels must be a positive integer, found 0"),
        (lambda: HMaxima2d(3, initial_height=0.0), "initial_height must be a positive number, found 0.0"),
        (lambda: HMaxima2d(3, initial_height=torch.inf), "initial_height must be a positive number, found inf"),
        (lambda: HMaxima2d(3, connectivity=6), "connectivity must be 4 or 8, found 6"),
        (lambda: HMaxima2d(1)(X), r"x must have the channels of the layer, 1, found shape \(2, 3, 5, 5\)"),
        (lambda: Leveling2d(1.5), "channels must be a positive integer, found 1.5"),
        (lambda: Leveling2d(3, connectivity=6), "connectivity must be 4 or 8, found 6"),
        (lambda: Leveling2d(2)(X, X), r"marker must have the channels of the layer, 2, found shape \(2, 3, 5, 5\)"),
        (
            lambda: Leveling2d(3)(X, X[:, 1:]),
            r"reference must have the channels of the layer, 3, found shape \(2, 2, 5, 5\)",
        ),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


HEIGHTS = [varmorph.torch.h_maxima, varmorph.torch.h_minima, varmorph.torch.h_convex, varmorph.torch.extended_maxima]


@pytest.mark.parametrize("operator", HEIGHTS)
def test_a_height_belongs_to_its_channel(operator):
    x, heights = randn(2, 3, 6, 3), torch.tensor([0.2, 0.7, 1.5])  # as many columns as channels
    found = operator(x, heights)
    for c, height in enumerate(heights):
        assert torch.equal(found[:, c : c + 1], operator(x[:, c : c + 1], height.item()))
        assert torch.equal(found[:, c : c + 1], operator(x[:, c : c + 1], height))


@pytest.mark.parametrize("operator", HEIGHTS[:3])
def test_the_gradient_in_the_height_equals_central_differences(operator):
    x, heights = randn(2, 2, 5, 5, seed=4).double(), torch.tensor([0.3, 0.9], dtype=torch.float64)
    cotangent = randn(2, 2, 5, 5, seed=5).double()
    leaf = heights.clone().requires_grad_()
    (found,) = torch.autograd.grad(operator(x, leaf), leaf, cotangent)
    steps = 1e-7 * torch.eye(2, dtype=torch.float64)
    numerical = [(cotangent * (operator(x, heights + s) - operator(x, heights - s))).sum() / 2e-7 for s in steps]
    assert found.any()
    torch.testing.assert_close(found, torch.stack(numerical), rtol=0, atol=1e-6)


@pytest.mark.parametrize("operator", HEIGHTS)
@pytest.mark.parametrize(
    ("h", "error", "message"),
    [
        (-0.5, ValueError, r"h must be >= 0, found \[-0.5"),
        (torch.nan, ValueError, "h must be finite, found nan"),
        (torch.tensor([0.1, torch.inf, 0.1]), ValueError, "h must be finite, found .*inf"),
        (torch.zeros(2), ValueError, r"h must be a scalar or have shape \(3,\), found \(2,\)"),
        ("low", TypeError, "h must be a torch.Tensor, found str"),
    ],
)
def test_a_wrong_height_is_named(operator, h, error, message):
    with pytest.raises(error, match=message):
        operator(X, h)


def test_a_height_is_subtracted_before_rounding():
    # Near 8 bfloat16 counts in steps of 1/16: 8 - 1/64 would be 8 again, and the maximum would stay.
    x = torch.tensor([[[[0.0, 8.0, 0.0]]]], dtype=torch.bfloat16)
    assert varmorph.torch.h_convex(x, 1 / 64).flatten().tolist() == [0, 1 / 64, 0]
