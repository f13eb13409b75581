"""Every public operator on input that is easily forgotten: layouts, sizes, number types, NaN, infinity, compilation.

`OPERATORS` is the table of operators; each test states one property of all of them. To add an operator, add a row: its
name, a function of one image, and what sets it apart. `test_the_table_is_complete` says which names have none.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

import varmorph.torch
from varmorph.torch import backend

C = 3
GENERATOR = torch.Generator().manual_seed(0)
BIAS = 0.3 * torch.randn(C, 3, 3, generator=GENERATOR)
WEIGHT = torch.randn(C, 3, 3, generator=GENERATOR).exp()
HEIGHTS = torch.tensor([0.2, 0.5, 1.0])
OTHER_NAMES = {  # what is public and no operator of images; `equilibrium` takes any map and has its own tests
    "equilibrium",
    "sparse_code",
    # what mixes channels has its own tests: here a pixel is sought in its own channel
    *(f"{kind}_{form}" for kind in ("maxplus", "minplus", "variational") for form in ("conv2d", "linear")),
    *(f"{kind}{form}" for kind in ("MaxPlus", "MinPlus", "Variational") for form in ("Conv2d", "Linear")),
    *("backend", "Adjoint", "Solver", "Newton", "FixedPoint", "Anderson", "AcceleratedGradient", "PrimalDual", "ADMM"),
    *("Implicit", "Neumann", "OneStep", "Truncated", "Unrolled", "Solution", "Certificate"),
    *("ForwardCertificate", "BackwardCertificate", "ConvergenceError", "ConvergenceWarning"),
    *("Energy", "Edges", "Ridge", "Penalty", "DataEdges", "GridEdges", "WindowEdges", "GraphDataEdges", "GraphEdges"),
}
COMPILED = {  # compiling takes seconds: one operator of each computation, on which the others are built
    "dilation",
    "VariationalDilation2d[expectile]",
    "variational_dilation[quantile]",
    "variational_dilation[huber]",
    "Reconstruction2d",
    "leveling",
    "regularised_dilation",
    "graph_dilation",
}


@dataclass(frozen=True)
class Operator:
    """One row of the table.

    name : its public name, with the variant in brackets.
    apply : from an image (N, 3, H, W) to an image of that shape.
    reach : an output sees the pixels at most so far away; None where values travel any distance.
    shift : what adding 1 to the image adds to the result.
    infinity : "number" if it acts as a very large number does, "spreads" if nothing that sees it is finite, "cancels" if
        two of them may be subtracted, "plane" if nothing in its plane is a number.
    kernels : whether it has kernels on the CPU, so that there are two computations of it.
    boolean : whether the result is a map of bool, without gradient.
    solved : whether it is solved by iterations over the whole image, up to a tolerance; its `reach` is None.
    """

    name: str
    apply: Callable[[Tensor], Tensor]
    reach: int | None = 1
    shift: int = 1
    infinity: str = "number"
    kernels: bool = False
    boolean: bool = False
    solved: bool = False

    @property
    def closeness(self) -> dict[str, float]:
        """How near two computations of the same result are; without iterations as near as rounding."""
        return {"rtol": 1e-4, "atol": 2e-4} if self.solved else {}


def _function(
    name: str, *arguments: object, variant: str = "", options: dict[str, object] | None = None, **traits
) -> Operator:
    public = getattr(varmorph.torch, name)
    return Operator(f"{name}{variant}", lambda x: public(x, *arguments, **(options or {})), **traits)


def _layer(
    name: str, *arguments: object, variant: str = "", options: dict[str, object] | None = None, **traits
) -> Operator:
    layer = getattr(varmorph.torch, name)(C, *arguments, **(options or {}))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return Operator(f"{name}{variant}", layer, **traits)


def _max_plus() -> list[Operator]:
    traits = {
        ("dilation", "Dilation2d"): {},
        ("erosion", "Erosion2d"): {},
        ("opening", "Opening2d"): {"reach": 2},
        ("closing", "Closing2d"): {"reach": 2},
        ("gradient", "Gradient2d"): {"shift": 0, "infinity": "cancels"},
        ("internal_gradient", None): {"shift": 0, "infinity": "cancels"},
        ("external_gradient", None): {"shift": 0, "infinity": "cancels"},
        ("white_top_hat", "WhiteTopHat2d"): {"reach": 2, "shift": 0, "infinity": "cancels"},
        ("black_top_hat", "BlackTopHat2d"): {"reach": 2, "shift": 0, "infinity": "cancels"},
    }
    functions = [_function(name, BIAS, kernels=True, **given) for (name, _), given in traits.items()]
    return functions + [_layer(name, 3, kernels=True, **given) for (_, name), given in traits.items() if name]


def _variational() -> list[Operator]:
    rows = []
    for penalty, smoothing in (("expectile", None), ("quantile", None), ("huber", 0.3)):
        shared = {
            "variant": f"[{penalty}]",
            "options": {"penalty": penalty, "smoothing": smoothing},
            "infinity": "number" if penalty == "quantile" else "spreads",
            "kernels": True,
        }
        for name, sign in (("dilation", 1), ("erosion", 1), ("opening", -1), ("closing", 1)):
            composed = name in ("opening", "closing")
            levels = (1.2 * sign, -0.8 * sign) if composed else 1.2
            weighted = {**shared, "options": {**shared["options"], "weight": WEIGHT}}
            rows.append(_function(f"variational_{name}", BIAS, levels, reach=1 + composed, **weighted))
            rows.append(_layer(f"Variational{name.capitalize()}2d", 3, reach=1 + composed, **shared))
    return rows


def _geodesic() -> list[Operator]:
    flat, offsets = torch.zeros(3, 3), -BIAS.square()
    offsets[:, 1, 1] = 0
    function, layer = (partial(make, reach=None, kernels=True) for make in (_function, _layer))

    def of_two_images(row: Operator) -> Operator:
        return replace(row, apply=lambda x: row.apply(x.flip(-1) - 0.5, x), reach=None)

    reconstruction = varmorph.torch.reconstruction
    pairs = [
        Operator("reconstruction", reconstruction, kernels=True),
        Operator("reconstruction[bias]", lambda marker, mask: reconstruction(marker, mask, offsets), kernels=True),
        Operator("leveling", varmorph.torch.leveling),
        layer("Reconstruction2d"),
        layer("Reconstruction2d", variant="[erosion]", options={"by": "erosion"}),
        _layer("Leveling2d"),
    ]
    return [
        *map(of_two_images, pairs),
        function("h_maxima", HEIGHTS),
        function("h_minima", HEIGHTS),
        function("h_convex", HEIGHTS, shift=0, infinity="cancels"),
        function("regional_maxima", shift=0, boolean=True),
        function("extended_maxima", HEIGHTS, shift=0, boolean=True),
        function("fill_holes"),
        function("opening_by_reconstruction", flat),
        function("closing_by_reconstruction", flat),
        layer("HMaxima2d"),
    ]


def _coupled() -> list[Operator]:
    def value(name: str, *arguments: object, **options: object) -> Callable[[Tensor], Tensor]:
        return lambda x: getattr(varmorph.torch, name)(x, *arguments, weight=WEIGHT, **options).value

    tv = {"edge_penalty": "huber", "edge_smoothing": 0.2}
    rows = {
        "regularised_dilation": value("regularised_dilation", BIAS, 1.2, 0.5),
        "regularised_dilation[tv]": value("regularised_dilation", BIAS, 1.2, 0.5, ridge=0.1, **tv),
        "joint_opening": value("joint_opening", BIAS, (-1.2, 0.8), 0.5),
        "joint_closing": value("joint_closing", BIAS, (1.2, -0.8), 0.5),
        "minimise": lambda x: _smoothed(x).value,
    }
    layers = [
        _layer("RegularisedDilation2d", 3, options=tv),
        _layer("JointOpening2d", 3, options={"initial_level": 2.0}),
        _layer("JointClosing2d", 3, options={"initial_level": 2.0}),
    ]
    named = [*rows.items(), *((row.name, row.apply) for row in layers)]
    return [Operator(name, apply, reach=None, infinity="plane", solved=True) for name, apply in named]


def _smoothed(x: Tensor):
    """Two squares in one energy: fidelity to the image and smoothness along its rows."""
    from varmorph.torch import DataEdges, Edges, Energy, GridEdges, Penalty, minimise

    values = x.double() if x.dtype == torch.float64 else x.float()
    one = values.new_ones(())
    pulls = Edges(DataEdges(), values[None], one, Penalty("square"))
    energy = Energy([pulls, Edges(GridEdges(-1), 0 * one, one, Penalty("square"))], torch.zeros_like(values).detach())
    solution = minimise(energy)
    return solution._replace(value=solution.value.to(x.dtype))


def grid(height: int, width: int) -> Tensor:
    """Edges between the pixels of an image and their 8 neighbours, both ways."""
    pixel = torch.arange(height * width, device="cpu").view(height, width)
    pairs = [
        (pixel[:-1], pixel[1:]),
        (pixel[:, :-1], pixel[:, 1:]),
        (pixel[:-1, :-1], pixel[1:, 1:]),
        (pixel[:-1, 1:], pixel[1:, :-1]),
    ]
    one_way = torch.cat([torch.stack((one.flatten(), other.flatten())) for one, other in pairs], 1)
    return torch.cat((one_way, one_way.flip(0)), 1)


def _on_the_grid(function: Callable[..., Tensor], *arguments: object) -> Callable[[Tensor], Tensor]:
    def apply(x: Tensor) -> Tensor:
        features = x.flatten(2).transpose(1, 2)
        result = function(features, grid(*x.shape[2:]), *arguments)
        return getattr(result, "value", result).transpose(1, 2).unflatten(2, x.shape[2:])

    return apply


def _graph() -> list[Operator]:
    def row(name: str, *arguments: object, variant: str = "", **traits: object) -> Operator:
        options = traits.pop("options", {})
        function = partial(getattr(varmorph.torch, name), **options)
        return Operator(name + variant, _on_the_grid(function, *arguments), **traits)

    solved = {"reach": None, "infinity": "plane", "solved": True}
    weight = {"weight": 0.7}
    rows = [row("graph_dilation", -0.1), row("graph_erosion", -0.1)]
    rows += [row("graph_opening", -0.1, reach=2), row("graph_closing", -0.1, reach=2)]
    for name in ("variational_graph_dilation", "variational_graph_erosion"):
        rows.append(row(name, -0.1, 1.2, options=weight, infinity="spreads"))
    for name in ("regularised_graph_dilation", "regularised_graph_erosion"):
        rows.append(row(name, -0.1, 1.2, 0.5, options=weight, **solved))
    rows.append(row("joint_graph_opening", -0.1, (-1.2, 0.8), 0.5, options=weight, **solved))
    rows.append(row("joint_graph_closing", -0.1, (1.2, -0.8), 0.5, options=weight, **solved))
    return rows


OPERATORS = [*_max_plus(), *_variational(), *_geodesic(), *_coupled(), *_graph()]
COMPUTATIONS = [(row, by) for row in OPERATORS for by in (("tensor", "auto") if row.kernels else ("tensor",))]


@pytest.fixture
def operator(request):
    """One row of the table, computed by tensor code or by kernels."""
    row, by = request.param
    with backend(by):
        yield row


def over(rows):
    return pytest.mark.parametrize("operator", rows, indirect=True, ids=[f"{row.name}-{by}" for row, by in rows])


every_operator = over(COMPUTATIONS)
differentiable = over([(row, by) for row, by in COMPUTATIONS if not row.boolean])
separable = over([(row, by) for row, by in COMPUTATIONS if row.reach is not None])
geodesic = over([(row, by) for row, by in COMPUTATIONS if row.reach is None and not row.solved])
solved = over([(row, by) for row, by in COMPUTATIONS if row.solved])


def image(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def value_and_gradient(operator, x):
    """Return the result, and the gradient in x of its sum weighted by fixed numbers."""
    x = x.detach().requires_grad_()
    y = operator.apply(x)
    if operator.boolean:
        return [y]
    (gradient,) = torch.autograd.grad(y, x, image(*y.shape, seed=2).to(y.dtype))
    return [y.detach(), gradient]


def assert_same(found, expected, **tolerance):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, equal_nan=True, **tolerance)


def test_the_table_is_complete():
    missing = set(varmorph.torch.__all__) - OTHER_NAMES - {row.name.split("[")[0] for row in OPERATORS}
    assert not missing, f"add a row to OPERATORS for {sorted(missing)}, or to OTHER_NAMES what is no operator"


LAYOUTS = {
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "every other column": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "transposed": lambda x: x.transpose(-2, -1).contiguous().transpose(-2, -1),
    "part of a larger image": lambda x: torch.nn.functional.pad(x, (1, 2, 2, 1), value=7.0)[..., 2:-1, 1:-2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@every_operator
def test_the_layout_in_memory_does_not_matter(operator, layout):
    x = image(2, C, 6, 5)
    laid_out = LAYOUTS[layout](x)
    assert not laid_out.is_contiguous()
    assert_same(value_and_gradient(operator, laid_out), value_and_gradient(operator, x), **operator.closeness)


@every_operator
def test_an_expanded_image_is_read_as_its_copy(operator):
    x = image(1, C, 1, 5).expand(2, C, 6, 5)
    expected = value_and_gradient(operator, x.contiguous())
    assert_same(value_and_gradient(operator, x), expected, **operator.closeness)


@every_operator
def test_an_empty_batch_gives_an_empty_batch(operator):
    for found in value_and_gradient(operator, image(0, C, 4, 5)):
        assert found.shape == (0, C, 4, 5)


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (2, 7)])
@every_operator
def test_a_window_may_be_larger_than_the_image(operator, size):
    x = image(2, C, *size)
    y = operator.apply(x)
    assert y.shape == x.shape
    torch.testing.assert_close(operator.apply(x + 1).float(), y.float() + operator.shift, **operator.closeness)
    assert all(torch.isfinite(part).all() for part in value_and_gradient(operator, x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every_operator
def test_short_numbers_are_computed_as_float32(operator, dtype):
    x = image(2, C, 6, 5).to(dtype)
    found, expected = value_and_gradient(operator, x), value_and_gradient(operator, x.float())
    if operator.boolean:
        assert torch.equal(found[0], expected[0])
    else:
        assert [part.dtype for part in found] == [dtype, dtype]
        tolerance = 4 * torch.finfo(dtype).eps
        # Operators of two steps round between them, which can change what the second selects: the gradient is left out.
        torch.testing.assert_close(found[0].float(), expected[0], rtol=tolerance, atol=tolerance)


@differentiable
def test_float64_is_computed_as_such(operator):
    x = image(2, C, 6, 5, dtype=torch.float64)
    y = operator.apply(x)
    assert y.dtype == torch.float64
    torch.testing.assert_close(
        operator.apply(x + 1), y + operator.shift, rtol=0, atol=1e-7 if operator.solved else 1e-12
    )


@every_operator
def test_autocast_changes_nothing(operator):
    x = image(2, C, 6, 5)
    expected = value_and_gradient(operator, x)
    with torch.autocast("cpu", torch.bfloat16):
        found = value_and_gradient(operator, x)
    assert_same(found, expected, **operator.closeness)


PLACE = (3, 4)


def spoiled(number):
    """Two samples, one pixel of the first replaced; and the clean images."""
    clean = image(2, C, 9, 10)
    x = clean.clone()
    x[0, 1, PLACE[0], PLACE[1]] = number
    return x, clean


def what_sees_it(operator, shape):
    seen = torch.zeros(shape, dtype=torch.bool)
    rows, columns = (slice(centre - operator.reach, centre + operator.reach + 1) for centre in PLACE)
    seen[0, 1, rows, columns] = True
    return seen


@separable
def test_nan_is_where_a_window_sees_it_and_nowhere_else(operator):
    x, clean = spoiled(torch.nan)
    y, expected = operator.apply(x), operator.apply(clean)
    seen = what_sees_it(operator, y.shape)
    assert torch.equal(y.isnan(), seen)
    assert torch.equal(y[~seen], expected[~seen])


@geodesic
def test_nan_stays_in_its_plane_and_nothing_runs_for_ever(operator):
    x, clean = spoiled(torch.nan)
    y, expected = operator.apply(x), operator.apply(clean)
    others = torch.ones(y.shape, dtype=torch.bool)
    others[0, 1] = False
    assert torch.equal(y[others], expected[others])
    assert operator.boolean or y[0, 1, PLACE[0], PLACE[1]].isnan()
    assert not y[0, 1].isnan().all()


@pytest.mark.filterwarnings("ignore::varmorph.torch.ConvergenceWarning")
@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
@solved
def test_what_is_not_finite_spoils_the_whole_plane_of_a_solve_and_no_other(operator, number):
    x, clean = spoiled(number)
    y, expected = operator.apply(x), operator.apply(clean)
    others = torch.ones(y.shape, dtype=torch.bool)
    others[0, 1] = False
    assert y[0, 1].isnan().all()
    torch.testing.assert_close(y[others], expected[others], **operator.closeness)


@pytest.mark.parametrize("number", [torch.inf, -torch.inf])
@separable
def test_infinity_touches_nothing_that_does_not_see_it(operator, number):
    x, clean = spoiled(number)
    y, expected = operator.apply(x), operator.apply(clean)
    seen = what_sees_it(operator, y.shape)
    assert torch.equal(y[~seen], expected[~seen])


VERY_LARGE = 1e30  # so large that no offset changes it in float32


@pytest.mark.parametrize("number", [VERY_LARGE, -VERY_LARGE])
@over([(row, by) for row, by in COMPUTATIONS if row.infinity == "number"])
def test_infinity_acts_as_a_very_large_number(operator, number):
    found, expected = (operator.apply(spoiled(one)[0]) for one in (number * torch.inf, number))
    if not operator.boolean:
        expected = expected.where(expected.abs() < VERY_LARGE / 10, expected * torch.inf)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("number", [torch.inf, -torch.inf])
@over([(row, by) for row, by in COMPUTATIONS if row.infinity == "spreads"])
def test_what_sees_infinity_through_a_mean_is_not_finite(operator, number):
    y = operator.apply(spoiled(number)[0])
    assert torch.equal(~y.isfinite(), what_sees_it(operator, y.shape))


@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
@over([(row, "tensor") for row in OPERATORS if row.kernels])
def test_kernels_agree_with_tensor_code_where_numbers_end(operator, number):
    x, _ = spoiled(number)
    by_tensor_code = operator.apply(x)
    with backend("auto"):
        assert_same([operator.apply(x)], [by_tensor_code])


@pytest.mark.parametrize("padding", ["geodesic", "replicate", "reflect", "circular", 0.5])
@pytest.mark.parametrize("name", ["dilation", "erosion", "variational_dilation", "variational_erosion"])
def test_every_padding_of_a_small_image(name, padding):
    arguments, options = [image(C, 4, 5)], {"padding": padding}
    if name.startswith("variational"):
        arguments, options = [*arguments, 1.0], {**options, "weight": image(C, 4, 5, seed=1).exp()}
    for size in ((1, 1), (1, 2), (3, 2)):
        x, results = image(2, C, *size, seed=2), []
        for by in ("tensor", "auto"):
            with backend(by):
                results.append([getattr(varmorph.torch, name)(part, *arguments, **options) for part in (x, x[:0])])
        assert all(torch.isfinite(y).all() for y in results[0])
        assert results[0][1].shape == (0, C, *size)
        assert_same(*results)


# What Dynamo says while it traces: it looks at the .grad of all tensors after a graph break, makes an instance of each
# autograd.Function, and traces through the cache of `window`, whose results depend on nothing but its arguments.
@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor:UserWarning",
    "ignore:.*autograd.function.Function.* should not be instantiated:DeprecationWarning",
    "ignore:Dynamo detected a call to a `functools.lru_cache`:UserWarning",
)
@over([(row, "auto") for row in OPERATORS if row.name in COMPILED])
def test_compilation_changes_nothing(operator):
    torch._dynamo.reset()
    x = image(2, C, 6, 5)
    with backend("tensor"):
        expected = value_and_gradient(operator, x)
    compiled = Operator(operator.name, torch.compile(operator.apply, backend="eager"), boolean=operator.boolean)
    assert_same(value_and_gradient(compiled, x), expected)


@over([(row, "tensor") for row in OPERATORS])
def test_what_tensor_code_makes_is_on_the_device_of_the_image(operator):
    x = image(2, C, 6, 5)
    expected = value_and_gradient(operator, x)
    x.requires_grad_()
    with torch.device("meta"):  # what is made without naming a device lies there, and cannot be used with x
        y = operator.apply(x)
    assert y.device == x.device
    found = [y.detach()]
    if not operator.boolean:
        cotangent = image(*y.shape, seed=2)
        with torch.device("meta"):
            found.extend(torch.autograd.grad(y, x, cotangent))
    assert_same(found, expected, **operator.closeness)


TENSOR_CODE = sorted(path for path in Path(varmorph.torch.__file__).parent.rglob("*.py") if "ops" not in path.parts)


@pytest.mark.parametrize("path", TENSOR_CODE, ids=[path.stem for path in TENSOR_CODE])
def test_tensor_code_does_not_leave_the_device(path):
    found = re.findall(r"\.numpy\(|\.cpu\(|\.to\([\"']cpu|from_numpy", path.read_text())
    assert not found, f"{path.name} moves tensors to the CPU: {found}; ops/ is the place for that"
