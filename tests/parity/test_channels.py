"""Operators that mix channels in JAX: by kernels and by XLA against PyTorch's tensor code."""

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="jax is not installed")
torch = pytest.importorskip("torch", reason="torch is not installed")

import varmorph.jax  # noqa: E402
import varmorph.torch  # noqa: E402

LAYOUTS = [
    {},
    {"groups": 2, "signed": True, "stride": 2},
    {"groups": 4, "signed": True, "padding": "reflect"},
    {"signed": True, "padding": 0.5, "rate": (1, 2)},
    {"groups": 4},
]
every_layout = pytest.mark.parametrize(
    "layout", LAYOUTS, ids=lambda layout: " ".join(map(str, layout.values())) or "plain"
)
every_backend = pytest.mark.parametrize("backend", ["cpu", "xla"])


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def drawn(groups=1, signed=False, **_):
    rng = np.random.default_rng(0)
    shape = (4, (2 if signed else 1) * 4 // groups, 3, 2)
    bias = 0.3 * rng.standard_normal(shape)
    bias[0, 0, 0, 0] = -np.inf
    level = np.array([-3.0, -0.5, 1.0, 3.0])
    return {
        "x": rng.standard_normal((2, 4, 6, 5)),
        "bias": bias,
        "weight": rng.random(shape) + 0.2,
        "logit_level": level,
    }


def compare(operator, arrays, options, backend, tolerance=1e-10, compiled=True):
    leaves = {name: torch.tensor(array, requires_grad=True) for name, array in arrays.items()}
    with varmorph.torch.backend("tensor"):
        y = getattr(varmorph.torch, operator)(**leaves, **options)
    cotangent = np.random.default_rng(1).standard_normal(y.shape)
    expected = torch.autograd.grad(y, list(leaves.values()), torch.tensor(cotangent), allow_unused=True)

    def run(arrays, cotangent):
        with varmorph.jax.backend(backend):
            value, pull = jax.vjp(lambda arrays: getattr(varmorph.jax, operator)(**arrays, **options), arrays)
            return value, pull(cotangent)[0]

    value, gradients = (jax.jit(run) if compiled else run)(arrays, cotangent)
    np.testing.assert_allclose(value, y.detach(), rtol=0, atol=tolerance)
    for name, gradient in zip(arrays, expected, strict=True):
        theirs = np.zeros(arrays[name].shape) if gradient is None else gradient
        np.testing.assert_allclose(gradients[name], theirs, rtol=0, atol=100 * tolerance, err_msg=name)


@every_backend
@every_layout
def test_variational_convolutions(layout, backend):
    compare("variational_conv2d", drawn(**layout), layout, backend)


@every_backend
@every_layout
@pytest.mark.parametrize("operator", ["maxplus_conv2d", "minplus_conv2d"])
def test_max_and_min_plus_convolutions(operator, layout, backend):
    arrays = {name: array for name, array in drawn(**layout).items() if name in ("x", "bias")}
    compare(operator, arrays, layout, backend)


@every_backend
@pytest.mark.parametrize(("penalty", "smoothing"), [("quantile", None), ("huber", 0.4)])
def test_other_penalties(penalty, smoothing, backend):
    options = {"groups": 2, "signed": True, "penalty": penalty, "smoothing": smoothing}
    compare("variational_conv2d", drawn(2, True), options, backend)


@every_backend
def test_maps_of_features(backend):
    rng = np.random.default_rng(0)
    arrays = {"x": rng.standard_normal((2, 3, 5)), "bias": rng.standard_normal((4, 10))}
    compare("maxplus_linear", arrays, {"signed": True}, backend)
    arrays |= {"weight": rng.random((4, 10)) + 0.1, "logit_level": np.array([-1.0, 0.0, 1.0, 2.0])}
    compare("variational_linear", arrays, {"signed": True}, backend)


@every_backend
def test_a_batch_of_vmap_is_the_batch(backend):
    arrays = drawn(2, True)
    x, bias, weight, level = arrays.values()
    with varmorph.jax.backend(backend):
        options = {"weight": weight, "groups": 2, "signed": True}
        found = jax.vmap(lambda image: varmorph.jax.variational_conv2d(image[None], bias, level, **options)[0])(x)
        np.testing.assert_allclose(found, varmorph.jax.variational_conv2d(x, bias, level, **options), atol=1e-12)


def test_code_for_xla_has_forward_mode():
    x, bias, weight, level = drawn(2, True).values()
    moved = np.random.default_rng(2).standard_normal(x.shape)
    with varmorph.jax.backend("xla"):

        def apply(x):
            return varmorph.jax.variational_conv2d(x, bias, level, weight=weight, groups=2, signed=True)

        _, tangent = jax.jvp(apply, (x,), (moved,))
        value, pull = jax.vjp(apply, x)
        assert float((tangent * value).sum()) == pytest.approx(float((pull(value)[0] * moved).sum()), rel=1e-9)


@pytest.mark.parametrize("name", ["MaxPlusConv2d", "VariationalConv2d", "MinPlusLinear", "VariationalLinear"])
def test_layers_draw_from_their_key(name):
    sizes = (4, 6, 3) if name.endswith("2d") else (4, 6)
    make = getattr(varmorph.jax, name)
    one, same, other = (make(*sizes, signed=True, key=jax.random.key(seed)) for seed in (0, 0, 1))
    assert (one.bias == same.bias).all()
    assert (one.bias != other.bias).any()
    half = one.bias.shape[1] // 2
    np.testing.assert_array_equal(one.bias[:, :half], -one.bias[:, half:])
    x = np.random.default_rng(0).random((4, 5, 5) if name.endswith("2d") else (4,))
    assert one(x).shape[0] == 6
    assert float(one.bias.std()) == pytest.approx(0.3, rel=0.4)
