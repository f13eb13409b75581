"""The adjoint is linear: a gradient over the scale of the loss does not depend on that scale."""

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="jax is not installed")
pytest.importorskip("equinox", reason="equinox is not installed")

from operator_calls import calls, coupled_calls  # noqa: E402

import varmorph.jax  # noqa: E402
from varmorph.jax import Implicit, Neumann, backend, equilibrium, solve_with_pullback  # noqa: E402

SCALES = [1e-30, 1e-24, 1e20, 1e30]
ADJOINTS = [Implicit(tolerance=1e-5), Neumann(terms=3)]
# One operator for each backward pass that is no linear solve.
OTHERS = [
    "dilation",
    "variational_dilation, expectile",
    "variational_dilation, quantile",
    "variational_dilation, huber",
    "reconstruction by dilation",
    "leveling",
    "graph_dilation",
    "variational_graph_dilation, huber",
]
both_backends = pytest.mark.parametrize("name_of_backend", ["auto", "xla"])


def differentiable(name, name_of_backend, **options):
    """The operator as a function of its arrays of floating-point numbers, and these, in float32."""
    call = calls()[name]
    arguments = call.arguments(jax.numpy.asarray, np.float32)
    leaves = {key: value for key, value in arguments.items() if value.dtype == np.float32}
    fixed = {key: array for key, array in call.arrays.items() if key not in leaves}

    def apply(leaves):
        with backend(name_of_backend):
            return getattr(varmorph.jax, call.operator)(**fixed, **leaves, **call.options, **options)

    return apply, leaves


def cotangent_like(value):
    return np.random.default_rng(7).standard_normal(value.shape).astype(np.float32)


def assert_gradients_agree(found, expected, scale):
    for key, gradient in expected.items():
        other = np.asarray(found[key], np.float64) / scale
        assert np.abs(other - gradient).max() <= 1e-4 * np.abs(gradient).max() + 1e-5, key


@pytest.mark.parametrize("name", OTHERS)
@both_backends
def test_gradients_do_not_depend_on_the_scale_of_the_loss(name, name_of_backend):
    apply, leaves = differentiable(name, name_of_backend)
    value, pull = jax.vjp(jax.jit(apply), leaves)
    cotangent = cotangent_like(value)
    (expected,) = pull(cotangent)
    for scale in SCALES:
        assert_gradients_agree(pull(cotangent * np.float32(scale))[0], expected, scale)


@pytest.mark.filterwarnings("ignore::varmorph.jax.ConvergenceWarning")
@pytest.mark.parametrize("adjoint", ADJOINTS, ids=repr)
@pytest.mark.parametrize("name", coupled_calls())
@both_backends
def test_gradients_and_certificates_do_not_depend_on_the_scale_of_the_loss(name, adjoint, name_of_backend):
    apply, leaves = differentiable(name, name_of_backend, adjoint=adjoint)

    @jax.jit
    def differentiate(scale):
        value, pullback, _ = solve_with_pullback(apply, leaves)
        (gradients,), backward = pullback(scale * cotangent_like(value))
        return gradients, backward

    expected, certificate = differentiate(np.float32(1))
    for scale in SCALES:
        found, backward = differentiate(np.float32(scale))
        assert_gradients_agree(found, expected, scale)
        np.testing.assert_array_equal(backward.converged, certificate.converged)
        np.testing.assert_allclose(backward.residual, certificate.residual, rtol=0.1, atol=1e-6)
    for scale in (np.nan, np.inf):
        assert not differentiate(np.float32(scale))[1].converged.any()


@pytest.mark.filterwarnings("ignore::varmorph.jax.ConvergenceWarning")
@pytest.mark.parametrize("adjoint", ADJOINTS, ids=repr)
def test_gradients_of_an_equilibrium_do_not_depend_on_the_scale_of_the_loss(adjoint):
    given = {"weight": jax.numpy.asarray([[0.3, 0.2], [-0.4, 0.1]], np.float32)}
    start = jax.numpy.zeros((3, 2), np.float32)

    def solve(given):
        return equilibrium(lambda z: jax.numpy.tanh(z @ given["weight"] + 1), start, adjoint=adjoint)

    @jax.jit
    def differentiate(scale):
        value, pullback, _ = solve_with_pullback(solve, given)
        (gradients,), backward = pullback(scale * cotangent_like(value))
        return gradients, backward

    expected, certificate = differentiate(np.float32(1))
    for scale in SCALES:
        found, backward = differentiate(np.float32(scale))
        assert_gradients_agree(found, expected, scale)
        np.testing.assert_array_equal(backward.converged, certificate.converged)
    for scale in (np.nan, np.inf):
        assert not differentiate(np.float32(scale))[1].converged.any()
