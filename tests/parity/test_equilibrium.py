"""Equilibria in JAX: the same as in PyTorch, in both modes, of second order, and inside `jit`."""

import warnings

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="jax is not installed")
torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("equinox", reason="equinox is not installed")

import jax.numpy as jnp  # noqa: E402
from coupled_instances import drawn  # noqa: E402

import varmorph.jax  # noqa: E402
import varmorph.torch  # noqa: E402
from varmorph.jax import (  # noqa: E402
    Anderson,
    ConvergenceError,
    ConvergenceWarning,
    FixedPoint,
    Implicit,
    Neumann,
    Newton,
    OneStep,
    Truncated,
    Unrolled,
    equilibrium,
    solve_with_pullback,
)
from varmorph.jax.energy.gmres import RESTART, minimal_residuals  # noqa: E402

SAMPLES, UNKNOWNS = 3, 5
COTANGENT = drawn(9, SAMPLES, UNKNOWNS).numpy()
START = np.zeros((SAMPLES, UNKNOWNS))
METHODS = {
    "anderson": ("Anderson", {"tolerance": 1e-13}),
    "fixed-point": ("FixedPoint", {"tolerance": 1e-13, "share": 0.8}),
}
ADJOINTS = {
    "implicit": ("Implicit", {"tolerance": 1e-13}),
    "newton": ("OneStep", {"tolerance": 1e-13}),
    "neumann": ("Neumann", {"terms": 5}),
    "jacobian-free": ("OneStep", {"step": "relaxation"}),
    "truncated": ("Truncated", {"steps": 4}),
    "unrolled": ("Unrolled", {}),
}
TIGHT, EXACT = Anderson(tolerance=1e-13), Implicit(tolerance=1e-13)


def leaves():
    """W (not symmetric) and u of z -> tanh(z W^T + u)."""
    return 0.8 * drawn(0, UNKNOWNS, UNKNOWNS) / UNKNOWNS**0.5, drawn(1, SAMPLES, UNKNOWNS)


def arrays():
    return tuple(jnp.asarray(leaf.numpy()) for leaf in leaves())


def solved(parameters, **options):
    W, u = parameters
    return equilibrium(lambda z: jnp.tanh(z @ W.T + u), START, **options)


def made(library, entry):
    name, settings = entry
    return getattr(library, name)(**settings)


@pytest.mark.parametrize("solver", METHODS)
@pytest.mark.parametrize("adjoint", ADJOINTS)
def test_values_gradients_and_certificates_are_those_of_pytorch(solver, adjoint):
    W, u = (leaf.requires_grad_() for leaf in leaves())
    theirs = varmorph.torch.equilibrium(
        lambda z: torch.tanh(z @ W.T + u),
        torch.zeros(SAMPLES, UNKNOWNS, dtype=torch.float64),
        solver=made(varmorph.torch, METHODS[solver]),
        adjoint=made(varmorph.torch, ADJOINTS[adjoint]),
    )
    expected = torch.autograd.grad(theirs.value, (W, u), torch.from_numpy(COTANGENT))
    options = {"solver": made(varmorph.jax, METHODS[solver]), "adjoint": made(varmorph.jax, ADJOINTS[adjoint])}

    @jax.jit
    def differentiate(parameters):
        value, pullback, certificate = solve_with_pullback(lambda p: solved(p, **options), parameters)
        (gradients,), backward = pullback(COTANGENT)
        plain = jax.grad(lambda p: (solved(p, **options).value * COTANGENT).sum())(parameters)
        return value, gradients, plain, backward, certificate.forward

    value, gradients, plain, backward, forward = differentiate(arrays())
    np.testing.assert_allclose(value, theirs.value.detach(), rtol=0, atol=1e-12)
    for found, again, one in zip(gradients, plain, expected, strict=True):
        np.testing.assert_allclose(found, one, rtol=0, atol=1e-9)
        np.testing.assert_allclose(again, found, rtol=0, atol=1e-12)
    assert forward.converged.all()
    assert abs(forward.iterations - theirs.certificate.forward.iterations.numpy()).max() <= 1
    assert not forward.unique.any()
    assert not theirs.certificate.forward.unique.any()
    for found, one in zip((forward.linear_steps, *forward.active), _unknown(theirs.certificate.forward), strict=True):
        np.testing.assert_array_equal(found, one)
    if adjoint in ("truncated", "unrolled"):
        assert backward is None
        return
    other = theirs.certificate.backward
    assert backward.converged.tolist() == other.converged.tolist()
    assert backward.iterations.tolist() == other.iterations.tolist()
    if adjoint in ("neumann", "jacobian-free"):
        np.testing.assert_allclose(backward.residual, other.residual, rtol=1e-6)


def _unknown(forward):
    return (forward.linear_steps, forward.active.margin, forward.active.identified)


@pytest.mark.parametrize("name", ["ForwardCertificate", "BackwardCertificate"])
def test_certificates_say_the_same_of_equilibria(name):
    """One type in both frameworks, which says what its entries are for an equilibrium."""
    assert getattr(varmorph.jax, name) is getattr(varmorph.torch, name)
    assert "equilibrium" in getattr(varmorph.jax, name).__doc__


def test_gradients_are_those_of_finite_differences():
    parameters, step = arrays(), 1e-5
    loss = jax.jit(lambda p: (solved(p, solver=TIGHT, adjoint=EXACT).value * COTANGENT).sum())
    found = jax.grad(loss)(parameters)
    for k in range(2):
        direction = jnp.asarray(drawn(5 + k, *parameters[k].shape).numpy())
        moved = [
            loss(tuple(p + sign * step * direction if i == k else p for i, p in enumerate(parameters)))
            for sign in (1, -1)
        ]
        expected = (moved[0] - moved[1]) / (2 * step)
        assert (found[k] * direction).sum() == pytest.approx(float(expected), rel=1e-8)


def test_forward_mode_and_second_order_follow():
    W, u = arrays()
    direction = jnp.asarray(drawn(5, *W.shape).numpy())

    def loss(W):
        return (solved((W, u), solver=TIGHT, adjoint=EXACT).value * COTANGENT).sum()

    slope = jax.jit(jax.grad(loss))
    _, along = jax.jit(lambda W: jax.jvp(loss, (W,), (direction,)))(W)
    assert along == pytest.approx(float((slope(W) * direction).sum()), rel=1e-10)
    _, curved = jax.jit(lambda W: jax.jvp(jax.grad(loss), (W,), (direction,)))(W)
    expected = (slope(W + 1e-5 * direction) - slope(W - 1e-5 * direction)) / 2e-5
    np.testing.assert_allclose(curved, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("solver", [Anderson(tolerance=1e-6), FixedPoint(tolerance=1e-6)])
def test_a_sample_does_not_depend_on_its_batch(solver):
    W, u = arrays()
    u = u.at[0].set(50.0).at[2].multiply(0.01)  # done at once, beside samples that take long

    def one(u):
        solution = equilibrium(lambda z: jnp.tanh(z @ W.T + u), jnp.zeros_like(u), solver=solver)
        return solution.value.sum(), (solution.value, solution.certificate.forward.iterations)

    program = jax.jit(jax.value_and_grad(one, has_aux=True))
    (_, (value, iterations)), gradient = program(u)
    assert len(set(iterations.tolist())) == SAMPLES
    for i in range(SAMPLES):
        (_, (alone, steps)), slope = program(u[i : i + 1])
        np.testing.assert_allclose(alone[0], value[i], rtol=0, atol=1e-12)
        np.testing.assert_allclose(slope[0], gradient[i], rtol=1e-9, atol=1e-12)
        assert steps[0] == iterations[i]


def test_one_graph_whose_edges_are_an_argument():
    """The function closes over an array of integers, which has no derivative, inside of `jit`."""
    sources = jnp.array([0, 1, 2])

    @jax.jit
    def differentiate(weight, sources):
        def loss(weight):
            def function(z):
                return jnp.ones(4).at[sources + 1].add(weight * z[sources])

            solution = equilibrium(function, jnp.zeros(4), batched=False)
            return solution.value[-1], solution.certificate.forward.converged

        return jax.value_and_grad(loss, has_aux=True)(weight)

    (value, converged), slope = differentiate(0.5, sources)
    assert converged.shape == ()
    assert converged
    assert value == pytest.approx(1 + 0.5 + 0.25 + 0.125, abs=1e-8)
    assert slope == pytest.approx(1 + 2 * 0.5 + 3 * 0.25, abs=1e-8)


def test_vmap_over_problems():
    W, u = arrays()
    several = jnp.stack((u, 2 * u))
    value = jax.jit(jax.vmap(lambda u: solved((W, u), solver=TIGHT).value))(several)
    for i in range(2):
        np.testing.assert_allclose(value[i], solved((W, several[i]), solver=TIGHT).value, rtol=0, atol=1e-12)


class TestFailure:
    """Sample 0 contracts, sample 1 does not."""

    SLOPES = np.array([[0.5], [-1.0]])

    def solve(self, policy):
        solver = FixedPoint(max_steps=30, tolerance=1e-6, on_failure=policy)
        return equilibrium(lambda z: self.SLOPES * z + 1, jnp.zeros((2, 1)), solver=solver)

    def test_warn(self):
        with pytest.warns(ConvergenceWarning, match=r"FixedPoint\(.* did not converge"):
            forward = self.solve("warn").certificate.forward
        assert forward.converged.tolist() == [True, False]
        assert forward.iterations[1] == 30 > forward.iterations[0]

    def test_raise(self):
        with pytest.raises(ConvergenceError, match=r"samples \[1\]"):
            self.solve("raise")

    def test_nan(self):
        value = self.solve("nan").value
        assert jnp.isnan(value[1]).all()
        assert value[0, 0] == pytest.approx(2, abs=1e-5)

    def test_a_backward_pass_that_ends_early_says_so(self):
        limited = Implicit(max_steps=2, tolerance=1e-12, on_failure="nan")
        value, pullback, _ = solve_with_pullback(lambda p: solved(p, adjoint=limited), arrays())
        (gradients,), backward = pullback(jnp.ones_like(value))
        assert not backward.converged.any()
        assert backward.iterations.tolist() == [2, 2, 2]
        assert jnp.isnan(gradients[1]).all()

    def test_a_singular_system_is_named(self):
        """z -> z + 0 in the second unknown: I - J is 0 there."""
        slopes = np.array([[0.5, 1.0], [0.5, 0.5]])
        u = jnp.array([[1.0, 0.0], [1.0, 0.0]])
        value, pullback, _ = solve_with_pullback(lambda u: equilibrium(lambda z: slopes * z + u, jnp.zeros((2, 2))), u)
        with pytest.warns(ConvergenceWarning, match=r"backward pass of Implicit\("):
            (gradient,), backward = pullback(jnp.ones_like(value))
        assert backward.singular.tolist() == [True, False]
        np.testing.assert_allclose(gradient[1], [2.0, 2.0])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"solver": Newton()}, TypeError, r"solver must be FixedPoint\(\) or Anderson\(\), found Newton"),
        ({"adjoint": "implicit"}, TypeError, "adjoint must be one of .* found str"),
        ({"adjoint": Truncated(through=Newton())}, TypeError, "Truncated goes through FixedPoint"),
        ({"start": np.zeros((2, 3), int)}, TypeError, "floating-point numbers, found int"),
        ({"start": np.zeros(())}, ValueError, "batched=False"),
        ({"start": np.zeros((2, 0))}, ValueError, r"found shape \(2, 0\)"),
        ({"function": lambda z: z[:1]}, ValueError, r"must return shape \(2, 3\) .* found \(1, 3\)"),
        ({"function": lambda z: z.astype(np.float32)}, ValueError, "found .* float32"),
    ],
)
def test_what_does_not_fit_is_named(options, error, message):
    arguments = {"function": lambda z: z / 2, "start": np.zeros((2, 3))} | options
    with pytest.raises(error, match=message):
        equilibrium(**arguments)


def test_methods_of_every_kind_are_exercised():
    """The lists above hold each adjoint that an equilibrium takes."""
    kinds = {type(made(varmorph.jax, entry)) for entry in ADJOINTS.values()}
    assert kinds == {Implicit, Neumann, OneStep, Truncated, Unrolled}


@pytest.mark.parametrize("unknowns", [5, 3 * RESTART])
def test_minimal_residuals_solve_systems_without_symmetry(unknowns):
    matrices = np.eye(unknowns) - 0.9 * drawn(0, 3, unknowns, unknowns).numpy() / unknowns**0.5
    matrices[2] = np.eye(unknowns)
    right = drawn(1, 3, unknowns).numpy()
    right[1] *= 1e6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = minimal_residuals(lambda v: jnp.einsum("nij,nj->ni", matrices, v), jnp.asarray(right), 1e-10, 5000)
    assert (found.residual <= 1e-10).all()
    assert found.steps[2] == 1
    np.testing.assert_allclose(found.value, np.linalg.solve(matrices, right[..., None])[..., 0], rtol=1e-6, atol=1e-6)
