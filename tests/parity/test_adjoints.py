"""Adjoints, policies and certificates in JAX: the same as in PyTorch, and inside `jit`."""

import warnings

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="jax is not installed")
torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("equinox", reason="equinox is not installed")

import jax.numpy as jnp  # noqa: E402
from by_position import by_position  # noqa: E402
from coupled_instances import drawn, image_arguments  # noqa: E402

import varmorph.jax  # noqa: E402
import varmorph.torch  # noqa: E402
from varmorph.jax import (  # noqa: E402
    ADMM,
    AcceleratedGradient,
    Anderson,
    ConvergenceError,
    ConvergenceWarning,
    FixedPoint,
    Implicit,
    Neumann,
    Newton,
    OneStep,
    PrimalDual,
    Truncated,
    Unrolled,
    joint_opening,
    regularised_dilation,
    regularised_graph_dilation,
    solve_with_pullback,
    variational_graph_dilation,
)

TIGHT = Newton(tolerance=1e-13)


def small_arguments():
    """One sample on which unrolled solvers take few steps."""
    arguments = image_arguments(shape=(1, 2, 4, 4), window=(3, 3))
    return arguments | {"coupling": torch.tensor([0.3, 0.6], dtype=torch.float64)}


def gradients(**options):
    """Gradients of a small problem and the backward certificate."""
    arrays = {key: jnp.asarray(value.numpy()) for key, value in small_arguments().items()}
    cotangent = drawn(8, 1, 2, 4, 4).numpy()

    @jax.jit
    def differentiate(arrays):
        _, pullback, _ = solve_with_pullback(lambda arrays: regularised_dilation(**arrays, **options), arrays)
        (found,), backward = pullback(cotangent)
        return found, backward

    return differentiate(arrays)


def gradients_in_pytorch(**options):
    leaves = {key: value.clone().requires_grad_() for key, value in small_arguments().items()}
    with varmorph.torch.backend("tensor"):
        solution = varmorph.torch.regularised_dilation(**leaves, **options)
        found = torch.autograd.grad(solution.value, leaves.values(), drawn(8, 1, 2, 4, 4))
    return dict(zip(leaves, found, strict=True)), solution.certificate.backward


def furthest(found, expected):
    """Greatest relative difference of the gradients of any parameter."""
    pairs = [(np.asarray(found[key]), np.asarray(expected[key])) for key in expected]
    return max(np.abs(one - two).max() / np.abs(two).max() for one, two in pairs)


@pytest.fixture(scope="module")
def exact():
    with jax.enable_x64(True):
        return gradients(solver=TIGHT, adjoint=Implicit(tolerance=1e-13))[0]


@pytest.mark.parametrize(
    "adjoint", [Neumann(terms=1), Neumann(terms=40), OneStep(), OneStep(step="relaxation")], ids=repr
)
def test_linear_adjoints_are_those_of_pytorch(adjoint):
    for backend in ("cpu", "xla"):
        with varmorph.jax.backend(backend):
            found, certificate = gradients(solver=TIGHT, adjoint=adjoint)
        expected, theirs = gradients_in_pytorch(solver=varmorph.torch.Newton(tolerance=1e-13), adjoint=adjoint)
        assert furthest(found, expected) <= 1e-9
        np.testing.assert_array_equal(certificate.converged, theirs.converged)
        np.testing.assert_array_equal(certificate.iterations, theirs.iterations)
        np.testing.assert_allclose(certificate.residual, theirs.residual, rtol=1e-6, atol=1e-11)


@pytest.mark.parametrize("solver", [Newton, FixedPoint, Anderson, AcceleratedGradient, PrimalDual, ADMM])
def test_a_solver_unrolled_to_convergence_has_the_implicit_gradient(solver, exact):
    found, certificate = gradients(solver=solver(tolerance=1e-12), adjoint=Unrolled())
    assert furthest(found, exact) <= 1e-8
    assert certificate is None


def test_an_unrolled_gradient_lags_as_it_does_in_pytorch(exact):
    found, _ = gradients(solver=FixedPoint(tolerance=1e-4), adjoint=Unrolled())
    expected, _ = gradients_in_pytorch(solver=varmorph.torch.FixedPoint(tolerance=1e-4), adjoint=Unrolled())
    assert furthest(found, expected) <= 1e-10
    assert furthest(found, exact) > 1e-4


@pytest.mark.parametrize(("through", "steps"), [("FixedPoint", 1), ("AcceleratedGradient", 5)])
def test_truncated_iterations_are_those_of_pytorch(through, steps):
    """One sweep alone: rounding decides whether a second one lowers the energy of a minimiser, and is halved."""
    adjoint = Truncated(steps=steps, through=getattr(varmorph.jax, through)())
    found, certificate = gradients(solver=TIGHT, adjoint=adjoint)
    twin = varmorph.torch.Truncated(steps=steps, through=getattr(varmorph.torch, through)())
    expected, _ = gradients_in_pytorch(solver=varmorph.torch.Newton(tolerance=1e-13), adjoint=twin)
    assert certificate is None
    assert furthest(found, expected) <= 1e-7


class TestSingular:
    """Two pixels held together so strongly that both data residuals are straight: H does not reach a known value."""

    def solve(self, x, **options):
        flat = jnp.zeros((1, 1))
        return regularised_dilation(x, flat, 0.0, 10.0, penalty="huber", smoothing=0.1, **options)

    @pytest.fixture(params=["cpu", "xla"])
    def x(self, request):
        """Return such an image, beside an ordinary one."""
        with varmorph.jax.backend(request.param):
            yield jnp.array([[[[0.0, 1.0]]], [[[0.0, 0.05]]]])

    def test_the_certificate_says_so(self, x):
        value, pullback, certificate = solve_with_pullback(self.solve, x)
        with pytest.warns(ConvergenceWarning, match=r"backward pass of Implicit\("):
            _, backward = pullback(jnp.ones_like(value))
        assert backward.singular.tolist() == [True, False]
        assert certificate.forward.unique.tolist() == [False, True]

    def test_policies(self, x):
        gradient = jax.grad(lambda x: self.solve(x, adjoint=Implicit(on_failure="nan")).value.sum())(x)
        assert np.isnan(gradient[0]).all()
        np.testing.assert_allclose(gradient[1], 1, rtol=1e-9)
        with pytest.raises(Exception, match="did not converge"):  # JAX may trace the linear system even outside jit
            jax.grad(lambda x: self.solve(x, adjoint=Implicit(on_failure="raise")).value.sum())(x)

    def test_a_ridge_repairs_it(self, x):
        value, pullback, _ = solve_with_pullback(lambda x: self.solve(x, ridge=0.01), x)
        assert not pullback(jnp.ones_like(value))[1].singular.any()


class TestFailure:
    """One sample that takes more steps than it is given, beside one that takes none."""

    @pytest.fixture(params=["cpu", "xla"])
    def x(self, request):
        with varmorph.jax.backend(request.param):
            yield jnp.asarray(drawn(0, 2, 1, 6, 6).numpy()).at[0].set(0.5)

    def solve(self, x, policy="warn"):
        solver = Newton(max_steps=1, on_failure=policy)
        return regularised_dilation(x, jnp.zeros((3, 3)), 3.0, 1.0, solver=solver)

    def compiled(self, x):
        solution = jax.jit(self.solve)(x)
        jax.effects_barrier()
        return solution

    def test_a_warning_and_a_certificate(self, x):
        with pytest.warns(ConvergenceWarning, match="max_steps=1"):
            solution = self.solve(x)
        assert solution.certificate.forward.converged.tolist() == [True, False]
        assert np.isfinite(solution.value).all()

    def test_a_warning_inside_jit(self, x):
        with pytest.warns(ConvergenceWarning, match="max_steps=1"):
            solution = self.compiled(x)
        assert solution.certificate.forward.converged.tolist() == [True, False]

    def test_no_warning_where_all_is_well(self, x):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            self.compiled(x[:1])

    def test_nan_where_a_sample_failed(self, x):
        value = jax.jit(lambda x: self.solve(x, "nan").value)(x)
        assert np.isfinite(value[0]).all()
        assert np.isnan(value[1]).all()

    def test_an_error_names_the_samples(self, x):
        with pytest.raises(ConvergenceError, match=r"did not converge for samples \[1\]"):
            self.solve(x, "raise")

    def test_an_error_inside_jit(self, x):
        with pytest.raises(Exception, match="did not converge for some samples"):
            jax.block_until_ready(jax.jit(lambda x: self.solve(x, "raise").value)(x))


@pytest.mark.parametrize("backend", ["cpu", "xla"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_sample_that_is_not_finite_is_nan_and_alone(backend, number):
    x = jnp.asarray(drawn(0, 2, 2, 5, 5).numpy()).at[0, 1, 2, 2].set(number)
    with varmorph.jax.backend(backend), pytest.warns(ConvergenceWarning):
        solution = regularised_dilation(x, jnp.zeros((3, 3)), 1.0, 1.0)
    assert np.isnan(solution.value[0, 1]).all()
    assert np.isfinite(solution.value[0, 0]).all()
    assert np.isfinite(solution.value[1]).all()
    assert solution.certificate.forward.converged.tolist() == [False, True]


@pytest.mark.parametrize("backend", ["cpu", "xla"])
def test_a_batch_under_vmap_is_the_batch(backend):
    x = jnp.asarray(drawn(0, 3, 2, 5, 5).numpy())
    with varmorph.jax.backend(backend):
        whole = regularised_dilation(x, jnp.zeros((3, 3)), 1.0, 1.0)
        mapped = jax.vmap(lambda x: regularised_dilation(x[None], jnp.zeros((3, 3)), 1.0, 1.0))(x)
    np.testing.assert_allclose(mapped.value[:, 0], whole.value, rtol=1e-12)
    np.testing.assert_array_equal(mapped.certificate.forward.iterations[:, 0], whole.certificate.forward.iterations)


def test_certificates_of_graphs_have_the_shape_of_their_batch():
    edges = jnp.array([[0, 1, 2], [1, 2, 0]])
    for shape in ((), (4,)):
        x = jnp.asarray(drawn(0, *shape, 3, 2).numpy())
        value, pullback, certificate = solve_with_pullback(
            lambda x: regularised_graph_dilation(x, edges, None, 1.0, 0.5), x
        )
        _, backward = pullback(jnp.ones_like(value))
        assert certificate.forward.converged.shape == backward.converged.shape == shape
        assert certificate.forward.converged.all()
        assert backward.converged.all()


def test_one_solve_at_a_time_is_certified():
    x, flat = jnp.asarray(drawn(0, 1, 1, 4, 4).numpy()), jnp.zeros((3, 3))

    def twice(x):
        once = regularised_dilation(x, flat, 1.0, 1.0)
        return regularised_dilation(once.value, flat, 1.0, 1.0)

    with pytest.raises(ValueError, match="must solve one coupled problem, found 2"):
        solve_with_pullback(twice, x)


def test_arguments_of_any_kind_are_differentiated():
    x = jnp.asarray(drawn(0, 1, 1, 4, 4).numpy())
    value, pullback, certificate = solve_with_pullback(
        by_position(joint_opening), x, jnp.zeros((3, 3)), None, jnp.array([-1.0, 1.0]), 0.5
    )
    gradients, backward = pullback(jnp.ones_like(value))
    assert gradients[2] is None
    assert gradients[0].shape == x.shape
    assert float(gradients[0].sum()) == pytest.approx(x.size, rel=1e-8)
    assert gradients[4].shape == ()
    assert certificate.backward is None
    assert backward.converged.all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ({"solver": "newton"}, TypeError, r"one of varmorph.jax's solvers, such as Newton\(\), found str"),
        ({"solver": varmorph.torch.Newton()}, TypeError, "one of varmorph.jax's solvers"),
        ({"adjoint": 3}, TypeError, r"one of varmorph.jax's adjoints, such as Implicit\(\), found int"),
        ({"coupling": -1.0}, ValueError, "coupling must be >= 0"),
        ({"ridge": -1.0}, ValueError, "ridge must be >= 0"),
        ({"edge_penalty": "tv"}, ValueError, "edge_penalty must be 'quadratic' or 'huber', found 'tv'"),
        ({"edge_penalty": "huber"}, ValueError, "edge_smoothing must be a positive number"),
        ({"edge_weights": jnp.ones((1, 2, 2, 3, 3))}, ValueError, "edge_weights must have shape"),
        ({"padding": "valid"}, ValueError, "padding must keep the size of the image, found 'valid'"),
        ({"start": jnp.zeros((1, 1, 2, 2))}, ValueError, r"the start must have shape \(1, 1, 4, 4\)"),
        (
            {"penalty": "quantile", "ridge": 0.1},
            ValueError,
            "Newton needs penalties with a derivative, found 'quantile'",
        ),
    ],
)
def test_wrong_arguments_are_named(call, error, message):
    arguments = {"coupling": 1.0, **call}
    with pytest.raises(error, match=message):
        regularised_dilation(jnp.zeros((1, 1, 4, 4)), jnp.zeros((3, 3)), 1.0, **arguments)


def test_quantiles_have_no_implicit_gradient():
    x = jnp.asarray(drawn(0, 1, 1, 4, 4).numpy())

    def total(x):
        options = {"penalty": "quantile", "ridge": 0.5, "solver": PrimalDual(tolerance=1e-6)}
        return regularised_dilation(x, jnp.zeros((3, 3)), 1.0, 1.0, **options).value.sum()

    with pytest.raises(ValueError, match="has no implicit gradient"):
        jax.grad(total)(x)


def test_edges_that_are_traced_are_refused_where_shapes_depend_on_them():
    x, edges = jnp.zeros((3, 1)), jnp.array([[0, 1], [1, 2]])
    apply = jax.jit(lambda x, edges: regularised_graph_dilation(x, edges, None, 1.0, 1.0).value)
    with pytest.raises(ValueError, match="must be known while the function is traced"):
        apply(x, edges)
    separable = jax.jit(lambda x, edges: variational_graph_dilation(x, edges, None, 1.0))
    np.testing.assert_allclose(separable(x, edges), 0)
