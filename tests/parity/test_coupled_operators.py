"""Coupled operators in JAX, by compiled kernels and by XLA, against the reference and PyTorch: values, gradients, certificates."""

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="jax is not installed")
torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("equinox", reason="equinox is not installed")

from coupled_instances import exact, problems  # noqa: E402

import varmorph.jax  # noqa: E402
import varmorph.torch  # noqa: E402
from varmorph.jax import ADMM, AcceleratedGradient, Anderson, FixedPoint, Implicit, Newton, PrimalDual  # noqa: E402
from varmorph.jax.energy.solvers.iteration import Goal  # noqa: E402

TIGHT = {"solver": Newton(tolerance=1e-13), "adjoint": Implicit(tolerance=1e-12)}
INSTANCES = ["huber edges, ridge", "joint_opening"]
every_problem = pytest.mark.parametrize("name", problems())


def in_jax(name, backend="auto", dtype=None, **options):
    """The operator as a function of its arguments, and these, as arrays."""
    problem = problems()[name]
    arrays = {
        key: array if dtype is None or array.dtype.kind == "i" else array.astype(dtype)
        for key, array in problem.arrays().items()
    }
    operator = getattr(varmorph.jax, problem.operator)
    edges = arrays.pop("edges", None)  # closed over: what the shapes of arrays may depend on
    graph = () if edges is None else (edges,)

    def apply(arrays):
        rest = dict(arrays)
        with varmorph.jax.backend(backend):
            return operator(rest.pop("x"), *graph, **rest, **problem.options, **options)

    return apply, {key: jax.numpy.asarray(array) for key, array in arrays.items()}


def solved(name, backend="auto", dtype=None, **options):
    """Value, gradients of its product with the problem's cotangent, and both certificates."""
    apply, arrays = in_jax(name, backend, dtype, **options)
    cotangent = problems()[name].cotangent().numpy().astype(dtype or np.float64)

    @jax.jit
    def differentiate(arrays, cotangent):
        value, pullback, certificate = varmorph.jax.solve_with_pullback(apply, arrays)
        (gradients,), backward = pullback(cotangent)
        return value, gradients, certificate.forward, backward

    return differentiate(arrays, cotangent)


def options_of(name):
    return {} if "separable" in name else TIGHT


def relative(found, expected):
    expected = np.asarray(expected)
    return np.abs(np.asarray(found) - expected).max() / max(np.abs(expected).max(), 1e-3)


def check_against_reference(name, found, value_tolerance, gradient_tolerance):
    value, gradients, forward, backward = found
    assert forward.converged.all()
    assert backward.converged.all()
    assert not backward.singular.any()
    assert relative(value, exact(name)[0]) <= value_tolerance
    for parameter, expected in exact(name)[1].items():
        assert relative(gradients[parameter], expected) <= gradient_tolerance, parameter


@every_problem
def test_values_and_gradients_are_those_of_the_specification(name):
    check_against_reference(name, solved(name, "xla", **options_of(name)), 1e-10, 1e-8)


@pytest.mark.parametrize("name", [name for name in problems() if problems()[name].operator == "regularised_dilation"])
def test_kernels_agree_with_the_specification(name):
    check_against_reference(name, solved(name, "cpu", **TIGHT), 1e-10, 1e-8)


@pytest.mark.parametrize(
    "name", ["quadratic", "huber, huber edges, ridge", "joint_closing", "regularised_graph_erosion, quadratic"]
)
def test_single_precision_is_close(name):
    with jax.enable_x64(False):
        found = solved(name, dtype=np.float32)
    assert found[0].dtype == np.float32
    check_against_reference(name, found, 1e-4, 1e-3)


@pytest.mark.parametrize("name", ["quadratic", "huber edges, ridge", "huber", "joint_opening, circular"])
def test_gradients_without_a_certificate_are_the_same(name):
    apply, arrays = in_jax(name, **TIGHT)
    cotangent = problems()[name].cotangent().numpy()
    gradients = jax.jit(jax.grad(lambda arrays: (apply(arrays).value * cotangent).sum()))(arrays)
    for parameter, expected in exact(name)[1].items():
        assert relative(gradients[parameter], expected) <= 1e-8, parameter


@pytest.mark.parametrize(
    "name", ["quadratic", "huber edges, ridge", "joint_closing", "regularised_graph_dilation, quadratic"]
)
def test_both_modes_of_differentiation_agree(name):
    apply, arrays = in_jax(name, "xla", **TIGHT)
    rng = np.random.default_rng(3)
    tangents = {
        key: jax.numpy.asarray(np.where(np.isfinite(a), rng.standard_normal(a.shape), 0)) for key, a in arrays.items()
    }
    cotangent = problems()[name].cotangent().numpy()
    _, moved = jax.jit(lambda arrays: jax.jvp(lambda arrays: apply(arrays).value, (arrays,), (tangents,)))(arrays)
    expected = sum((np.asarray(exact(name)[1][key]) * np.asarray(tangents[key])).sum() for key in arrays)
    assert float((moved * cotangent).sum()) == pytest.approx(expected, rel=1e-7)


def test_second_derivatives_are_those_of_the_gradient():
    apply, arrays = in_jax("quadratic", "xla", **TIGHT)
    arrays = {key: array[:1, ..., :3, :3] if array.ndim > 3 else array for key, array in arrays.items()}

    def slope(coupling):
        return jax.grad(lambda coupling: (apply({**arrays, "coupling": coupling}).value ** 2).sum())(coupling)

    coupling, step = arrays["coupling"], 1e-5
    curvature = jax.jit(jax.jacobian(slope))(coupling)
    run = jax.jit(slope)
    for channel in range(2):
        move = step * jax.numpy.eye(2)[channel]
        expected = (run(coupling + move) - run(coupling - move)) / (2 * step)
        np.testing.assert_allclose(curvature[channel], expected, rtol=1e-5, atol=1e-9)


SOLVERS = {
    "Newton": Newton(tolerance=1e-10),
    "FixedPoint": FixedPoint(tolerance=1e-10, max_steps=5000),
    "Anderson": Anderson(tolerance=1e-10),
    "AcceleratedGradient": AcceleratedGradient(tolerance=1e-10),
    "PrimalDual": PrimalDual(tolerance=1e-10),
    "ADMM": ADMM(tolerance=1e-10),
}


# Relaxation alone takes many thousand sweeps for a joint operator.
@pytest.mark.parametrize(
    ("name", "solver"), [(n, s) for n in INSTANCES for s in SOLVERS if (n, s) != ("joint_opening", "FixedPoint")]
)
def test_every_solver_does_what_it_does_in_pytorch(name, solver):
    apply, arrays = in_jax(name, "xla", solver=SOLVERS[solver])
    value, certificate, _ = jax.jit(apply)(arrays)
    twin = getattr(varmorph.torch, solver)(tolerance=1e-10, max_steps=SOLVERS[solver].max_steps)
    with varmorph.torch.backend("tensor"), torch.no_grad():
        theirs, _ = problems()[name].call(solver=twin)
    assert relative(value, exact(name)[0]) <= 1e-7
    forward, expected = certificate.forward, theirs.certificate.forward
    assert forward.converged.all()
    if solver not in (
        "FixedPoint",
        "Anderson",
    ):  # where rounding decides whether a sweep is halved, and what is combined
        slack = 2 + expected.iterations.numpy() // 50
        assert (np.abs(forward.iterations - expected.iterations.numpy()) <= slack).all()
    np.testing.assert_array_equal(forward.unique, expected.unique)
    np.testing.assert_allclose(forward.active.margin, expected.active.margin, rtol=1e-3, atol=1e-9)


def straight_problems(library, asarray):
    """Two problems of two unknowns, known values far off beside neighbours that Huber's penalty holds together."""
    known = asarray(np.array([[[[0.0, 3.0]], [[0.0, 5.0]]]]))
    one, mu = asarray(np.array(1.0)), asarray(np.array(0.1))
    pulls = library.Edges(library.DataEdges(), known[None], one, library.Penalty("square"))
    between = library.Edges(library.GridEdges(-1), 0 * one, one, library.Penalty("huber", smoothing=mu))
    return library.Energy((pulls, between), 0 * known), known


def test_newton_keeps_the_duals_of_problems_that_are_done():
    active, residual = np.array([[True, False]]), np.array([[1.0, 1.0]])
    energy, z = straight_problems(varmorph.torch, torch.from_numpy)
    newton = varmorph.torch.Newton()
    begin = newton.start(energy, z)
    theirs, _ = newton.step(energy, begin, *map(torch.from_numpy, (active, residual)), 1e-9)
    energy, z = straight_problems(varmorph.jax, jax.numpy.asarray)
    goal = Goal(energy.extent(), 1e-9, False)
    begin, _ = Newton().step(energy, goal, Newton().start(energy, z, goal), ~active & active, residual)
    ours, _ = Newton().step(energy, goal, begin, active, residual)
    found, one = ours.duals[1], theirs.duals[1].numpy()
    np.testing.assert_allclose(found, one, rtol=1e-12)
    assert np.abs(one[0, 0]).min() > 0.5
    assert not one[0, 1].any()


def test_quantiles_are_found_by_their_duality_gap():
    tensors = problems()["quadratic"].tensors
    arguments = {**tensors, "ridge": torch.tensor(0.1, dtype=torch.float64)}
    theirs = varmorph.torch.regularised_dilation(
        **arguments, penalty="quantile", solver=varmorph.torch.PrimalDual(tolerance=1e-8)
    )
    arrays = {name: jax.numpy.asarray(value.numpy()) for name, value in arguments.items()}
    ours = jax.jit(
        lambda arrays: varmorph.jax.regularised_dilation(
            **arrays, penalty="quantile", solver=PrimalDual(tolerance=1e-8)
        )
    )(arrays)
    assert ours.certificate.forward.converged.all()
    assert relative(ours.value, theirs.value.detach()) <= 1e-5


@pytest.mark.parametrize("backend", ["cpu", "xla"])
@pytest.mark.parametrize("level", [0.0, 2.0])
def test_ties_select_the_same_element_of_the_derivative(level, backend):
    """Plateaus and a flat window: residuals of 0 everywhere, where both halves count r >= 0 as above."""
    image = np.zeros((1, 1, 5, 6))
    image[..., 1:4, 2:5] = 1.0
    cotangent = np.random.default_rng(1).standard_normal(image.shape)
    leaves = [torch.tensor(image, requires_grad=True), torch.zeros(1, 3, 3, dtype=torch.float64, requires_grad=True)]
    with varmorph.torch.backend("tensor"):
        theirs = varmorph.torch.regularised_dilation(*leaves, level, 0.0)
        expected = torch.autograd.grad(theirs.value, leaves, torch.tensor(cotangent))

    def apply(x, bias):
        with varmorph.jax.backend(backend):
            return varmorph.jax.regularised_dilation(x, bias, level, 0.0).value

    value, pullback = jax.vjp(jax.jit(apply), *(jax.numpy.asarray(leaf.detach().numpy()) for leaf in leaves))
    np.testing.assert_allclose(value, theirs.value.detach(), atol=1e-12)
    for ours, wanted in zip(pullback(cotangent), expected, strict=True):
        np.testing.assert_allclose(ours, wanted, atol=1e-8)
