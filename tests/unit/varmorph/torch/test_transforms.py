"""Operators under the transforms of `torch.func`, differentiated twice, without numbers, and written down elsewhere."""

import io

import numpy as np
import pytest
import torch
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap

import varmorph.torch
from varmorph.torch import backend

BIAS = -0.3 * torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
WEIGHT = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 0.5
LEVEL = torch.tensor([1.0, -0.7], dtype=torch.float64)
EDGES = torch.tensor([[0, 1, 2, 3, 0, 2], [1, 2, 3, 4, 3, 0]])


def beside(x, value):
    """Bring a tensor to dtype and device of the image."""
    return value.to(x) if isinstance(value, torch.Tensor) else value


def of_image(name, *arguments, **options):
    def apply(x, bias=BIAS):
        given = (beside(x, argument) for argument in (bias, *arguments))
        return getattr(varmorph.torch, name)(x, *given, **{key: beside(x, value) for key, value in options.items()})

    return apply


def of_nodes(name, *arguments, **options):
    return lambda x: getattr(varmorph.torch, name)(x[:, :, 0].mT, EDGES.to(x.device), -0.2, *arguments, **options)


def value_of(function):
    return lambda *arguments: function(*arguments).value


WINDOW = {
    "dilation": of_image("dilation"),
    "erosion": of_image("erosion", padding="reflect", stride=2),
    "closing": of_image("closing"),
    "gradient": of_image("gradient", padding=0.5),
    "expectile": of_image("variational_dilation", LEVEL, weight=WEIGHT),
    "expectile, valid": of_image("variational_erosion", LEVEL, weight=WEIGHT, padding="valid"),
    "quantile": of_image("variational_dilation", LEVEL, weight=WEIGHT, penalty="quantile"),
    "huber": of_image("variational_dilation", LEVEL, weight=WEIGHT, penalty="huber", smoothing=0.4),
    "variational opening": of_image("variational_opening", (-1.0, 1.5), padding="circular"),
}
GRAPH = {
    "graph_dilation": of_nodes("graph_dilation"),
    "graph_closing": of_nodes("graph_closing"),
    "variational_graph_dilation": of_nodes("variational_graph_dilation", 1.0, weight=2.0),
}
GEODESIC = {
    "reconstruction": lambda x: varmorph.torch.reconstruction(x - 0.4, x),
    "reconstruction by erosion": lambda x: varmorph.torch.reconstruction(x.flip(-1), x, by="erosion"),
    "h_maxima": lambda x: varmorph.torch.h_maxima(x, 0.3),
    "leveling": lambda x: varmorph.torch.leveling(x.flip(-1), x),
}
COUPLED = {
    "regularised_dilation": value_of(of_image("regularised_dilation", LEVEL, 0.8, weight=WEIGHT)),
    "regularised_dilation, solver": value_of(
        of_image("regularised_dilation", 1.0, 0.8, solver=varmorph.torch.Anderson(tolerance=1e-12))
    ),
    "joint_opening": value_of(of_image("joint_opening", (-1.0, 1.0), 0.7)),
    "regularised_graph_dilation": value_of(of_nodes("regularised_graph_dilation", 1.0, 0.5)),
    "joint_graph_closing": value_of(of_nodes("joint_graph_closing", (1.0, -1.0), 0.5)),
}
LINEAR_OR_SMOOTH = {**WINDOW, **GRAPH, **GEODESIC}
ALL = {**LINEAR_OR_SMOOTH, **COUPLED}
every = pytest.mark.parametrize("name", ALL)
# It says that torch.jit is deprecated, and uses it in forward mode.
of_pytorch_itself = pytest.mark.filterwarnings(
    "ignore:.*torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning"
)
every_twice = pytest.mark.parametrize("name", LINEAR_OR_SMOOTH)
CLOSE = {"rtol": 1e-6, "atol": 1e-7}


@pytest.fixture
def x():
    return torch.randn(3, 2, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def energy(function):
    weigh = torch.arange(1.0, 2000.0, dtype=torch.float64).cos()
    return lambda x: (function(x).flatten() * weigh[: function(x).numel()]).sum() + function(x).square().sum()


@every
def test_vmap_is_the_batch(name, x):
    function = ALL[name]
    torch.testing.assert_close(vmap(lambda image: function(image[None])[0])(x), function(x), **CLOSE)


@every
def test_grad_and_jacrev_are_those_of_autograd(name, x):
    function, x = ALL[name], x[:1]
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(energy(function)(leaf), leaf)
    torch.testing.assert_close(grad(energy(function))(x), expected, **CLOSE)
    jacobian = jacrev(function)(x)
    torch.testing.assert_close(jacobian, torch.autograd.functional.jacobian(function, x), **CLOSE)


@every
def test_gradients_of_each_member_of_a_batch_in_both_orders(name, x):
    function = ALL[name]

    def one(image):
        return energy(function)(image[None])

    expected = torch.stack([grad(one)(image) for image in x])
    torch.testing.assert_close(vmap(grad(one))(x), expected, **CLOSE)
    torch.testing.assert_close(grad(lambda x: vmap(one)(x).sum())(x), expected, **CLOSE)


@pytest.mark.parametrize("name", ["dilation", "expectile", "huber", "regularised_dilation"])
def test_a_batch_of_structuring_functions(name, x):
    function = ALL[name] if name in WINDOW else value_of(of_image("regularised_dilation", LEVEL, 0.8, weight=WEIGHT))
    several = torch.stack((BIAS, 2 * BIAS, BIAS.flip(-1)))
    expected = torch.stack([function(x, bias) for bias in several])
    torch.testing.assert_close(vmap(function, in_dims=(None, 0))(x, several), expected, **CLOSE)


@every_twice
def test_kernels_and_tensor_code_have_the_same_second_derivatives(name, x):
    function, x, found = LINEAR_OR_SMOOTH[name], x[:1], {}
    for code in ("auto", "tensor"):
        with backend(code):
            found[code] = torch.autograd.functional.hessian(energy(function), x)
    torch.testing.assert_close(found["auto"], found["tensor"], **CLOSE)
    torch.testing.assert_close(jacrev(grad(energy(function)))(x), found["tensor"], **CLOSE)


@pytest.mark.parametrize("name", WINDOW)
def test_second_derivatives_in_all_tensors_are_those_of_differences(name, x):
    function = WINDOW[name]
    leaves = [x[:1, :, :4, :4].clone().requires_grad_(), BIAS.clone().requires_grad_()]
    assert torch.autograd.gradgradcheck(function, leaves, eps=1e-6, atol=1e-5)


def test_second_derivatives_in_weight_level_and_smoothing(x):
    def operator(x, bias, weight, level, smoothing):
        return varmorph.torch.variational_dilation(x, bias, level, weight=weight, penalty="huber", smoothing=smoothing)

    def expectile(x, bias, weight, level):
        return varmorph.torch.variational_erosion(x, bias, level, weight=weight)

    leaves = [x[:1, :, :3, :3], BIAS, WEIGHT, LEVEL, torch.full((2,), 0.7, dtype=torch.float64)]
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    assert torch.autograd.gradgradcheck(operator, leaves, eps=1e-6, atol=1e-4)
    assert torch.autograd.gradgradcheck(expectile, leaves[:4], eps=1e-6, atol=1e-4)


@of_pytorch_itself
@pytest.mark.parametrize("name", [*WINDOW, *GRAPH])
def test_forward_mode_runs_in_tensor_code(name, x):
    function, x = LINEAR_OR_SMOOTH[name], x[:1]
    torch.testing.assert_close(jacfwd(function)(x), jacrev(function)(x), **CLOSE)
    expected = torch.autograd.functional.hessian(energy(function), x)
    torch.testing.assert_close(hessian(energy(function))(x), expected, **CLOSE)


@of_pytorch_itself
@pytest.mark.parametrize("name", GEODESIC)
def test_where_there_is_no_forward_mode_it_is_said(name, x):
    with pytest.raises(RuntimeError, match="no forward mode"):
        jacfwd(ALL[name])(x)


PATH = torch.tensor([[0, 1, 2, 3, 2], [1, 2, 3, 1, 0]])
TIGHT = {"solver": varmorph.torch.Newton(tolerance=1e-13)}
TWICE = {
    "regularised_dilation": lambda x, bias, level, strength, weight, mu: varmorph.torch.regularised_dilation(
        x, bias, level, strength, weight=weight, edge_penalty="huber", edge_smoothing=mu, **TIGHT
    ),
    "regularised_dilation, all": lambda x, bias, level, strength, weight, mu: varmorph.torch.regularised_dilation(
        x, bias, level, strength, weight=weight, edge_weights=2 + x[:, :, None].cos().expand(-1, -1, 2, -1, -1),
        penalty="huber", smoothing=mu, ridge=strength / 2, **TIGHT,
    ),
    "joint_opening": lambda x, bias, level, strength, weight, mu: varmorph.torch.joint_opening(
        x, bias, (-1.0, level), strength, weight=weight, **TIGHT
    ),
    "joint_closing": lambda x, bias, level, strength, weight, mu: varmorph.torch.joint_closing(
        x, bias, (level, -1.0), strength, weight=weight, penalty="huber", smoothing=mu, **TIGHT
    ),
    "regularised_graph_dilation": lambda x, bias, level, strength, weight, mu: (
        varmorph.torch.regularised_graph_dilation(
            x[:, :, 0].mT, PATH, bias[0, 0, 0], level, strength, weight=weight[0, 0, 0], **TIGHT
        )
    ),
    "joint_graph_closing": lambda x, bias, level, strength, weight, mu: varmorph.torch.joint_graph_closing(
        x[:, :, 0].mT, PATH, bias[0, 0, 0], (level, -1.0), strength, weight=weight[0, 0, 0], **TIGHT
    ),
}  # fmt: skip


@pytest.mark.parametrize("code", ["auto", "tensor"])
@pytest.mark.parametrize("name", TWICE)
def test_second_derivatives_of_coupled_operators_are_those_of_differences(name, code, x):
    numbers = (torch.tensor(number, dtype=torch.float64) for number in (1.2, 0.7))
    leaves = [x[:1, :, :, :4], BIAS, *numbers, WEIGHT, torch.tensor(0.5, dtype=torch.float64)]
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    with backend(code):
        assert torch.autograd.gradgradcheck(value_of(TWICE[name]), leaves, eps=1e-6, atol=1e-5, fast_mode=True)


@of_pytorch_itself
@pytest.mark.parametrize("name", COUPLED)
def test_coupled_operators_have_forward_mode_and_both_orders_of_second_derivatives(name, x):
    function, x = COUPLED[name], x[:1, :, :1] if "graph" in name else x[:1, :, :2, :3]
    torch.testing.assert_close(jacfwd(function)(x), jacrev(function)(x), **CLOSE)
    expected = torch.autograd.functional.hessian(energy(function), x)
    assert expected.abs().max() > 0.1
    for second in (hessian(energy(function)), jacrev(grad(energy(function)))):
        torch.testing.assert_close(second(x), expected, **CLOSE)
    along = torch.ones_like(x)
    slope = grad(lambda x: jvp(energy(function), (x,), (along,))[1])(x)
    torch.testing.assert_close(slope.flatten(), expected.view(x.numel(), -1) @ along.flatten(), **CLOSE)


def test_a_gradient_of_a_gradient_depends_on_the_parameters_of_a_coupled_operator(x):
    """Sharp: the weight enters the Hessian of the energy, which a graph of the adjoint's solution as a constant would lose."""
    level = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)

    def squared_slope(level):
        leaf = x[:1].clone().requires_grad_()
        value = varmorph.torch.regularised_dilation(leaf, BIAS, level, 0.8, **TIGHT).value
        return torch.autograd.grad(value.square().sum(), leaf, create_graph=True)[0].square().sum()

    (found,) = torch.autograd.grad(squared_slope(level), level)
    step = 1e-5
    expected = (squared_slope(level + step) - squared_slope(level - step)) / (2 * step)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", [*WINDOW, *GRAPH, *GEODESIC])
def test_third_derivatives_are_those_of_tensor_code(name, x):
    function, x, found = ALL[name], x[:1].requires_grad_(), {}
    for code in ("auto", "tensor"):
        with backend(code):
            (first,) = torch.autograd.grad(energy(function)(x).sin(), x, create_graph=True)
            (second,) = torch.autograd.grad(first.square().sum(), x, create_graph=True)
            (found[code],) = torch.autograd.grad(second.square().sum(), x)
    assert found["tensor"].abs().max() > 0
    torch.testing.assert_close(found["auto"], found["tensor"], **CLOSE)


@pytest.mark.parametrize("name", TWICE)
def test_third_derivatives_of_coupled_operators_are_those_of_differences(name, x):
    x = x[:1]

    def second(size):
        strength, level = 0.7 * size, 1.2 * size
        mu = torch.tensor(0.5, dtype=torch.float64)
        value = TWICE[name](x, BIAS, level, strength, WEIGHT, mu).value.square().sum()
        (first,) = torch.autograd.grad(value, size, create_graph=True)
        return torch.autograd.grad(first, size, create_graph=True)[0]

    size = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(second(size), size)
    expected = (second(size + 1e-4) - second(size - 1e-4)).detach() / 2e-4
    assert expected.abs() > 1e-3
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", COUPLED)
def test_third_derivatives_of_coupled_operators_are_refused_by_transforms(name, x):
    with pytest.raises(RuntimeError, match="found a third one"):
        grad(lambda x: grad(lambda x: grad(energy(COUPLED[name]))(x).sum())(x).sum())(x[:1])


def test_a_certificate_comes_out_of_a_transform(x):
    def solved(image):
        solution = varmorph.torch.regularised_dilation(image[None], BIAS, 1.0, 0.8)
        forward = solution.certificate.forward
        return solution.value[0], forward.converged[0], forward.iterations[0], forward.active.margin[0]

    expected = varmorph.torch.regularised_dilation(x, BIAS, 1.0, 0.8)
    value, converged, iterations, margin = vmap(solved)(x)
    torch.testing.assert_close(value, expected.value)
    assert torch.equal(converged, expected.certificate.forward.converged)
    assert torch.equal(iterations, expected.certificate.forward.iterations)
    torch.testing.assert_close(margin, expected.certificate.forward.active.margin)


@pytest.mark.parametrize("transform", [grad, lambda f: vmap(f), lambda f: jacrev(f)], ids=["grad", "vmap", "jacrev"])
def test_what_a_transform_cannot_see_is_refused(transform, x):
    def fixed_point(x):
        return varmorph.torch.equilibrium(lambda z: torch.tanh(0.5 * z + x), torch.zeros_like(x)).value.sum()

    with pytest.raises(RuntimeError, match=r"equilibrium cannot be transformed by torch.func"):
        transform(fixed_point)(x)


@every
def test_tensors_on_meta_give_shapes(name, x):
    x = x.float()
    expected = ALL[name](x)
    found = ALL[name](x.to("meta"))
    assert found.device.type == "meta"
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)


@of_pytorch_itself
@pytest.mark.parametrize("name", [name for name in [*WINDOW, *GRAPH] if name != "huber"])
def test_a_jit_trace_holds_for_other_images(name, x):
    function = LINEAR_OR_SMOOTH[name]
    traced = torch.jit.trace(function, x)
    other = x.flip(0).exp()
    torch.testing.assert_close(traced(other), function(other))


@of_pytorch_itself
@pytest.mark.parametrize("name", ["huber", *GEODESIC, *COUPLED])
def test_what_iterates_until_it_is_done_refuses_to_be_written_down(name, x):
    with pytest.raises(RuntimeError, match="cannot be exported or traced: how often it iterates"):
        torch.jit.trace(ALL[name], x)


LAYERS = [
    ("Dilation2d", {}),
    ("Erosion2d", {"padding": "reflect", "stride": 2}),
    ("Opening2d", {"rate": 2}),
    ("Gradient2d", {"padding": "valid"}),
    ("BlackTopHat2d", {"padding": 0.5}),
    ("VariationalDilation2d", {}),
    ("VariationalErosion2d", {"stride": 2}),
    ("VariationalClosing2d", {"padding": "circular"}),
    ("VariationalDilation2d", {"penalty": "quantile"}),
]


@pytest.mark.filterwarnings("ignore")  # of the exporter
@pytest.mark.parametrize(("name", "options"), LAYERS, ids=[f"{name} {options}" for name, options in LAYERS])
def test_onnx_runs_what_is_exported(name, options):
    import onnxruntime  # heavy, and needed here alone

    layer = getattr(varmorph.torch, name)(2, 3, **options)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    x, other = torch.randn(2, 2, 2, 9, 8, generator=generator)
    file = io.BytesIO()
    torch.onnx.export(layer, (x,), file, dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(file.getvalue())
    (found,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
    np.testing.assert_allclose(found, layer(other).detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["RegularisedDilation2d", "JointOpening2d"])
def test_export_says_why_a_layer_cannot_be_written_down(name):
    with pytest.raises(Exception, match="cannot be exported or traced: how often it iterates"):
        torch.export.export(getattr(varmorph.torch, name)(2, 3), (torch.zeros(1, 2, 5, 5),))
