"""Finite arguments: no operation of a program in JAX makes NaN, on the way forward or back, inside of loops or outside."""

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="jax is not installed")
pytest.importorskip("equinox", reason="equinox is not installed")

from nan_sources import nan_sources  # noqa: E402
from operator_calls import calls  # noqa: E402

import varmorph.jax  # noqa: E402
from varmorph.jax import Anderson, FixedPoint, Newton, Unrolled, backend, equilibrium  # noqa: E402

ONE_OF_A_KIND = [
    "dilation",
    "variational_dilation, expectile",
    "variational_dilation, quantile",
    "variational_dilation, huber",
    "reconstruction by dilation",
    "leveling",
    "variational_graph_erosion, huber",
    "regularised_dilation",
    "regularised_graph_dilation, huber",
    "joint_opening",
]
every_kind = pytest.mark.parametrize("name", ONE_OF_A_KIND)


@pytest.fixture
def stop_at_nan():
    """Let JAX stop where a result holds NaN."""
    jax.config.update("jax_debug_nans", True)
    yield
    jax.config.update("jax_debug_nans", False)


def loss_of(call, **more):
    arguments = call.arguments(jax.numpy.asarray, np.float32)
    leaves = {key: value for key, value in arguments.items() if value.dtype == np.float32}
    fixed = {key: array for key, array in call.arrays.items() if key not in leaves}

    def loss(leaves):
        found = getattr(varmorph.jax, call.operator)(**fixed, **leaves, **call.options, **more)
        value, certificate = (found, None) if isinstance(found, jax.Array) else (found.value, found.certificate.forward)
        return (value**2).sum(), certificate

    return loss, leaves


@every_kind
def test_no_operation_makes_nan(name):
    with backend("xla"):
        for call in (calls()[name], calls()[name].with_ties()):
            loss, leaves = loss_of(call)
            assert not nan_sources(jax.grad(loss, has_aux=True), leaves)


@pytest.mark.filterwarnings("ignore::varmorph.jax.ConvergenceWarning")
@pytest.mark.parametrize("solver", [Anderson(max_steps=8), Newton(max_steps=5)], ids=repr)
def test_no_solver_makes_nan_where_its_steps_are_differentiated(solver):
    loss, leaves = loss_of(calls()["regularised_dilation, huber"].with_ties(), solver=solver, adjoint=Unrolled())
    with backend("xla"):
        assert not nan_sources(jax.grad(loss, has_aux=True), leaves)


@pytest.mark.parametrize("solver", [Anderson(), FixedPoint()], ids=repr)
@pytest.mark.parametrize("factor", [0.0, 0.5])
def test_no_equilibrium_makes_nan(stop_at_nan, solver, factor):
    def loss(weight):
        start = jax.numpy.zeros((2, 3))
        found = equilibrium(lambda z: jax.numpy.tanh(z @ weight + 1), start, solver=solver)
        return found.value.sum(), found.certificate.forward

    weight = factor * jax.numpy.eye(3)
    assert not nan_sources(jax.grad(loss, has_aux=True), weight)
    for differentiate in (jax.grad(loss, has_aux=True), jax.jit(jax.grad(loss, has_aux=True))):
        assert np.isfinite(differentiate(weight)[0]).all()


@every_kind
@pytest.mark.parametrize("name_of_backend", ["auto", "xla"])
def test_jax_does_not_stop_at_nan(stop_at_nan, name, name_of_backend):
    with backend(name_of_backend):
        loss, leaves = loss_of(calls()[name])
        jax.grad(loss, has_aux=True)(leaves)


@pytest.mark.parametrize("name", ["h_maxima", "h_convex", "fill_holes", "opening_by_reconstruction", "leveling"])
def test_jax_does_not_stop_at_nan_outside_of_programs(stop_at_nan, name):
    with backend("xla"):
        for call in (calls()[name], calls()[name].with_ties()):
            loss, leaves = loss_of(call)
            jax.grad(loss, has_aux=True)(leaves)
