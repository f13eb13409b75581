"""Tensor code and kernels against the executable specification, values and gradients, in float64."""

import itertools

import numpy as np
import pytest
import torch
from by_position import by_position

import varmorph.torch
from varmorph import reference

PADDINGS = ("geodesic", "replicate", "reflect", "circular", "valid", 0.4)
CASES = [  # image, window
    ((2, 3, 5, 7), (3, 3)),
    ((1, 2, 6, 5), (4, 2)),
    ((2, 1, 3, 2), (7, 6)),
    ((1, 1, 1, 4), (1, 5)),
]
OPTIONS = [
    (image, size, {"padding": padding, "stride": stride, "rate": rate})
    for (image, size), padding, stride, rate in itertools.product(CASES, PADDINGS, (1, (2, 3)), (1, 2))
    if padding != "valid" or (rate == 1 and size[0] <= image[2] and size[1] <= image[3])
]


def name_of(case):
    image, size, options = case
    return "-".join(map(str, ("x".join(map(str, image)), "x".join(map(str, size)), *options.values())))


every_option = pytest.mark.parametrize(("image", "size", "options"), OPTIONS, ids=map(name_of, OPTIONS))
every_backend = pytest.mark.parametrize("backend", ["tensor", "auto"])


def arguments(image, size):
    generator = torch.Generator().manual_seed(sum(image) + sum(size))
    channels = image[1]
    x, bias, weight, level = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in (image, (channels, *size), (channels, *size), (channels,))
    )
    bias[:, 0, 0] = -torch.inf if size[0] > 1 else 0.0
    return x, bias, weight.exp(), 2 * level


def assert_close(found, expected, tolerance):
    expected = torch.as_tensor(expected)
    scale = expected.abs().max().item() if expected.numel() else 0.0
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * max(scale, 1e-3))


@every_backend
@every_option
def test_max_plus_operators(image, size, options, backend):
    x, bias, _, _ = arguments(image, size)
    names = ["dilation", "erosion"]
    if options["padding"] != "valid":
        names += ["opening", "closing"]
    for name in names:
        with varmorph.torch.backend(backend):
            found = getattr(varmorph.torch, name)(x, bias, **options)
        assert_close(found, getattr(reference, name)(x.numpy(), bias.numpy(), **options), 1e-14)


@every_backend
@every_option
@pytest.mark.parametrize("name", ["variational_dilation", "variational_erosion"])
def test_variational_operators_and_their_gradients(image, size, options, backend, name):
    leaves = [argument.requires_grad_() for argument in arguments(image, size)]
    arrays = [leaf.detach().numpy() for leaf in leaves]
    expected = by_position(getattr(reference, name))(*arrays, **options)
    with varmorph.torch.backend(backend):
        found = by_position(getattr(varmorph.torch, name))(*leaves, **options)
    assert_close(found.detach(), expected, 1e-12)
    cotangent = np.random.default_rng(0).standard_normal(expected.shape)
    gradients = torch.autograd.grad(found, leaves, torch.from_numpy(cotangent))
    exact = by_position(getattr(reference, f"{name}_gradient"))(*arrays, cotangent, **options)[:4]
    for gradient, gradient_expected in zip(gradients, exact, strict=True):
        assert_close(gradient, gradient_expected, 1e-10)


@every_option
@pytest.mark.parametrize("name", ["variational_dilation", "variational_erosion"])
@pytest.mark.parametrize("smoothing", [None, 0.05, 0.7, 5.0])
def test_quantile_and_huber_operators_and_their_gradients(image, size, options, name, smoothing):
    options = {**options, "penalty": "quantile" if smoothing is None else "huber"}
    leaves = [argument.requires_grad_() for argument in arguments(image, size)]
    arrays = [leaf.detach().numpy() for leaf in leaves]
    if smoothing is not None:
        leaves.append(torch.full((image[1],), smoothing, dtype=torch.float64, requires_grad=True))
        options["smoothing"] = leaves[-1].detach().numpy()
    expected = by_position(getattr(reference, name))(*arrays, **options)
    found = by_position(getattr(varmorph.torch, name))(
        *leaves[:4], **{**options, **({"smoothing": leaves[-1]} if smoothing else {})}
    )
    assert_close(found.detach(), expected, 1e-12)
    cotangent = np.random.default_rng(0).standard_normal(expected.shape)
    gradients = torch.autograd.grad(found, leaves, torch.from_numpy(cotangent), allow_unused=True)
    exact = by_position(getattr(reference, f"{name}_gradient"))(*arrays, cotangent, **options)
    for gradient, leaf, gradient_expected in zip(gradients, leaves, exact, strict=False):
        assert_close(torch.zeros_like(leaf) if gradient is None else gradient, gradient_expected, 1e-10)


@every_backend
@pytest.mark.parametrize("name", ["variational_opening", "variational_closing"])
def test_variational_openings(backend, name):
    x, bias, weight, level = arguments((2, 3, 5, 7), (3, 2))
    levels = torch.stack((-level.abs(), level.abs()))
    with varmorph.torch.backend(backend):
        found = getattr(varmorph.torch, name)(x, bias, levels, weight=weight, stride=2)
    expected = getattr(reference, name)(x.numpy(), bias.numpy(), levels.numpy(), weight=weight.numpy(), stride=2)
    assert_close(found, expected, 1e-12)


@pytest.mark.parametrize(
    ("variational", "exact", "sign"), [("variational_opening", "opening", 1), ("variational_closing", "closing", -1)]
)
def test_opposite_levels_tend_to_the_exact_operator(variational, exact, sign):
    x, bias, weight, _ = arguments((2, 3, 6, 6), (3, 3))
    target = getattr(varmorph.torch, exact)(x, bias)
    distances = [
        (getattr(varmorph.torch, variational)(x, bias, (-sign * s, sign * s), weight=weight) - target)
        .abs()
        .max()
        .item()
        for s in (2.0, 6.0, 12.0, 24.0)
    ]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-8


@pytest.mark.parametrize(
    "name", ["gradient", "internal_gradient", "external_gradient", "white_top_hat", "black_top_hat"]
)
def test_differences_of_operators(name):
    x, bias, _, _ = arguments((2, 3, 6, 6), (3, 2))
    expected = torch.from_numpy(getattr(reference, name)(x.numpy(), bias.numpy()))
    assert_close(getattr(varmorph.torch, name)(x, bias), expected, 1e-14)
    sampled = getattr(varmorph.torch, name)(x, bias, stride=(2, 3))
    assert_close(sampled, expected[..., ::2, ::3], 1e-14)


@pytest.mark.parametrize(
    "name", ["gradient", "internal_gradient", "external_gradient", "white_top_hat", "black_top_hat"]
)
@pytest.mark.parametrize("size", [(3, 3), (2, 4)])
def test_padding_valid_gives_the_pixels_at_which_no_window_leaves_the_image(name, size):
    x, bias, _, _ = arguments((1, 1, 12, 12), size)
    whole = getattr(varmorph.torch, name)(x, bias)
    valid = getattr(varmorph.torch, name)(x, bias, padding="valid")
    height, width = valid.shape[2:]
    places = [
        (i, j)
        for i in range(13 - height)
        for j in range(13 - width)
        if torch.equal(whole[..., i : i + height, j : j + width], valid)
    ]
    assert len(places) == 1
