"""Operators that mix channels in PyTorch: kernels and tensor code against the specification, and what surrounds them."""

import itertools
import pickle

import numpy as np
import pytest
import torch

import varmorph.torch
from varmorph import reference
from varmorph.convert import to_jax, to_torch
from varmorph.torch import (
    MaxPlusConv2d,
    VariationalConv2d,
    VariationalLinear,
    backend,
    dilation,
    maxplus_conv2d,
    maxplus_linear,
    minplus_conv2d,
    variational_conv2d,
    variational_dilation,
    variational_linear,
)

every_code = pytest.mark.parametrize("code", ["auto", "tensor"])
LAYOUTS = [
    {"groups": groups, "signed": signed, **window}
    for groups, signed, window in itertools.product(
        (1, 2, 4),
        (False, True),
        (
            {},
            {"stride": 2},
            {"rate": (1, 2), "padding": "reflect"},
            {"padding": "circular"},
            {"padding": 0.5},
            {"padding": "valid"},
        ),
    )
]
every_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: " ".join(map(str, layout.values())))


def drawn(groups=1, signed=False, size=(3, 2), image=(2, 4, 6, 7), outputs=4, dtype=torch.float64, **_):
    generator = torch.Generator().manual_seed(0)

    def noise(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    shape = (outputs, (2 if signed else 1) * image[1] // groups, *size)
    bias = 0.3 * noise(*shape)
    bias[0, 0, 0, 0] = -torch.inf
    level = torch.linspace(-3, 3, outputs, dtype=dtype)
    return {"x": noise(*image), "bias": bias, "weight": noise(*shape).exp(), "logit_level": level}


def close(found, expected, tolerance):
    expected = torch.as_tensor(np.asarray(expected)).to(found)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance * expected.abs().max().clamp(min=1e-3)


@every_code
@every_layout
def test_variational_convolutions_and_their_gradients(layout, code):
    arguments = drawn(**layout)
    arrays = {name: value.numpy() for name, value in arguments.items()}
    leaves = {name: value.clone().requires_grad_() for name, value in arguments.items()}
    with backend(code):
        found = variational_conv2d(**leaves, **layout)
    close(found.detach(), reference.variational_conv2d(**arrays, **layout), 1e-10)
    cotangent = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gradients = torch.autograd.grad(found, list(leaves.values()), cotangent)
    exact = reference.variational_conv2d_gradient(**arrays, cotangent=cotangent.numpy(), **layout)
    for name, gradient in zip(leaves, gradients, strict=True):
        close(gradient, getattr(exact, name), 1e-8)


@every_layout
@pytest.mark.parametrize("operator", ["maxplus_conv2d", "minplus_conv2d"])
def test_max_and_min_plus_convolutions(layout, operator):
    arguments = drawn(**layout)
    arguments = {name: arguments[name] for name in ("x", "bias")}
    results = []
    for code in ("auto", "tensor"):
        leaves = {name: value.clone().requires_grad_() for name, value in arguments.items()}
        with backend(code):
            found = getattr(varmorph.torch, operator)(**leaves, **layout)
        cotangent = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        results.append([found.detach(), *torch.autograd.grad(found, list(leaves.values()), cotangent)])
    exact = getattr(reference, operator)(**{name: value.numpy() for name, value in arguments.items()}, **layout)
    for found in results:
        close(found[0], exact, 1e-14)
    torch.testing.assert_close(results[0], results[1])


@every_code
@pytest.mark.parametrize(("penalty", "smoothing"), [("quantile", None), ("huber", 0.4)])
@pytest.mark.parametrize("layout", LAYOUTS[::5], ids=lambda layout: " ".join(map(str, layout.values())))
def test_other_penalties(layout, penalty, smoothing, code):
    arguments = drawn(**layout)
    arrays = {name: value.numpy() for name, value in arguments.items()}
    options = {"penalty": penalty, "smoothing": smoothing, **layout}
    leaves = {name: value.clone().requires_grad_() for name, value in arguments.items()}
    with backend(code):
        found = variational_conv2d(**leaves, **options)
    close(found.detach(), reference.variational_conv2d(**arrays, **options), 1e-10)
    gradients = torch.autograd.grad(found.sum(), list(leaves.values()), allow_unused=True)
    exact = reference.variational_conv2d_gradient(**arrays, cotangent=np.ones(found.shape), **options)
    for name, gradient in zip(leaves, gradients, strict=True):
        if penalty == "huber" or name in ("x", "bias"):
            close(gradient, getattr(exact, name), 1e-8)


@every_code
@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": "reflect"}, {"penalty": "huber", "smoothing": 0.3}])
def test_depthwise_it_is_the_operator_of_a_window_to_the_bit(options, code):
    arguments = drawn(groups=4)
    window = {"x": arguments["x"], "bias": arguments["bias"][:, 0], "logit_level": arguments["logit_level"]}
    with backend(code):
        expected = variational_dilation(**window, weight=arguments["weight"][:, 0], **options)
        assert torch.equal(variational_conv2d(**arguments, groups=4, **options), expected)
        if "penalty" not in options:
            found = maxplus_conv2d(arguments["x"], arguments["bias"], groups=4, **options)
            assert torch.equal(found, dilation(arguments["x"], arguments["bias"][:, 0], **options))


@every_code
def test_single_and_half_precision(code):
    exact = variational_conv2d(**drawn(signed=True), signed=True)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 3e-2)):
        arguments = {name: value.to(dtype) for name, value in drawn(signed=True).items()}
        with backend(code):
            found = variational_conv2d(**arguments, signed=True)
        assert found.dtype == dtype
        close(found.double(), exact, tolerance)


@pytest.mark.parametrize("operator", [maxplus_conv2d, variational_conv2d])
def test_the_number_of_threads_does_not_change_a_bit(operator):
    arguments = drawn(signed=True, image=(37, 4, 9, 8), outputs=6, dtype=torch.float32)
    if operator is maxplus_conv2d:
        arguments = {name: arguments[name] for name in ("x", "bias")}
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            leaves = {name: value.clone().requires_grad_() for name, value in arguments.items()}
            y = operator(**leaves, signed=True)
            results.append([y, *torch.autograd.grad(y.square().sum(), list(leaves.values()))])
    finally:
        torch.set_num_threads(before)
    for others in results[1:]:
        assert all(map(torch.equal, results[0], others))


@every_code
def test_a_nan_reaches_the_windows_that_hold_it_and_no_others(code):
    arguments = drawn(dtype=torch.float32, image=(1, 4, 7, 8), size=(3, 3))
    clean = variational_conv2d(**arguments)
    arguments["x"][0, 1, 2, 3] = torch.nan
    with backend(code):
        for found in (variational_conv2d(**arguments), maxplus_conv2d(arguments["x"], arguments["bias"])):
            assert found[:, 1:, 1:4, 2:5].isnan().all()
            found[:, :, 1:4, 2:5] = 0
            assert not found.isnan().any()
    kept = variational_conv2d(**arguments)
    torch.testing.assert_close(kept[:, :, 4:], clean[:, :, 4:])


@every_code
def test_infinite_pixels_and_windows_without_edges(code):
    x = torch.tensor([[[[0.0, torch.inf, -torch.inf]]]])
    with backend(code):
        assert maxplus_conv2d(x, torch.zeros(1, 2, 1, 1), signed=True).flatten().tolist() == [0.0, torch.inf, torch.inf]
        bias = torch.tensor([[[[-torch.inf, -torch.inf, 0.0]]]])  # only the right neighbour
        assert maxplus_conv2d(x, bias, groups=1)[..., -1].item() == -torch.inf
        assert minplus_conv2d(torch.zeros(1, 1, 1, 3), bias)[..., -1].item() == torch.inf


@every_code
def test_ties_and_flat_pieces_of_quantiles_and_huber(code):
    """Whole numbers of equal weight at level 0: minimisers fill intervals, and the first value at each end takes a half."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randint(-2, 3, (2, 2, 5, 5), generator=generator).double()
    bias = torch.randint(-1, 2, (3, 4, 2, 2), generator=generator).double()
    for options in ({"penalty": "quantile"}, {"penalty": "huber", "smoothing": 0.25}):
        leaves = [x.clone().requires_grad_(), bias.clone().requires_grad_()]
        with backend(code):
            found = variational_conv2d(*leaves, 0.0, signed=True, **options)
        exact = reference.variational_conv2d(x.numpy(), bias.numpy(), 0.0, signed=True, **options)
        close(found.detach(), exact, 1e-12)
        by_x, by_bias = torch.autograd.grad(found.sum(), leaves)
        expected = reference.variational_conv2d_gradient(
            x.numpy(), bias.numpy(), 0.0, np.ones(exact.shape), signed=True, **options
        )
        close(by_x, expected.x, 1e-9)
        close(by_bias, expected.bias, 1e-9)


def test_second_derivatives_and_transforms():
    arguments = drawn(groups=2, signed=True, image=(2, 4, 3, 3), size=(2, 2))
    leaves = [arguments[name].clone().requires_grad_() for name in ("x", "bias", "logit_level", "weight")]

    def operator(x, bias, level, weight):
        return variational_conv2d(x, bias, level, weight=weight, groups=2, signed=True)

    assert torch.autograd.gradgradcheck(operator, leaves, eps=1e-6, atol=1e-4)
    assert torch.autograd.gradgradcheck(lambda x, b: maxplus_conv2d(x, b, groups=2, signed=True), leaves[:2])
    for options in ({"penalty": "quantile"}, {"penalty": "huber", "smoothing": 0.5}):

        def other(x, bias, options=options):
            return variational_conv2d(x, bias, 1.0, groups=2, signed=True, **options)

        assert torch.autograd.gradgradcheck(other, leaves[:2], eps=1e-6, atol=1e-4)
    x, *parameters = (leaf.detach() for leaf in leaves)
    found = torch.func.vmap(lambda image: operator(image[None], *parameters)[0])(x)
    torch.testing.assert_close(found, operator(x, *parameters))


def test_features_are_images_of_one_pixel():
    generator = torch.Generator().manual_seed(0)
    x, bias = (torch.randn(shape, generator=generator) for shape in ((2, 5, 4), (3, 8)))
    weight, level = torch.rand(3, 8, generator=generator) + 0.1, torch.tensor([-1.0, 0.0, 2.0])
    for found, name, numbers, options in (
        (maxplus_linear(x, bias, signed=True), "maxplus_linear", (), {}),
        (
            variational_linear(x, bias, level, weight=weight, signed=True),
            "variational_linear",
            (level.numpy(),),
            {"weight": weight.numpy()},
        ),
    ):
        exact = getattr(reference, name)(x.numpy(), bias.numpy(), *numbers, signed=True, **options)
        close(found, exact, 1e-5)
    assert maxplus_linear(x[0, 0], bias, signed=True).shape == (3,)
    assert maxplus_linear(x[:0], bias, signed=True).shape == (0, 5, 3)


X = torch.zeros(2, 4, 5, 5)
WRONG = [
    (lambda: maxplus_conv2d(X, torch.zeros(2, 3, 1, 1)), ValueError, r"bias must have shape \(O, 4, kh, kw\).*found \(2, 3, 1, 1\)"),
    (lambda: maxplus_conv2d(X, torch.zeros(2, 4, 1, 1), signed=True), ValueError, r"\(O, 8, kh, kw\).*signed"),
    (lambda: maxplus_conv2d(X, torch.zeros(3, 2, 1, 1), groups=2), ValueError, "O a multiple of groups"),
    (lambda: maxplus_conv2d(X, torch.zeros(3, 4, 1, 1), groups=3), ValueError, "groups must be a positive integer that divides the 4 channels"),
    (lambda: maxplus_conv2d(X, torch.full((2, 4, 1, 1), -torch.inf)), ValueError, "bias must keep at least one element for each output"),
    (lambda: maxplus_conv2d(X, torch.full((2, 4, 1, 1), torch.nan)), ValueError, "bias must hold finite numbers or -inf"),
    (lambda: variational_conv2d(X, torch.zeros(2, 4, 1, 1), 0.0, weight=torch.ones(4, 1, 1)), ValueError, "weight must have the shape of bias"),
    (lambda: variational_conv2d(X, torch.zeros(2, 4, 1, 1), 0.0, weight=-torch.ones(2, 4, 1, 1)), ValueError, "weight must hold finite numbers >= 0"),
    (lambda: variational_conv2d(X, torch.zeros(2, 4, 1, 1), torch.zeros(4)), ValueError, "logit_level must be a scalar or have shape"),
    (lambda: maxplus_conv2d(X, [[0.0]]), TypeError, "bias must be a torch.Tensor, found list"),
    (lambda: maxplus_linear(torch.tensor(1.0), torch.zeros(2, 1)), ValueError, r"x must have shape \(..., F\)"),
    (lambda: MaxPlusConv2d(4, 6, 3, groups=4), ValueError, "groups must be a positive integer that divides the 6 channels"),
    (lambda: VariationalConv2d(4, 6, 3, initial_spread=-1.0), ValueError, "initial_spread must be a number >= 0"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), WRONG, ids=[message[:40] for _, _, message in WRONG])
def test_wrong_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


LAYERS = {
    "MaxPlusConv2d": ((4, 6, 3), {"stride": 2, "signed": True}),
    "MinPlusConv2d": ((4, 6, (2, 3)), {"groups": 2}),
    "VariationalConv2d": ((4, 6, 3), {"padding": "reflect", "signed": True, "initial_level": 1.0}),
    "MaxPlusLinear": ((4, 6), {"signed": True}),
    "MinPlusLinear": ((4, 6), {}),
    "VariationalLinear": ((4, 6), {"signed": True, "penalty": "huber", "smoothing": 0.5}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    sizes, options = LAYERS[name]
    torch.manual_seed(0)
    layer = getattr(varmorph.torch, name)(*sizes, **options)
    x = torch.rand(2, 4) if name.endswith("Linear") else torch.rand(2, 4, 7, 6)
    y = layer(x)
    assert y.shape[1] == 6
    if options.get("signed"):
        to_x, to_minus_x = layer.bias.detach().chunk(2, 1)
        assert torch.equal(to_x, -to_minus_x)
    y.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x), y)
    twin = to_jax(layer)
    np.testing.assert_allclose(np.asarray(twin(x.numpy())), y.detach().numpy(), atol=1e-5)
    back = to_torch(twin)
    assert repr(back) == repr(layer)
    torch.testing.assert_close(back(x), y)
    meta = getattr(varmorph.torch, name)(*sizes, device="meta", dtype=torch.float64, **options)
    assert {(p.device.type, p.dtype) for p in meta.parameters()} == {("meta", torch.float64)}


def test_representations():
    layer = VariationalConv2d(4, 6, 3, 2, "reflect", groups=2, signed=True, penalty="huber", smoothing=0.5)
    assert repr(layer) == (
        "VariationalConv2d(4, 6, kernel_size=(3, 3), stride=(2, 2), padding='reflect', groups=2, signed=True, penalty='huber',"
        " smoothing=0.5)"
    )
    assert repr(VariationalLinear(4, 6)) == "VariationalLinear(4, 6)"


def test_memory_is_that_of_input_output_and_parameters():
    """A window is never unfolded: the working memory of a thread is a copy of one sample, and sums of the parameters' gradients."""
    tracemalloc = pytest.importorskip("tracemalloc")
    from varmorph.kernels.mixing import lanes
    from varmorph.windows import Geometry

    arguments = drawn(signed=True, image=(16, 16, 28, 28), outputs=32, size=(3, 3), dtype=torch.float32)
    x, bias, weight, level = (value.numpy() for value in arguments.values())
    tau, cotau = 1 / (1 + np.exp(-level)), 1 / (1 + np.exp(level))
    functions = bias.reshape(32, 32, 9), weight.reshape(32, 32, 9)
    problem = *functions, tau, cotau, 1, Geometry((28, 28), (3, 3)), None
    one = lanes.expectile(x[:1], *problem)  # compiles, as the next line does
    lanes.expectile_backward(one, x[:1], one, *problem)
    tracemalloc.start()
    y = lanes.expectile(x, *problem)
    gradients = lanes.expectile_backward(y, x, y, *problem)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= 3 * (x.nbytes + y.nbytes + 2 * bias.nbytes)
    assert gradients[0].shape == x.shape


@pytest.mark.parametrize("penalty", ["expectile", "quantile", "huber", "max-plus"])
@pytest.mark.parametrize(("image", "stride"), [((7, 3, 5, 6), 1), ((7, 3, 12, 11), 2), ((70, 3, 3, 3), 1)])
def test_a_sample_does_not_depend_on_its_batch(penalty, image, stride):
    """Small images are computed side by side: the same bits as alone, and gradients that are the sums of those alone."""
    x, bias, weight, level = drawn(signed=True, image=image, outputs=4, size=(3, 3)).values()

    def operator(x, bias, weight, level):
        if penalty == "max-plus":
            return varmorph.torch.maxplus_conv2d(x, bias, signed=True, stride=stride)
        smoothing = 0.4 if penalty == "huber" else None
        options = {"weight": weight, "penalty": penalty, "smoothing": smoothing, "signed": True, "stride": stride}
        return varmorph.torch.variational_conv2d(x, bias, level, **options)

    leaves = [leaf.clone().requires_grad_() for leaf in (x, bias, weight, level)]
    together = operator(*leaves)
    apart = torch.cat([operator(one[None], bias, weight, level) for one in x])
    assert torch.equal(together, apart)
    q = torch.randn(together.shape, generator=torch.Generator().manual_seed(3), dtype=x.dtype)
    found = torch.autograd.grad(together, leaves, q, allow_unused=True, materialize_grads=True)
    expected = [torch.zeros_like(leaf) for leaf in leaves]
    for n in range(len(x)):
        alone = [leaf.detach().clone().requires_grad_() for leaf in (x[n : n + 1], bias, weight, level)]
        one = torch.autograd.grad(operator(*alone), alone, q[n : n + 1], allow_unused=True, materialize_grads=True)
        expected[0][n] = one[0][0]
        for total, part in zip(expected[1:], one[1:], strict=True):
            total += part
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("level", [-6.0, -3.0, 2.0, 4.0, 9.0])
def test_many_edges_at_steep_levels(level):
    """There the first step of Newton's method is lengthened, and may pass the root."""
    x, bias, weight, levels = drawn(signed=True, image=(3, 16, 8, 8), outputs=4, size=(3, 3)).values()
    levels = torch.full_like(levels, level)
    found = varmorph.torch.variational_conv2d(x, bias, levels, weight=weight, signed=True)
    with varmorph.torch.backend("tensor"):
        expected = varmorph.torch.variational_conv2d(x, bias, levels, weight=weight, signed=True)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
