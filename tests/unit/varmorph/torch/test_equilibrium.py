"""Equilibria of a map: gradients against finite differences, certificates, policies, and what is kept in memory."""

import warnings

import pytest
import torch
from torch.nn import functional as F

from morphobench.studies.torch_measurement import saved_bytes
from varmorph.torch import (
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
)
from varmorph.torch.energy.gmres import RESTART, minimal_residuals

TIGHT = Anderson(tolerance=1e-13)
EXACT = Implicit(tolerance=1e-13)
SOLVERS = [TIGHT, FixedPoint(tolerance=1e-13), FixedPoint(tolerance=1e-13, share=0.7)]


def drawn(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense_layer():
    """Give z -> tanh(z W^T + u), W not symmetric, the leaves it closes over, and a start."""
    leaves = {"W": 0.8 * drawn(0, 7, 7) / 7**0.5, "u": drawn(1, 3, 7)}
    return leaves, lambda z, W, u: torch.tanh(z @ W.T + u), torch.zeros(3, 7, dtype=torch.float64)


def convolution():
    """Give a map of two convolutions with an injected image."""
    leaves = {"inner": 0.2 * drawn(0, 3, 2, 3, 3), "outer": 0.2 * drawn(1, 2, 3, 3, 3), "x": drawn(2, 2, 2, 4, 5)}

    def function(z, inner, outer, x):
        return torch.tanh(x + F.conv2d(F.softplus(F.conv2d(z, inner, padding=1)), outer, padding=1))

    return leaves, function, torch.zeros(2, 2, 4, 5, dtype=torch.float64)


MAPS = {"dense": dense_layer, "convolutional": convolution}
every_map = pytest.mark.parametrize("name", MAPS)


def solved(name, **options):
    """Give the solution of a map and its leaves."""
    leaves, function, start = MAPS[name]()
    leaves = {key: value.requires_grad_() for key, value in leaves.items()}
    return equilibrium(lambda z: function(z, **leaves), start, **options), leaves


def gradients(name, **options):
    solution, leaves = solved(name, **options)
    return torch.autograd.grad(solution.value, leaves.values(), drawn(9, *solution.value.shape)), solution.certificate


def furthest(found, expected):
    return max(((one - two).abs().max() / two.abs().max()).item() for one, two in zip(found, expected, strict=True))


@every_map
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_implicit_gradient_is_that_of_finite_differences(name, solver):
    leaves, function, start = MAPS[name]()
    cotangent, step = drawn(9, *start.shape), 1e-5
    found, certificate = gradients(name, solver=solver, adjoint=EXACT)
    assert certificate.forward.converged.all()
    assert certificate.backward.converged.all()

    def loss(key, i, change):
        at = leaves | {key: leaves[key].clone()}
        at[key].view(-1)[i] += change
        return (equilibrium(lambda z: function(z, **at), start, solver=TIGHT).value * cotangent).sum().item()

    for gradient, key in zip(found, leaves, strict=True):
        scale, count = gradient.abs().max().item(), gradient.numel()
        for i in range(0, count, count // 4):
            expected = (loss(key, i, step) - loss(key, i, -step)) / (2 * step)
            assert abs(gradient.view(-1)[i].item() - expected) <= 1e-8 * scale


@every_map
def test_the_value_is_a_fixed_point(name):
    leaves, function, start = MAPS[name]()
    value = equilibrium(lambda z: function(z, **leaves), start, solver=TIGHT).value
    torch.testing.assert_close(function(value, **leaves), value, rtol=0, atol=1e-12)


@every_map
def test_a_neumann_series_approaches_the_implicit_gradient_and_says_how_near(name):
    expected, _ = gradients(name, solver=TIGHT, adjoint=EXACT)
    errors, residuals = [], []
    for terms in (1, 5, 20, 200):
        found, certificate = gradients(name, solver=TIGHT, adjoint=Neumann(terms=terms))
        errors.append(furthest(found, expected))
        residuals.append(certificate.backward.residual.max().item())
    assert errors[0] > 0.1
    assert errors == sorted(errors, reverse=True)
    assert residuals == sorted(residuals, reverse=True)
    assert errors[-1] <= 1e-9


@every_map
def test_the_jacobian_free_gradient_is_the_vector_jacobian_product_of_the_map_alone(name):
    solution, leaves = solved(name, solver=TIGHT)
    _, function, _ = MAPS[name]()
    z = solution.value.detach()
    cotangent = drawn(9, *z.shape)
    expected = torch.autograd.grad(function(z, **leaves), leaves.values(), cotangent)
    for adjoint in (OneStep(step="relaxation"), Neumann(terms=1), Truncated(steps=1)):
        found, _ = gradients(name, solver=TIGHT, adjoint=adjoint)
        assert furthest(found, expected) <= 1e-10
    exact, _ = gradients(name, solver=TIGHT, adjoint=EXACT)
    assert furthest(exact, expected) > 0.1


@every_map
def test_one_newton_step_and_unrolling_to_the_end_give_the_implicit_gradient(name):
    expected, _ = gradients(name, solver=TIGHT, adjoint=EXACT)
    for adjoint in (OneStep(tolerance=1e-13), Unrolled(), Truncated(steps=200)):
        found, _ = gradients(name, solver=TIGHT, adjoint=adjoint)
        assert furthest(found, expected) <= 1e-8


@pytest.mark.parametrize("solver", [Anderson(tolerance=1e-6), FixedPoint(tolerance=1e-6)])
def test_a_sample_does_not_depend_on_its_batch(solver):
    leaves, function, start = dense_layer()
    leaves["u"][0] = 50.0  # done at once, beside samples that take long
    leaves["u"][2] *= 0.01
    leaves = {key: value.requires_grad_() for key, value in leaves.items()}
    together = equilibrium(lambda z: function(z, **leaves), start, solver=solver)
    assert len(set(together.certificate.forward.iterations.tolist())) == 3
    for i in range(3):
        mine = leaves | {"u": leaves["u"][i : i + 1]}
        alone = equilibrium(lambda z, mine=mine: function(z, **mine), start[i : i + 1], solver=solver)
        torch.testing.assert_close(alone.value[0], together.value[i], rtol=0, atol=1e-12)
        assert alone.certificate.forward.iterations[0] == together.certificate.forward.iterations[i]
        one, other = (
            torch.autograd.grad(value.sum(), leaves["u"], retain_graph=True)[0][i]
            for value in (alone.value, together.value[i])
        )
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_acceleration_finds_a_fixed_point_that_repels_and_gmres_differentiates_it():
    matrix = torch.tensor([[1.5, -1.0], [1.0, 1.2]], dtype=torch.float64)  # eigenvalues outside the unit circle
    u = drawn(0, 1, 2).requires_grad_()
    solution = equilibrium(lambda z: z @ matrix.T + u, torch.zeros(1, 2, dtype=torch.float64), solver=TIGHT)
    inverse = torch.linalg.inv(torch.eye(2) - matrix)
    torch.testing.assert_close(solution.value, u.detach() @ inverse.T)
    solution.value[0, 0].backward()
    torch.testing.assert_close(u.grad[0], inverse[0])


class TestFailure:
    """Sample 0 contracts, sample 1 does not."""

    SLOPES = torch.tensor([[0.5], [-1.0]], dtype=torch.float64)
    START = torch.zeros(2, 1, dtype=torch.float64)

    def solve(self, policy, max_steps=30):
        solver = FixedPoint(max_steps=max_steps, tolerance=1e-6, on_failure=policy)
        return equilibrium(lambda z: self.SLOPES * z + 1, self.START, solver=solver)

    def test_warn(self):
        with pytest.warns(ConvergenceWarning, match=r"FixedPoint\(.* did not converge"):
            solution = self.solve("warn")
        forward = solution.certificate.forward
        assert forward.converged.tolist() == [True, False]
        assert forward.iterations[1] == 30 > forward.iterations[0]
        assert forward.residual[1] == 1

    def test_raise(self):
        with pytest.raises(ConvergenceError, match=r"samples \[1\]"):
            self.solve("raise")

    def test_nan(self):
        value = self.solve("nan").value
        assert value[1].isnan().all()
        assert value[0].item() == pytest.approx(2, abs=1e-5)

    def test_a_share_of_each_step_helps(self):
        solution = equilibrium(lambda z: self.SLOPES * z + 1, self.START, solver=FixedPoint(share=0.5))
        torch.testing.assert_close(solution.value.flatten(), torch.tensor([2.0, 0.5]).double())

    def test_a_sample_that_is_not_a_number_is_alone(self):
        u = torch.tensor([[1.0], [torch.nan]], dtype=torch.float64)
        with pytest.warns(ConvergenceWarning):
            solution = equilibrium(lambda z: 0.5 * z + u, self.START)
        assert solution.certificate.forward.converged.tolist() == [True, False]
        assert solution.value[0].item() == pytest.approx(2)

    def test_a_backward_pass_that_ends_early_says_so(self):
        limited = Implicit(max_steps=2, tolerance=1e-12, on_failure="nan")
        solution, leaves = solved("dense", adjoint=limited)
        (gradient,) = torch.autograd.grad(solution.value.sum(), leaves["u"])
        backward = solution.certificate.backward
        assert not backward.converged.any()
        assert backward.iterations.tolist() == [2, 2, 2]
        assert gradient.isnan().all()

    def test_a_singular_system_is_named(self):
        """z -> z + 0 in the second unknown: I - J is 0 there."""
        u = torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64).requires_grad_()
        slopes = torch.tensor([[0.5, 1.0], [0.5, 0.5]], dtype=torch.float64)
        solution = equilibrium(lambda z: slopes * z + u, torch.zeros(2, 2, dtype=torch.float64))
        with pytest.warns(ConvergenceWarning, match=r"backward pass of Implicit\("):
            solution.value.sum().backward()
        assert solution.certificate.backward.singular.tolist() == [True, False]
        torch.testing.assert_close(u.grad[1], torch.tensor([2.0, 2.0]).double())


def test_each_call_has_a_certificate_of_its_own():
    first, leaves = solved("dense", solver=Anderson(tolerance=1e-3))
    _, function, start = dense_layer()
    second = equilibrium(lambda z: function(z, **leaves), start, solver=TIGHT)
    assert (second.certificate.forward.iterations > first.certificate.forward.iterations).all()
    second.value.sum().backward()
    assert first.certificate.backward is None
    assert second.certificate.backward.converged.all()
    again = equilibrium(lambda z: function(z, **leaves), second.unknowns, solver=TIGHT)
    assert again.certificate.forward.iterations.tolist() == [0, 0, 0]


def test_memory_does_not_depend_on_the_number_of_iterations():
    leaves, function, start = convolution()
    leaves = {key: value.requires_grad_() for key, value in leaves.items()}

    def kept(steps, adjoint):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            solver = FixedPoint(tolerance=0.0, max_steps=steps)
            _, size = saved_bytes(
                lambda: equilibrium(lambda z: function(z, **leaves), start, solver=solver, adjoint=adjoint)
            )
        return size

    for adjoint in (Implicit(), Neumann(terms=4), OneStep(step="relaxation")):
        assert kept(5, adjoint) == kept(50, adjoint) > 0
    assert kept(50, Unrolled()) > 5 * kept(5, Unrolled())
    assert kept(5, Unrolled()) > kept(50, Implicit())


def test_all_of_z_may_be_one_problem():
    matrix = (0.5 * torch.eye(4, dtype=torch.float64).roll(1, 0)).requires_grad_()
    u = drawn(0, 4, 2)
    solution = equilibrium(lambda z: matrix @ z + u, torch.zeros(4, 2, dtype=torch.float64), batched=False)
    solution.value.sum().backward()
    torch.testing.assert_close(solution.value.detach(), torch.linalg.solve(torch.eye(4) - matrix.detach(), u))
    assert solution.certificate.forward.converged.shape == solution.certificate.backward.converged.shape == ()
    v = torch.linalg.solve(torch.eye(4) - matrix.detach().T, torch.ones(4, 2, dtype=torch.float64))
    torch.testing.assert_close(matrix.grad, v @ solution.value.detach().T)


def test_without_gradients_nothing_is_attached():
    leaves, function, start = dense_layer()
    for adjoint in (Implicit(), Unrolled(), Truncated()):
        assert not equilibrium(lambda z: function(z, **leaves), start, adjoint=adjoint).value.requires_grad
    leaves["W"].requires_grad_()
    with torch.no_grad():
        assert not equilibrium(lambda z: function(z, **leaves), start).value.requires_grad


def test_a_second_derivative_is_refused():
    solution, leaves = solved("dense")
    with pytest.raises(RuntimeError, match="first derivatives only, found create_graph=True"):
        torch.autograd.grad(solution.value.sum(), leaves["u"], create_graph=True)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"solver": Newton()}, TypeError, r"solver must be FixedPoint\(\) or Anderson\(\), found Newton"),
        ({"adjoint": "implicit"}, TypeError, "adjoint must be one of .* found str"),
        ({"adjoint": Truncated(through=Newton())}, TypeError, "Truncated goes through FixedPoint"),
        ({"start": torch.zeros(2, 3, dtype=torch.int64)}, TypeError, "floating-point numbers, found torch.int64"),
        ({"start": torch.zeros(())}, ValueError, "batched=False"),
        ({"start": torch.zeros(2, 0)}, ValueError, r"found shape \(2, 0\)"),
        ({"function": lambda z: z[:1]}, ValueError, r"must return shape \(2, 3\) .* found \(1, 3\)"),
        ({"function": lambda z: z.double()}, ValueError, "found .* torch.float64"),
    ],
)
def test_what_does_not_fit_is_named(options, error, message):
    arguments = {"function": lambda z: z / 2, "start": torch.zeros(2, 3)} | options
    with pytest.raises(error, match=message):
        equilibrium(**arguments)


@pytest.mark.parametrize(
    ("make", "name"), [(lambda: FixedPoint(share=0.0), "share"), (lambda: Anderson(memory=0), "memory")]
)
def test_wrong_settings_are_named(make, name):
    with pytest.raises(ValueError, match=f"{name} must be"):
        make()


def test_an_empty_batch_has_an_empty_certificate():
    solution = equilibrium(lambda z: z / 2, torch.zeros(0, 3))
    assert solution.value.shape == (0, 3)
    assert solution.certificate.forward.converged.shape == (0,)


@pytest.mark.parametrize("unknowns", [5, 3 * RESTART])
def test_minimal_residuals_solve_systems_without_symmetry(unknowns):
    matrices = torch.eye(unknowns, dtype=torch.float64) - 0.9 * drawn(0, 3, unknowns, unknowns) / unknowns**0.5
    matrices[2] = torch.eye(unknowns)
    right = drawn(1, 3, unknowns)
    right[1] *= 1e6
    found = minimal_residuals(lambda v: torch.einsum("nij,nj->ni", matrices, v), right, 1e-10, 5000)
    expected = torch.linalg.solve(matrices, right)
    assert (found.residual <= 1e-10).all()
    assert found.steps[2] == 1
    torch.testing.assert_close(found.value, expected, rtol=1e-6, atol=1e-6)


def test_values_and_gradients_are_those_of_torchdeq():
    torchdeq = pytest.importorskip("torchdeq", reason="torchdeq is not installed")
    leaves, function, start = dense_layer()
    leaves = {key: value.requires_grad_() for key, value in leaves.items()}
    limits = {"f_tol": 1e-12, "b_tol": 1e-12, "f_max_iter": 200, "b_max_iter": 200}
    broyden = torchdeq.get_deq(f_solver="broyden", b_solver="broyden", ift=True, **limits)
    (value,), _ = broyden(lambda z: function(z, **leaves), start)
    ours = equilibrium(lambda z: function(z, **leaves), start, solver=TIGHT, adjoint=EXACT).value
    torch.testing.assert_close(ours, value[-1] if value.ndim > start.ndim else value, rtol=0, atol=1e-8)
    cotangent = drawn(9, *start.shape)
    theirs = torch.autograd.grad(value, leaves.values(), cotangent)
    found = torch.autograd.grad(ours, leaves.values(), cotangent)
    assert furthest(found, theirs) <= 1e-6
