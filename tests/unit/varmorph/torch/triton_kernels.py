"""What the programs for CUDA must compute; `test_triton_kernels.py` runs this file, in processes of their own.

With TRITON_INTERPRET=1 tensors are on the CPU, else on a GPU.
"""

import math
import os

import pytest
import torch

from varmorph import reference
from varmorph.torch.separable import maxplus, neighbours
from varmorph.torch.separable import minimisation as separable
from varmorph.windows import Geometry, window

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")

ALL = 99  # channels, more than there are

GEOMETRIES = {  # image, window, stride, rate, padding, reversed
    "one pixel": Geometry((1, 1), (3, 3), (1, 1), (1, 1), "geodesic", False),
    "1x1": Geometry((4, 5), (1, 1), (1, 1), (1, 1), "geodesic", False),
    "2x3 stride": Geometry((5, 6), (2, 3), (1, 2), (1, 1), "geodesic", True),
    "1x13": Geometry((3, 4), (1, 13), (1, 1), (1, 1), "geodesic", False),
    "3x3": Geometry((5, 6), (3, 3), (1, 1), (1, 1), "geodesic", False),
    "3x3 rate": Geometry((5, 4), (3, 3), (2, 1), (1, 2), "circular", False),
    "3x3 valid": Geometry((5, 6), (3, 3), (2, 2), (2, 1), "valid", False),
    "5x5": Geometry((4, 3), (5, 5), (1, 1), (1, 1), "reflect", False),
    "7x4": Geometry((6, 5), (7, 4), (3, 2), (1, 1), "geodesic", True),
    "bent back": Geometry((4, 5), (2, 3), (1, 1), (1, 1), "replicate", True),
}

every_geometry = pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES.keys())


@pytest.fixture
def cuda():
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs TRITON_INTERPRET=1 or a GPU")
    from varmorph.torch.backend.cuda import window as cuda

    return cuda


def channels_for(geometry):
    """Two, with levels on both sides of the middle, but one where that takes long in the interpreter."""
    return 2 if math.prod(geometry.size) < 15 else 1


def image(geometry, dtype, samples=2, channels=None):
    generator = torch.Generator().manual_seed(0)
    shape = (samples, channels or channels_for(geometry), *geometry.image)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def parameters(geometry, dtype, channels=None):
    """Bias with an absent element, weight with a 0, and level."""
    generator = torch.Generator().manual_seed(1)
    channels, size = channels or channels_for(geometry), math.prod(geometry.size)
    bias, weight = torch.randn(2, channels, size, generator=generator, dtype=torch.float64)
    weight = weight.exp()
    if size > 1:
        bias[0, 0] = -torch.inf
        weight[-1, -1] = 0
    level = torch.tensor([2.0, -1.5], dtype=torch.float64)[:channels]
    return bias.to(dtype), weight.to(dtype), level.to(dtype)


def on_device(*tensors):
    return [tensor.detach().to(DEVICE) for tensor in tensors]


def assert_close(found, expected):
    """Compare up to rounding of the largest number."""
    expected = expected.detach()
    scale = max(1.0, expected.abs().nan_to_num(0, 0).max().item())
    unit = 2e-6 if expected.dtype == torch.float32 else 1e-14
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=unit * scale, equal_nan=True)


def cotangent(y):
    return torch.randn(y.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(y.dtype)


@every_geometry
@pytest.mark.parametrize(
    ("raised", "dtype", "outside"),
    [(ALL, torch.float32, None), (0, torch.float64, 0.1), (1, torch.float32, None), (1, torch.float64, -0.1)],
    ids=["largest", "least", "both", "both, with a value outside"],
)
def test_supremum_agrees_with_tensor_code(cuda, geometry, dtype, raised, outside):
    x, (bias, _, _) = image(geometry, dtype).requires_grad_(), parameters(geometry, dtype)
    bias.requires_grad_()
    expected = maxplus.supremum(x, bias, window(geometry), outside, raised)
    y, chosen = cuda.supremum(*on_device(x, bias), geometry, outside, raised)
    assert torch.equal(y.cpu(), expected.detach())
    gradients = torch.autograd.grad(expected, (x, bias), cotangent(expected))
    found = cuda.supremum_backward(cotangent(expected).to(DEVICE), chosen, bias.detach().to(DEVICE), geometry, raised)
    for one, other in zip(found, gradients, strict=True):
        assert_close(one, other)


@pytest.mark.parametrize("name", ["3x3", "3x3 rate"])
def test_supremum_names_the_slots_that_the_kernel_for_the_cpu_names(cuda, name):
    from varmorph.kernels.window import lanes
    from varmorph.torch.backend.ops.arrays import on_arrays

    geometry = GEOMETRIES[name]
    x = image(geometry, torch.float32).round()  # ties
    x[0, 0, 2, 2], x[1, 1, 1, 1], x[1, 0] = torch.nan, torch.inf, -torch.inf
    bias = torch.zeros(2, math.prod(geometry.size))
    expected, slots = on_arrays(lanes.supremum, x, bias, geometry, None, ALL, True)
    y, chosen = cuda.supremum(*on_device(x, bias), geometry, None, ALL)
    torch.testing.assert_close(y.cpu(), expected, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(chosen.cpu().long(), slots.long())
    assert (chosen[1, 0] == bias.shape[1]).all()  # no slot attains -inf


def test_supremum_leaves_slots_out_where_nobody_asks_for_them(cuda):
    geometry = GEOMETRIES["2x3 stride"]
    x, (bias, _, _) = image(geometry, torch.float32), parameters(geometry, torch.float32)
    y, none = cuda.supremum(*on_device(x, bias), geometry, None, ALL, with_slots=False)
    assert torch.equal(y, cuda.supremum(*on_device(x, bias), geometry, None, ALL)[0])
    assert none.shape == (0,)


def test_supremum_of_a_large_window_keeps_its_slots_apart(cuda):
    geometry = Geometry((1, 2), (1, 257), padding="circular")  # more slots than a byte can number
    x, bias = torch.zeros(1, 1, 1, 2), torch.linspace(-1, 1, 257)[None]
    y, chosen = cuda.supremum(*on_device(x, bias), geometry, None, ALL)
    assert y.tolist() == [[[[1.0, 1.0]]]]
    assert chosen.tolist() == [[[[256, 256]]]]


def test_supremum_of_images_that_many_programs_share(cuda):
    geometry = Geometry((9, 140), (1, 2), (1, 1), (1, 1), "geodesic", False)
    x = image(geometry, torch.float64, 3).requires_grad_()
    bias = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)
    expected = maxplus.supremum(x, bias, window(geometry), None, ALL)
    y, chosen = cuda.supremum(*on_device(x, bias), geometry, None, ALL)
    assert torch.equal(y.cpu(), expected.detach())
    gradients = torch.autograd.grad(expected, (x, bias), cotangent(expected))
    found = cuda.supremum_backward(cotangent(expected).to(DEVICE), chosen, bias.detach().to(DEVICE), geometry, ALL)
    for one, other in zip(found, gradients, strict=True):
        assert_close(one, other)


def solve(cuda, penalty, x, bias, weight, level, geometry, outside, smoothing=None):
    """Run one of the operators; return the solution and a function of its gradient for the gradients."""
    tau, cotau = torch.sigmoid(level), torch.sigmoid(-level)
    x, bias, weight, tau, cotau = on_device(x, bias, weight, tau, cotau)
    problem = (x, bias, weight, tau, cotau)
    if penalty == "expectile":
        y = cuda.expectile(*problem, geometry, outside)
        return y, lambda g: cuda.expectile_backward(g, x, y, *problem[1:], geometry, outside)
    if penalty == "quantile":
        y, ends = cuda.quantile(*problem, geometry, outside)
        return y, lambda g: cuda.quantile_backward(g, ends, bias, geometry)
    mu = smoothing.detach().to(DEVICE)
    y, ends = cuda.huber(*problem, mu, geometry, outside)
    return y, lambda g: cuda.huber_backward(g, x, y, ends, *problem[1:], mu, geometry, outside)


def compare_with_tensor_code(cuda, penalty, x, bias, weight, level, geometry, outside, smoothing=None):
    leaves = [leaf.requires_grad_() for leaf in (x, bias, weight, level) + (() if smoothing is None else (smoothing,))]
    expected = separable.solve(*leaves[:4], window(geometry), outside, penalty, smoothing)
    y, backward = solve(cuda, penalty, x, bias, weight, level, geometry, outside, smoothing)
    assert_close(y, expected)
    g = cotangent(expected)
    gradients = list(torch.autograd.grad(expected, leaves, g, materialize_grads=True))
    gradients[3] = gradients[3] / (torch.sigmoid(level) * torch.sigmoid(-level))  # from the logit to tau
    for found, gradient in zip(backward(g.to(DEVICE)), gradients, strict=False):
        assert_close(found, gradient)


@every_geometry
def test_expectile_agrees_with_tensor_code(cuda, geometry):
    dtype = torch.float32 if geometry.size in ((2, 3), (5, 5)) else torch.float64
    outside = 0.1 if geometry.size == (2, 3) else None
    compare_with_tensor_code(cuda, "expectile", image(geometry, dtype), *parameters(geometry, dtype), geometry, outside)


def test_expectile_agrees_with_the_kernel_for_the_cpu(cuda):
    from varmorph.kernels.window import lanes
    from varmorph.torch.backend.ops.arrays import on_arrays

    geometry = GEOMETRIES["3x3"]
    x, (bias, weight, level) = image(geometry, torch.float32), parameters(geometry, torch.float32)
    problem = x, bias, weight, torch.sigmoid(level), torch.sigmoid(-level)
    y, backward = solve(cuda, "expectile", x, bias, weight, level, geometry, 0.1)
    expected = on_arrays(lanes.expectile, *problem, geometry, 0.1)
    assert_close(y, expected)
    g = cotangent(expected)
    gradients = on_arrays(lanes.expectile_backward, g, x, expected, *problem[1:], geometry, 0.1)
    for found, gradient in zip(backward(g.to(DEVICE)), gradients, strict=True):
        assert_close(found, gradient)


def test_expectile_is_that_of_the_specification(cuda):
    geometry = GEOMETRIES["3x3"]
    x, (bias, weight, level) = image(geometry, torch.float64), parameters(geometry, torch.float64)
    found, backward = solve(cuda, "expectile", x, bias, weight, level, geometry, None)
    arguments = {
        "x": x.numpy(),
        "bias": bias.reshape(2, 3, 3).numpy(),
        "weight": weight.reshape(2, 3, 3).numpy(),
        "logit_level": level.numpy(),
    }
    assert_close(found, torch.as_tensor(reference.variational_dilation(**arguments)))
    g = cotangent(found)
    gradients = reference.variational_dilation_gradient(**arguments, cotangent=g.cpu().numpy())
    by_x, by_bias, by_weight, _ = backward(g.to(DEVICE))
    assert_close(by_x, torch.as_tensor(gradients.x))
    assert_close(by_bias, torch.as_tensor(gradients.bias).reshape(2, 9))
    assert_close(by_weight, torch.as_tensor(gradients.weight).reshape(2, 9))


@pytest.mark.parametrize(("name", "dtype"), [("2x3 stride", torch.float32), ("1x13", torch.float64)])
def test_expectile_at_extreme_levels_stays_off_the_extremes(cuda, name, dtype):
    geometry = GEOMETRIES[name]
    x, (bias, weight, _) = image(geometry, dtype), parameters(geometry, dtype)
    level = torch.tensor([60.0, -60.0], dtype=dtype)
    values, weights = neighbours.window_pulls(x, bias, weight, window(geometry), None)
    values = values.masked_fill(weights <= 0, torch.nan)
    y, _ = solve(cuda, "expectile", x, bias, weight, level, geometry, None)
    assert (y[:, 0].cpu() < values[:, :, 0].nan_to_num(-torch.inf).amax(0)).all()
    assert (y[:, 1].cpu() > values[:, :, 1].nan_to_num(torch.inf).amin(0)).all()
    assert_close(y, separable.solve(x, bias, weight, level, window(geometry), None))


@pytest.mark.parametrize("size", [(1, 3), (1, 13)])
@pytest.mark.parametrize("pixel", [torch.nan, torch.inf, -torch.inf])
def test_expectile_takes_unusual_pixels_as_tensor_code_does(cuda, size, pixel):
    geometry = Geometry((3, 8), size, (1, 1), (1, 1), "geodesic", False)
    x, (bias, weight, level) = image(geometry, torch.float64, 1), parameters(geometry, torch.float64)
    bias[0] = -torch.inf
    bias[0, -1] = 0  # on one side of the image there is no neighbour
    x[0, :, 1, 2] = pixel
    y, _ = solve(cuda, "expectile", x, bias, weight, level, geometry, None)
    assert_close(y, separable.solve(x, bias, weight, level, window(geometry), None))


@pytest.mark.parametrize("penalty", ["expectile", "huber"])
def test_a_result_does_not_depend_on_its_neighbours_in_a_tile(cuda, penalty):
    geometry = Geometry((3, 4), (1, 3), (1, 1), (1, 1), "circular", False)
    x, (bias, weight, level) = image(geometry, torch.float32, 3, 1), parameters(geometry, torch.float32, 1)
    x[1] *= 1e3
    mu = torch.tensor([0.1])
    together, _ = solve(cuda, penalty, x, bias, weight, level, geometry, None, mu)
    alone, _ = solve(cuda, penalty, x[2:], bias, weight, level, geometry, None, mu)
    assert torch.equal(together[2:], alone)


@pytest.mark.parametrize(
    ("name", "dtype", "ties"),
    [("3x3", torch.float32, False), ("1x1", torch.float64, False), ("3x3 rate", torch.float64, True)],
)
def test_quantile_agrees_with_tensor_code(cuda, name, dtype, ties):
    geometry = GEOMETRIES[name]
    x, (bias, weight, level) = image(geometry, dtype), parameters(geometry, dtype)
    if ties:
        x, bias, weight = (2 * x).round(), bias.round(), weight.sign()
        level[:] = 0
    x[0, 0, 2, 2], x[1, 0, 2, 2], x[0, 1, 0, 0] = torch.nan, torch.inf, -torch.inf
    compare_with_tensor_code(cuda, "quantile", x, bias, weight, level, geometry, None)


@pytest.mark.parametrize(
    ("name", "dtype", "ties"), [("2x3 stride", torch.float64, False), ("3x3 valid", torch.float32, True)]
)
def test_huber_agrees_with_tensor_code(cuda, name, dtype, ties):
    geometry = GEOMETRIES[name]
    x, (bias, weight, level) = image(geometry, dtype), parameters(geometry, dtype)
    smoothing = torch.tensor([0.3, 1.0], dtype=dtype)
    if ties:
        x, bias, weight = (2 * x).round(), bias.round(), weight.sign()
        level[:] = 0
        smoothing[:] = 0.25
    compare_with_tensor_code(cuda, "huber", x, bias, weight, level, geometry, 0.1, smoothing)


def test_huber_is_undefined_where_a_value_is_not_finite(cuda):
    geometry = Geometry((2, 4), (1, 3), (1, 1), (1, 1), "geodesic", False)
    x = torch.tensor([[[[0.0, 1.0, torch.nan, 2.0], [torch.inf, 0.0, 1.0, 3.0]]]])
    bias, weight, level, mu = torch.zeros(1, 3), torch.ones(1, 3), torch.zeros(1), torch.ones(1)
    y, backward = solve(cuda, "huber", x, bias, weight, level, geometry, None, mu)
    assert y.isnan().tolist() == [[[[False, True, True, True], [True, True, False, False]]]]
    assert all(gradient.isfinite().all() for gradient in backward(torch.ones_like(y)))


@pytest.mark.parametrize("penalty", ["expectile", "quantile", "huber"])
def test_a_batch_may_be_empty(cuda, penalty):
    geometry = GEOMETRIES["3x3"]
    x, (bias, weight, level) = image(geometry, torch.float32, 0), parameters(geometry, torch.float32)
    y, backward = solve(cuda, penalty, x, bias, weight, level, geometry, None, torch.ones(2))
    assert y.shape == x.shape
    assert all(not gradient.any() for gradient in backward(torch.ones_like(y)))
    y, chosen = cuda.supremum(*on_device(x, bias), geometry, None, ALL)
    assert not cuda.supremum_backward(y, chosen, bias.to(DEVICE), geometry, ALL)[1].any()


def test_memory_layout_does_not_matter(cuda):
    geometry = GEOMETRIES["2x3 stride"]
    x, (bias, weight, level) = image(geometry, torch.float32), parameters(geometry, torch.float32)
    arranged = x.to(memory_format=torch.channels_last)
    y, backward = solve(cuda, "expectile", x, bias, weight, level, geometry, None)
    same, arranged_backward = solve(cuda, "expectile", arranged, bias, weight, level, geometry, None)
    assert torch.equal(y, same)
    g = torch.ones((), device=DEVICE).expand_as(y)  # a gradient without memory of its own
    assert all(map(torch.equal, backward(g), arranged_backward(g)))


def test_a_plane_too_large_for_its_positions_is_refused():
    from varmorph.torch.backend.cuda.index_maps import index_maps

    geometry = Geometry((2**16, 2**15), (1, 1), (1, 1), (1, 1), "geodesic", False)
    with pytest.raises(ValueError, match="planes of more than 1073741824 pixels have no kernel, found 65536 x 32768"):
        index_maps(geometry, torch.device("cpu"))
