"""The shapes in the types of the public functions: every array has one, both halves say the same, and calls agree with them."""

import importlib
import inspect
import typing

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="jax is not installed")
torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("equinox", reason="equinox is not installed")
beartype = pytest.importorskip("beartype", reason="beartype is not installed").beartype

from jaxtyping import AbstractArray, TypeCheckError, jaxtyped  # noqa: E402
from operator_calls import calls  # noqa: E402

import varmorph.jax  # noqa: E402
import varmorph.torch  # noqa: E402

HALVES = {"torch": varmorph.torch, "jax": varmorph.jax}
MIXING = [name for name in varmorph.torch.__all__ if name[0].isupper() and name.endswith(("Conv2d", "Linear"))]
LAYERS = [name for name in varmorph.torch.__all__ if name[0].isupper() and name.endswith("2d") and name not in MIXING]
of_both_halves = pytest.mark.parametrize("half", HALVES)
X = np.random.default_rng(0).random((2, 2, 5, 6))
EDGES = np.array([[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 3]])


def functions(half):
    """Public functions by name, and those that apply the layers."""
    module, apply = HALVES[half], {"torch": "forward", "jax": "__call__"}[half]
    found = {name: getattr(module, name) for name in module.__all__}
    found = {name: inspect.unwrap(function) for name, function in found.items() if inspect.isfunction(function)}
    return found | {name: getattr(getattr(module, name), apply) for name in (*LAYERS, *MIXING)}


def parts(hint):
    """The types that a type is put together from."""
    inner = typing.get_args(hint)
    return [hint] if not inner else [part for one in inner for part in parts(one)]


def is_array(part):
    return inspect.isclass(part) and issubclass(part, (torch.Tensor, jax.Array))


def has_shape(part):
    return inspect.isclass(part) and issubclass(part, AbstractArray)


def shapes(function):
    """Dtypes and shapes by argument, those of the result under "return"."""
    hints = typing.get_type_hints(function)
    found = {
        name: {(part.dtype.__name__, part.dim_str) for part in parts(hint) if has_shape(part)}
        for name, hint in hints.items()
    }
    return {name: shape for name, shape in found.items() if shape and name != "key"}


@of_both_halves
def test_every_array_has_a_shape(half):
    for name, function in functions(half).items():
        for argument, hint in typing.get_type_hints(function).items():
            bare = [part for part in parts(hint) if is_array(part) and not has_shape(part)]
            assert not bare, f"{half} {name}: {argument} is an array without a shape, {hint}"


@of_both_halves
def test_every_array_that_an_operator_takes_is_known_to_be_one(half):
    for call in calls().values():
        assert call.arrays.keys() <= shapes(functions(half)[call.operator]).keys(), call.operator


def test_both_halves_have_the_same_shapes():
    both = functions("torch").keys() & functions("jax").keys() - {*LAYERS, *MIXING}
    assert len(both) > 30
    for name in both:
        assert shapes(functions("torch")[name]) == shapes(functions("jax")[name]), name


def test_layers_of_jax_take_single_images_too():
    for name in (*LAYERS, *(name for name in MIXING if name.endswith("2d"))):
        one, other = shapes(functions("torch")[name]), shapes(functions("jax")[name])
        assert one.keys() == other.keys()
        for argument, batch in one.items():
            assert other[argument] == batch | {(dtype, shape.removeprefix("N ")) for dtype, shape in batch}


def of(half, value):
    """An argument as a framework has it."""
    if not isinstance(value, np.ndarray):
        return value
    value = value.astype(np.float32) if value.dtype.kind == "f" else value
    return torch.from_numpy(value) if half == "torch" else jax.numpy.asarray(value)


def checked(half, name, arguments, options):
    """Call with types checked. JAX needs no numbers for that, nor a program."""
    function = jaxtyped(typechecker=beartype)(functions(half)[name])
    arrays = {key: of(half, value) for key, value in arguments.items()}
    if half == "torch":
        return function(**arrays, **options)
    traced = {key: value for key, value in arrays.items() if isinstance(value, jax.Array) and "edges" not in key}
    fixed = {key: value for key, value in arrays.items() if key not in traced}
    return jax.eval_shape(lambda traced: function(**traced, **fixed, **options), traced)


def with_other_forms(call):
    """The same call with Python's numbers, one function for all channels, and several signals on a graph."""
    arrays = dict(call.arrays)
    for name, array in call.arrays.items():
        if name in ("bias", "weight") and call.operator.endswith(("conv2d", "linear")):
            continue
        if name in ("bias", "weight"):
            arrays[name] = {3: lambda a: a[1], 2: lambda a: a, 1: lambda a: np.stack((a, a), 1)}[array.ndim](array)
        elif name == "logit_levels":
            arrays[name] = tuple(array[:, 0].tolist())
        elif name == "x" and array.ndim == 2:
            arrays[name] = np.stack((array, array, array))
        elif array.ndim == 1:
            arrays[name] = float(array[0])
    return arrays


@of_both_halves
@pytest.mark.parametrize("name", calls())
def test_calls_agree_with_the_types(half, name):
    call = calls()[name]
    result = checked(half, call.operator, call.arrays, call.options)
    checked(half, call.operator, with_other_forms(call), call.options)
    if hasattr(result, "unknowns"):
        start = {"start": np.zeros(result.unknowns.shape)}
        checked(half, call.operator, call.arrays | start, call.options)


@of_both_halves
@pytest.mark.parametrize("operator", ["regional_maxima", "extended_maxima"])
def test_what_has_no_gradient_agrees_with_its_types(half, operator):
    checked(half, operator, {"x": X} | ({"h": 0.1} if operator == "extended_maxima" else {}), {})


@of_both_halves
def test_strides_and_padding_change_the_shape_of_the_result_alone(half):
    for options in ({"stride": 2}, {"padding": "valid"}):
        checked(half, "dilation", {"x": X, "bias": np.zeros((3, 2))}, options)


@of_both_halves
def test_maps_and_energies_agree_with_the_types(half):
    module = HALVES[half]
    checked(half, "equilibrium", {"start": X[:, 0, 0]}, {"function": lambda z: 0.5 * z + 1})
    x = of(half, X)
    edges = module.Edges(module.DataEdges(), x[None], of(half, np.ones(())), module.Penalty("square"))
    energy = module.Energy([edges], 0 * x)
    jaxtyped(typechecker=beartype)(module.minimise)(energy, x)


def test_sparse_codes_agree_with_the_types():
    for strength in (0.1, np.array(0.1), np.full(3, 0.1)):
        checked("torch", "sparse_code", {"x": X[0, 0, :, :4], "dictionary": np.eye(4)[:, :3], "strength": strength}, {})


@of_both_halves
@pytest.mark.parametrize("name", LAYERS)
def test_layers_agree_with_the_types(half, name):
    layer = getattr(HALVES[half], name)(2, **({} if name in ("HMaxima2d", "Leveling2d") else {"kernel_size": 3}))
    images = [argument for argument in shapes(functions(half)[name]) if argument not in ("edge_weights", "return")]
    for x in (X, X[0])[: 2 if half == "jax" else 1]:
        checked(half, name, dict.fromkeys(images, x), {"self": layer})


@of_both_halves
@pytest.mark.parametrize("name", MIXING)
def test_layers_that_mix_channels_agree_with_the_types(half, name):
    sizes = (2, 4, 3) if name.endswith("2d") else (6, 4)
    layer = getattr(HALVES[half], name)(*sizes, **({"key": jax.random.key(0)} if half == "jax" else {}))
    for x in (X, X[0])[: 2 if half == "jax" else 1]:
        checked(half, name, {"x": x}, {"self": layer})


@of_both_halves
def test_a_wrong_shape_is_found(half):
    wrong = [
        ("dilation", {"x": X, "bias": np.zeros((3, 3, 3))}),
        ("dilation", {"x": X[0], "bias": np.zeros((3, 3))}),
        ("h_maxima", {"x": X, "h": np.ones(3)}),
        ("graph_dilation", {"x": X[0, 0], "edges": EDGES.T}),
        ("graph_dilation", {"x": X[0, 0], "edges": EDGES * 1.0}),
    ]
    for name, arguments in wrong:
        with pytest.raises(TypeCheckError):
            checked(half, name, arguments, {})


@of_both_halves
def test_a_wrong_result_would_be_found(half):
    images = importlib.import_module(f"varmorph.{half}.shapes").Images

    def squeezed(x: images) -> images:
        return x[0]

    with pytest.raises(TypeCheckError):
        jaxtyped(typechecker=beartype)(squeezed)(of(half, X))
