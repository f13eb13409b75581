"""The operators as PyTorch sees them: custom ops that can be traced, compiled and differentiated once."""

import pytest
import torch
from by_position import by_position
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.library import opcheck

from varmorph.torch import (
    Dilation2d,
    VariationalDilation2d,
    backend,
    dilation,
    erosion,
    variational_dilation,
    variational_erosion,
)
from varmorph.torch.backend.ops import alone
from varmorph.torch.backend.ops import window as ops
from varmorph.windows import Geometry, output_shape, window

WINDOW = [3, 3], [1, 1], [1, 1]
# The first takes the loops along lanes, the second those that go pixel by pixel.
GEOMETRIES = [(*WINDOW, "geodesic", False), (*WINDOW, "replicate", True), ([2, 3], [2, 1], [1, 2], "valid", False)]
every_geometry = pytest.mark.parametrize("geometry", GEOMETRIES, ids=["lanes", "pixelwise", "valid"])
PENALTIES = {"expectile": None, "quantile": None, "huber": 0.3}
OPERATORS = [dilation, erosion, variational_dilation, variational_erosion]


def leaves(geometry, dtype=torch.float64, requires_grad=True):
    generator = torch.Generator().manual_seed(0)
    elements = geometry[0][0] * geometry[0][1]
    x, bias, weight, level = (
        torch.randn(shape, generator=generator, dtype=dtype)
        for shape in ((2, 3, 6, 5), (3, elements), (3, elements), (3,))
    )
    problem = x, bias, weight.exp(), level.sigmoid(), (-level).sigmoid()
    return [leaf.requires_grad_(requires_grad) for leaf in problem]


@every_geometry
def test_max_plus_is_a_lawful_op(geometry):
    x, bias, *_ = leaves(geometry)
    opcheck(ops.supremum, (x, bias, None, 1, True, "cpu", *geometry))
    x, bias = x.detach(), bias.detach()
    opcheck(ops.supremum, (x, bias, None, 1, False, "cpu", *geometry))
    y, chosen = ops.supremum(x, bias, None, 1, True, "cpu", *geometry)
    opcheck(ops.supremum_backward, (y, chosen, bias, 1, "cpu", x.shape, *geometry))


def differentiated(y, inputs):
    """The gradients, the same with a graph of their own, and those of their squares by what they depend on."""
    cotangent = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    plain = torch.autograd.grad(y, inputs, cotangent, retain_graph=True)
    first = torch.autograd.grad(y, inputs, cotangent.requires_grad_(), create_graph=True)
    second = torch.autograd.grad(sum((g**2).sum() for g in first), (*inputs, cotangent), materialize_grads=True)
    return plain, first, second


@every_geometry
@pytest.mark.parametrize("outside", [None, 0.5])
def test_alone_the_operators_and_their_derivatives_are_the_same(geometry, outside):
    x, bias, weight, *_ = leaves(geometry)
    level = torch.tensor([2.0, -1.0, 0.5], dtype=x.dtype, requires_grad=True)
    size, window = geometry[0], Geometry((6, 5), *map(tuple, geometry[:3]), *geometry[3:])
    function, weights = bias.view(3, *size), weight.view(3, *size)
    sides = level.sigmoid(), (-level).sigmoid()
    inputs = x, bias, weight, level
    close = {"rtol": 1e-12, "atol": 1e-12}
    y = alone.expectile(x, function, weights, level, window, outside)
    expected = ops.expectile(x, bias, weight, *sides, outside, "cpu", *geometry)
    assert torch.equal(y, expected)
    torch.testing.assert_close(differentiated(y, inputs), differentiated(expected, inputs), **close)
    for raised in (0, 2, 3):
        y = alone.supremum(x, function, window, outside, raised, True)
        expected = ops.supremum(x, bias, outside, raised, True, "cpu", *geometry)[0]
        without = alone.supremum(x.detach(), function.detach(), window, outside, raised, False)
        assert torch.equal(y, expected)
        assert torch.equal(without, expected)
        torch.testing.assert_close(differentiated(y, inputs[:2]), differentiated(expected, inputs[:2]), **close)


@every_geometry
@pytest.mark.parametrize("outside", [None, 0.5])
def test_the_expectile_is_a_lawful_op(geometry, outside):
    *problem, cotau = leaves(geometry)
    opcheck(ops.expectile, (*problem, cotau.detach(), outside, "cpu", *geometry))
    x, *parameters = (leaf.detach() for leaf in (*problem, cotau))
    y = ops.expectile(x, *parameters, outside, "cpu", *geometry)
    opcheck(ops.expectile_backward, (y, x, y, *parameters, outside, "cpu", *geometry))


@every_geometry
def test_the_quantile_is_a_lawful_op(geometry):
    *problem, cotau = leaves(geometry)
    opcheck(ops.quantile, (*problem, cotau.detach(), None, "cpu", *geometry))
    x, bias, *rest = (leaf.detach() for leaf in (*problem, cotau))
    y, ends = ops.quantile(x, bias, *rest, None, "cpu", *geometry)
    opcheck(ops.quantile_backward, (y, ends, bias, "cpu", x.shape, *geometry))


@every_geometry
def test_huber_is_a_lawful_op(geometry):
    *problem, cotau = leaves(geometry)
    smoothing = torch.full((3,), 0.3, dtype=torch.float64)
    opcheck(ops.huber, (*problem, cotau.detach(), smoothing.clone().requires_grad_(), None, "cpu", *geometry))
    x, *parameters = (leaf.detach() for leaf in (*problem, cotau, smoothing))
    y, ends = ops.huber(x, *parameters, None, "cpu", *geometry)
    opcheck(ops.huber_backward, (y, x, y, ends, *parameters, None, "cpu", *geometry))


@pytest.mark.parametrize("padding", ["geodesic", "valid", "circular"])
@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
def test_the_shape_of_a_result_is_known_before_its_values(padding, stride):
    geometry = Geometry((9, 8), (3, 2), stride, (2, 3), padding)
    assert output_shape(geometry) == window(geometry).shape


def loss(operator, x, bias, **options):
    parameters = (bias,) if operator in (dilation, erosion) else (bias, 2.0)
    return operator(x, *parameters, **options).square().sum()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # PyTorch's own, at graph breaks
@pytest.mark.parametrize("padding", ["geodesic", "replicate"])
@pytest.mark.parametrize("name", ["auto", "tensor"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_compiled_operators_give_the_same_values_and_gradients(operator, name, padding):
    torch.compiler.reset()
    x, bias = torch.randn(2, 3, 7, 6, requires_grad=True), torch.zeros(3, 3, 3, requires_grad=True)
    with backend(name):
        iterates = name == "tensor" and operator in (variational_dilation, variational_erosion)
        compiled = torch.compile(loss, fullgraph=not iterates, backend="aot_eager")
        results = [
            (value.detach(), *torch.autograd.grad(value, (x, bias)))
            for value in (run(operator, x, bias, padding=padding) for run in (loss, compiled))
        ]
    for eager, traced in zip(*results, strict=True):
        torch.testing.assert_close(traced, eager)


@pytest.mark.parametrize(("penalty", "smoothing"), PENALTIES.items())
def test_every_penalty_compiles_to_one_graph(penalty, smoothing):
    torch.compiler.reset()
    x, bias = torch.randn(2, 3, 7, 6), torch.zeros(3, 3, 3)
    options = {"penalty": penalty, "smoothing": smoothing}
    compiled = torch.compile(variational_dilation, fullgraph=True, backend="aot_eager")
    expected = variational_dilation(x, bias, 2.0, **options)
    torch.testing.assert_close(compiled(x, bias, 2.0, **options), expected)


def test_one_graph_serves_images_of_all_sizes():
    torch.compiler.reset()
    graphs = []

    def count(graph, _):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(dilation, fullgraph=True, dynamic=True, backend=count)
    bias = torch.zeros(3, 3, 3)
    for size in (5, 8, 13):
        x = torch.randn(2, 3, size, size + 1)
        torch.testing.assert_close(compiled(x, bias), dilation(x, bias))
    assert len(graphs) == 1


def test_compiled_code_refuses_what_eager_code_refuses():
    torch.compiler.reset()
    compiled = torch.compile(dilation, fullgraph=True, backend="aot_eager")
    with pytest.raises(RuntimeError, match="bias must hold finite numbers or -inf"):
        compiled(torch.zeros(1, 1, 4, 4), torch.full((3, 3), torch.nan))


@pytest.mark.parametrize("layer", [Dilation2d(3, 3), VariationalDilation2d(3, 3)])
def test_layers_compile_to_one_graph(layer):
    torch.compiler.reset()
    x = torch.randn(2, 3, 7, 6)
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), layer(x))


@pytest.mark.parametrize("operator", [dilation, variational_dilation])
def test_gradients_by_torch_func(operator):
    x, bias, weight, level, _ = leaves(GEOMETRIES[0], requires_grad=False)
    parameters = (bias.view(3, 3, 3),) if operator is dilation else (bias.view(3, 3, 3), weight.view(3, 3, 3), level)

    def value(x):
        return by_position(operator)(x, *parameters).square().sum()

    with backend("tensor"):
        expected = torch.func.grad(value)(x)
    with backend("cpu"):
        torch.testing.assert_close(torch.func.grad(value)(x), expected)


def test_whatever_watches_operations_sees_the_op():
    x, bias = torch.randn(1, 1, 4, 4), torch.zeros(1, 3, 3)
    graph = make_fx(lambda x: dilation(x, bias))(x).graph
    assert torch.ops.varmorph.supremum.default in [node.target for node in graph.nodes]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # PyTorch's own forward mode still uses it
@pytest.mark.parametrize("operator", OPERATORS)
def test_forward_mode_is_refused_and_not_dropped(operator):
    x, bias = torch.randn(1, 1, 4, 4), torch.zeros(1, 3, 3)
    parameters = () if operator in (dilation, erosion) else (1.0,)
    with backend("cpu"), pytest.raises(RuntimeError, match="no forward mode"):
        torch.func.jvp(lambda x: operator(x, bias, *parameters), (x,), (torch.ones_like(x),))
    with backend("cpu"), forward_ad.dual_level(), pytest.raises(RuntimeError, match="no forward mode"):
        operator(forward_ad.make_dual(x, torch.ones_like(x)), bias, *parameters)
