"""What the programs for CUDA must compute where channels are mixed; `test_triton_mixing.py` runs this file, in processes of its own.

With TRITON_INTERPRET=1 tensors are on the CPU, else on a GPU.
"""

import itertools
import os

import pytest
import torch

import varmorph.torch
from varmorph.torch import backend, maxplus_linear, variational_conv2d, variational_linear
from varmorph.windows import Geometry

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter"),
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="needs TRITON_INTERPRET=1 or a GPU"),
]

WINDOWS = [
    {"size": (2, 2)},
    {"size": (2, 1), "stride": (2, 1)},
    {"size": (1, 2), "rate": (1, 2), "padding": "reflect"},
    {"size": (3, 1), "padding": "circular"},
    {"size": (1, 2), "padding": "replicate", "stride": 2},
    {"size": (1, 2), "padding": 0.5},
    {"size": (2, 1), "padding": "valid"},
    {"size": (1, 1)},
]
# Of each pair of neighbouring windows one is seen by these groups, the other by those.
LAYOUTS = [
    {"groups": groups, "signed": signed, **window}
    for (i, (groups, signed)), (j, window) in itertools.product(
        enumerate(itertools.product((1, 2), (False, True))), enumerate(WINDOWS)
    )
    if (i // 2 + i + j) % 2 == 0
]
MAX_PLUS = ["maxplus_conv2d", "minplus_conv2d"]
PENALTIES = ["expectile", "quantile", "huber"]


def name(layout):
    return " ".join(map(str, layout.values()))


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drawn(operator, groups=1, signed=False, size=(2, 2), samples=2, image=(3, 4), **_):
    """Arguments in which an element is left out, another weighs nothing, and the levels lie on both sides of the middle."""
    outputs = 2 if signed else 2 * groups
    shape = outputs, 4 if signed else 2, *size
    bias = 0.3 * noise(*shape, seed=1)
    if shape[1] * size[0] * size[1] > 2:
        bias[0, 0, -1, -1] = -torch.inf
    arguments = {"x": noise(samples, 2 * groups, *image), "bias": bias}
    if operator not in MAX_PLUS:
        weight = noise(*shape, seed=2).exp()
        weight[-1, -1, 0, 0] = 0
        arguments |= {"logit_level": torch.linspace(1.5, -2, outputs, dtype=torch.float64), "weight": weight}
    if operator == "huber":
        arguments["smoothing"] = torch.linspace(0.3, 0.8, outputs, dtype=torch.float64)
    return arguments


def compute(code, operator, arguments, layout, cotangent=None):
    """Give the result and the gradients of all arguments."""
    device = DEVICE if code == "cuda" else "cpu"
    leaves = {key: value.to(device).requires_grad_() for key, value in arguments.items()}
    options = {key: value for key, value in layout.items() if key != "size"}
    if operator not in MAX_PLUS:
        options["penalty"] = operator
    function = getattr(varmorph.torch, operator, variational_conv2d)
    with backend(code):
        found = function(**leaves, **options)
        cotangent = noise(*found.shape, seed=7) if cotangent is None else cotangent
        pull = cotangent.to(found)
        gradients = torch.autograd.grad(found, list(leaves.values()), pull, materialize_grads=True)
    return [tensor.detach().cpu() for tensor in (found, *gradients)]


def agree(operator, arguments, layout, cotangent=None):
    found, *gradients = compute("cuda", operator, arguments, layout, cotangent)
    expected, *exact = compute("tensor", operator, arguments, layout, cotangent)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10, equal_nan=True)
    for key, one, other in zip(arguments, gradients, exact, strict=True):
        scale = max(1.0, other.abs().max().item())
        torch.testing.assert_close(one, other, rtol=0, atol=1e-8 * scale, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize("layout", LAYOUTS, ids=name)
@pytest.mark.parametrize("operator", ["maxplus_conv2d", "expectile"])
def test_programs_agree_with_tensor_code(operator, layout):
    agree(operator, drawn(operator, **layout), layout)


@pytest.mark.parametrize(
    ("operator", "layout"),
    [
        *(("minplus_conv2d", layout) for layout in LAYOUTS[::3]),
        *(("quantile", layout) for layout in LAYOUTS[::4]),
        *(("huber", layout) for layout in LAYOUTS[1::5]),
    ],
    ids=lambda value: value if isinstance(value, str) else name(value),
)
def test_their_relatives_agree_with_tensor_code(operator, layout):
    agree(operator, drawn(operator, **layout, samples=1, image=(3, 3)), layout)


@pytest.mark.parametrize("operator", ["maxplus_conv2d", *PENALTIES])
def test_single_precision(operator):
    layout = {"signed": True, "groups": 2}
    arguments = drawn(operator, **layout, size=(1, 1), samples=1, image=(2, 3))
    expected = compute("tensor", operator, arguments, layout)
    found = compute("cuda", operator, {key: value.float() for key, value in arguments.items()}, layout)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one.double(), other, rtol=0, atol=2e-5 * max(1.0, other.abs().max().item()))


@pytest.mark.parametrize("signed", [False, True])
def test_features_are_images_of_one_pixel(signed):
    x, bias, weight = noise(2, 5, 3), noise(2, 6 if signed else 3, seed=1), noise(2, 6 if signed else 3, seed=2).exp()
    level = torch.tensor([-1.0, 2.0], dtype=torch.float64)

    def linear(code):
        tensors = [tensor.to(DEVICE if code == "cuda" else "cpu") for tensor in (x, bias, level, weight)]
        with backend(code):
            greatest = maxplus_linear(*tensors[:2], signed=signed)
            return greatest.cpu(), variational_linear(*tensors[:3], weight=tensors[3], signed=signed).cpu()

    for found, expected in zip(linear("cuda"), linear("tensor"), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def whole_numbers():
    """Images and offsets full of ties."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randint(-2, 3, (2, 2, 3, 3), generator=generator).double()
    return {"x": x, "bias": torch.randint(-1, 2, (2, 4, 1, 2), generator=generator).double()}


@pytest.mark.parametrize("operator", [*MAX_PLUS, *PENALTIES])
def test_of_ties_the_first_takes_the_gradient_and_a_residual_0_counts_as_above(operator):
    arguments = whole_numbers()
    if operator not in MAX_PLUS:
        arguments |= {"logit_level": torch.zeros(2, dtype=torch.float64)}
    if operator == "expectile":  # all values equal
        arguments |= {"x": torch.ones(2, 2, 3, 3).double(), "bias": torch.ones(2, 4, 1, 2).double()}
        arguments["bias"][:, 2:] += 2  # as -1 + 3
        arguments["logit_level"] += 1
    if operator == "huber":
        arguments["smoothing"] = torch.full((2,), 0.25, dtype=torch.float64)
    agree(operator, arguments, {"signed": True, "padding": "circular"})


@pytest.mark.parametrize("sign", [1, -1])
def test_slots_are_those_of_the_kernels_for_the_cpu(sign):
    from varmorph.kernels.mixing import lanes
    from varmorph.torch.backend.cuda.mixing import launchers
    from varmorph.torch.backend.ops.arrays import on_arrays

    x, bias = whole_numbers().values()
    x[0, 0, 1, 1], x[0, 1, 2, 2], x[1] = torch.nan, torch.inf, -torch.inf
    bias[0, 2], bias[1, :], bias[1, 0, 0, 0] = -torch.inf, -torch.inf, 0  # to the second channel from the left alone
    bias = bias.flatten(2)
    for outside in (0.5, None):
        layout = 1, Geometry((3, 3), (1, 2)), outside, sign, True
        expected, slots = on_arrays(lanes.supremum, x, bias, *layout)
        found, chosen = launchers.supremum(x.to(DEVICE), bias.to(DEVICE), *layout)
        torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=0, equal_nan=True)
        assert torch.equal(chosen.cpu(), slots)
    assert (slots[:, 1, :, 0] == 8).all()  # where no edge attains anything there is no slot
    assert launchers.supremum(x.to(DEVICE), bias.to(DEVICE), *layout[:-1], False)[1].shape == (0,)


@pytest.mark.parametrize("operator", [*MAX_PLUS, *PENALTIES])
def test_unusual_pixels_and_windows_without_edges(operator):
    layout = {"signed": True}
    arguments = drawn(operator, size=(1, 2), samples=1, image=(2, 4), **layout)
    arguments["x"][0, 0, 0, 1] = torch.nan
    if operator != "huber":
        arguments["x"][0, 1, 1, 2] = torch.inf
    arguments["bias"][1, :, :, 1] = -torch.inf  # to the left alone: nothing is there in the first column
    asked = noise(1, 2, 2, 4, seed=7)
    undefined = ~compute("tensor", operator, arguments, layout)[0].isfinite()
    assert undefined[0, 1, :, 0].all()
    assert not undefined.all()
    asked[undefined] = 0
    found, *gradients = compute("cuda", operator, arguments, layout, asked)
    torch.testing.assert_close(
        found, compute("tensor", operator, arguments, layout)[0], rtol=0, atol=1e-10, equal_nan=True
    )
    exact = compute("cpu", operator, arguments, layout, asked)[1:]
    for one, other in list(zip(gradients, exact, strict=True))[:2]:  # those of x and bias
        assert one.isfinite().all()
        torch.testing.assert_close(one, other, rtol=0, atol=1e-8)


def test_an_output_whose_edges_weigh_nothing_is_undefined():
    from varmorph.torch.backend.cuda.mixing import launchers

    geometry = Geometry((2, 2), (1, 1))
    x, bias = noise(1, 2, 2, 2).to(DEVICE), noise(2, 2, 1, seed=1).to(DEVICE)
    weight = torch.ones_like(bias)
    weight[0] = 0
    half = torch.full((2,), 0.5, dtype=torch.float64, device=DEVICE)
    problem = x, bias, weight, half, half
    for found in (
        launchers.expectile(*problem, 1, geometry, None),
        launchers.quantile(*problem, 1, geometry, None)[0],
        launchers.huber(*problem, half, 1, geometry, None)[0],
    ):
        assert found[:, 0].isnan().all()
        assert found[:, 1].isfinite().all()


@pytest.mark.parametrize(
    ("operator", "enough"),
    [("maxplus_conv2d", 1), ("maxplus_conv2d", 4096), ("expectile", 1), ("huber", 1)],
)
def test_many_programs_share_an_image_and_add_up(operator, enough, monkeypatch):
    """With `enough` programs each adds up over several tiles; their 36 rows end inside one."""
    from varmorph.torch.backend.cuda.mixing import launchers

    monkeypatch.setattr(launchers, "ENOUGH", enough)
    generator = torch.Generator().manual_seed(0)
    arguments = {"x": torch.rand(3, 2, 12, 70, generator=generator, dtype=torch.float64), "bias": noise(1, 2, 1, 1)}
    if operator != "maxplus_conv2d":
        arguments["logit_level"] = torch.ones(1, dtype=torch.float64)
    if operator == "huber":
        arguments["smoothing"] = torch.full((1,), 0.3, dtype=torch.float64)
    agree(operator, arguments, {})


@pytest.mark.parametrize("operator", ["maxplus_conv2d", "huber"])
def test_a_batch_may_be_empty(operator):
    arguments = drawn(operator, samples=0)
    found, *gradients = compute("cuda", operator, arguments, {})
    assert found.shape == (0, 2, 3, 4)
    assert not any(gradient.any() for gradient in gradients)


def test_memory_layout_does_not_matter():
    arguments = drawn("expectile", samples=2, image=(2, 3))
    asked = torch.ones((), dtype=torch.float64).expand(2, 2, 2, 3)  # without memory of its own
    plain = compute("cuda", "expectile", arguments, {}, asked)
    arguments["x"] = arguments["x"].to(memory_format=torch.channels_last)
    assert all(map(torch.equal, plain, compute("cuda", "expectile", arguments, {}, asked.contiguous())))


def test_second_derivatives_are_those_of_tensor_code():
    results = []
    for code in ("cuda", "tensor"):
        device = DEVICE if code == "cuda" else "cpu"
        tensors = {key: value.to(device) for key, value in drawn("expectile", samples=1, image=(2, 2)).items()}
        x = tensors.pop("x").requires_grad_()
        with backend(code):
            found = variational_conv2d(x, **tensors)
            (gradient,) = torch.autograd.grad(found.square().sum(), x, create_graph=True)
            results.append(torch.autograd.grad(gradient.square().sum(), x)[0].cpu())
    torch.testing.assert_close(*results, rtol=0, atol=1e-8)
