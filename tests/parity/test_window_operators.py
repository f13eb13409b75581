"""The window operators of PyTorch, of JAX and of the reference, on the same arrays: values, gradients, ties."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from varmorph import reference

jax = pytest.importorskip("jax", reason="jax is not installed")
torch = pytest.importorskip("torch", reason="torch is not installed")

import varmorph.jax  # noqa: E402
import varmorph.torch  # noqa: E402

VALUE, GRADIENT, SINGLE = 1e-10, 1e-8, 1e-4
PADDINGS = ("geodesic", "replicate", "reflect", "circular", "valid", 0.5)
COMPOSED = (
    "opening", "closing", "gradient", "internal_gradient", "external_gradient", "white_top_hat", "black_top_hat",
)  # fmt: skip
PENALTIES = {"expectile": None, "quantile": None, "huber": 0.3}

every_backend = pytest.mark.parametrize("backend", ["cpu", "xla"])


def draw(ties, dtype=np.float64):
    """An image, a structuring function that leaves an element out, weights and levels; whole numbers have ties."""
    rng = np.random.default_rng(0)
    image, window = rng.standard_normal((2, 3, 6, 5)), 0.3 * rng.standard_normal((3, 3, 2))
    if ties:
        image, window = rng.integers(0, 3, image.shape), np.zeros(window.shape)
    window[1, 0, 0] = -np.inf
    weight, level = rng.uniform(0.5, 1.5, window.shape), np.array([-2.0, 0.5, 3.0])
    if ties:
        weight, level = np.ones(window.shape), np.zeros(3)
    return {
        name: array.astype(dtype)
        for name, array in (("x", image), ("bias", window), ("weight", weight), ("logit_level", level))
    }


def first_two(arrays):
    """What a max-plus operator takes."""
    return {name: arrays[name] for name in ("x", "bias")}


def in_torch(function, arrays, options):
    """Value and gradients by plain tensor code; the cotangent is drawn here."""
    leaves = {name: torch.tensor(array, requires_grad=True) for name, array in arrays.items()}
    with varmorph.torch.backend("tensor"):
        y = getattr(varmorph.torch, function)(**leaves, **options)
    cotangent = np.random.default_rng(1).standard_normal(y.shape).astype(arrays["x"].dtype)
    found = torch.autograd.grad(y, list(leaves.values()), torch.tensor(cotangent), allow_unused=True)
    gradients = [np.zeros(a.shape) if g is None else g.numpy() for a, g in zip(arrays.values(), found, strict=True)]
    return y.detach().numpy(), gradients, cotangent


def in_jax(function, arrays, options, backend, cotangent):
    @jax.jit
    def value_and_gradients(cotangent, arrays):
        with varmorph.jax.backend(backend):
            y, pullback = jax.vjp(lambda a: getattr(varmorph.jax, function)(**a, **options), arrays)
            return y, pullback(cotangent)[0]

    y, gradients = value_and_gradients(cotangent, arrays)
    return np.asarray(y), [np.asarray(gradients[name]) for name in arrays]


def assert_same(function, arrays, options, backend, value=VALUE, gradient=GRADIENT):
    expected, gradients, cotangent = in_torch(function, arrays, options)
    y, found = in_jax(function, arrays, options, backend, cotangent)
    assert y.dtype == arrays["x"].dtype
    np.testing.assert_allclose(y, expected, rtol=0, atol=value)
    for ours, theirs in zip(found, gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=gradient)
    return y


@every_backend
@pytest.mark.parametrize("ties", [False, True], ids=["generic", "ties"])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("function", "more"), [("dilation", {}), ("erosion", {}), ("dilation", {"dual": 2})])
def test_max_plus_operators(function, more, padding, ties, backend):
    arrays = first_two(draw(ties))
    options = {"padding": padding, "stride": (2, 1), "rate": (1, 2), **more}
    y = assert_same(function, arrays, options, backend)
    np.testing.assert_allclose(y, getattr(reference, function)(**arrays, **options), rtol=0, atol=VALUE)


@every_backend
@pytest.mark.parametrize("function", COMPOSED)
def test_composed_operators(function, backend):
    for padding in ("geodesic", "valid"):
        assert_same(function, first_two(draw(ties=False)), {"padding": padding}, backend)


@every_backend
@pytest.mark.parametrize("ties", [False, True], ids=["generic", "ties"])
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("function", ["variational_dilation", "variational_erosion"])
def test_variational_operators(function, penalty, ties, backend):
    for padding in ("geodesic", "replicate"):
        options = {"penalty": penalty, "smoothing": PENALTIES[penalty], "padding": padding}
        y = assert_same(function, draw(ties), options, backend)
        expected = getattr(reference, function)(**draw(ties), **options)
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-9)


@every_backend
@pytest.mark.parametrize("function", ["variational_opening", "variational_closing"])
def test_variational_openings_and_closings(function, backend):
    arrays = draw(ties=False)
    level = arrays.pop("logit_level")
    assert_same(function, {**arrays, "logit_levels": np.stack((-level, level))}, {"rate": 2}, backend)


@every_backend
@pytest.mark.parametrize("penalty", PENALTIES)
def test_single_precision(penalty, backend):
    options = {"penalty": penalty, "smoothing": PENALTIES[penalty]}
    assert_same("variational_dilation", draw(False, np.float32), options, backend, SINGLE, SINGLE)
    assert_same("dilation", first_two(draw(False, np.float32)), {}, backend, SINGLE, SINGLE)


@every_backend
def test_the_smoothing_has_a_gradient(backend):
    drawn = draw(ties=False)

    def value(smoothing, library, array):
        arrays = {name: array(a) for name, a in drawn.items()}
        return library.variational_dilation(**arrays, penalty="huber", smoothing=smoothing).sum()

    mu = torch.tensor([0.2, 0.3, 0.4], dtype=torch.float64, requires_grad=True)
    value(mu, varmorph.torch, torch.tensor).backward()
    with varmorph.jax.backend(backend):
        found = jax.grad(lambda mu: value(mu, varmorph.jax, jax.numpy.asarray))(jax.numpy.array([0.2, 0.3, 0.4]))
    np.testing.assert_allclose(found, mu.grad, rtol=0, atol=GRADIENT)


def test_kernels_do_a_batch_of_vmap_one_after_the_other():
    image, window, weight, level = draw(ties=False).values()
    apply = jax.vmap(lambda x: varmorph.jax.variational_dilation(x[None], window, level, weight=weight)[0])
    expected = varmorph.jax.variational_dilation(image, window, level, weight=weight)
    np.testing.assert_allclose(apply(image), expected, rtol=0, atol=VALUE)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_code_for_xla_has_forward_mode_and_second_derivatives(penalty):
    image, window, weight, level = draw(ties=False).values()
    smoothing = PENALTIES[penalty]

    def value(level):
        y = varmorph.jax.variational_dilation(image, window, level, weight=weight, penalty=penalty, smoothing=smoothing)
        return (y**2).sum()

    with varmorph.jax.backend("xla"):
        gradient = jax.grad(value)(level)
        _, slope = jax.jvp(value, (level,), (np.ones(3),))
        np.testing.assert_allclose(slope, gradient.sum(), rtol=1e-9)
        curvature = jax.hessian(value)(level)
    step = 1e-5
    with varmorph.jax.backend("xla"):
        ahead, behind = (jax.grad(value)(level + sign * step * np.eye(3)[0]) for sign in (1, -1))
    np.testing.assert_allclose(curvature[0], (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-7)


def test_an_error_of_a_kernel_reaches_the_caller():
    from varmorph.jax.backend.ffi import call_kernel

    nothing = jax.ShapeDtypeStruct((1,), np.float64)
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"AttributeError: .*no_such_function"):
        jax.block_until_ready(call_kernel("graph_maxplus.no_such_function", [nothing], np.zeros(1), options=()))


def test_wrong_arguments_are_named():
    image, window, weight, level = draw(ties=False).values()
    with pytest.raises(ValueError, match=r"x must have shape \(N, C, H, W\)"):
        varmorph.jax.dilation(image[0], window)
    with pytest.raises(ValueError, match="bias must keep at least one element"):
        varmorph.jax.dilation(image, np.full(window.shape, -np.inf))
    with pytest.raises(ValueError, match="weight must hold finite numbers >= 0"):
        varmorph.jax.variational_dilation(image, window, level, weight=-weight)
    with pytest.raises(ValueError, match="logit_level must be finite"):
        varmorph.jax.variational_dilation(image, window, np.inf, weight=weight)
    with pytest.raises(ValueError, match="smoothing must be positive"):
        varmorph.jax.variational_dilation(image, window, level, weight=weight, penalty="huber", smoothing=0.0)
    with pytest.raises(ValueError, match="backend must be one of"), varmorph.jax.backend("cuda"):
        pass


def test_kernels_of_several_programs_may_run_at_the_same_time():
    x = np.random.default_rng(0).standard_normal((4, 4, 64, 64))
    flat = np.zeros((4, 3, 3))
    call = jax.jit(lambda x: varmorph.jax.variational_dilation(x, flat, 1.0))
    expected = np.asarray(call(x))

    def results(_):
        with jax.enable_x64(True):
            return [np.asarray(call(x)) for _ in range(10)]

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(results, range(4)):
            assert all(np.array_equal(y, expected) for y in found)
