"""Adjoints: how near each comes to the exact gradient, what it stores, what it certifies, how it fails."""

import pytest
import torch
from coupled_instances import drawn, exact, image_arguments, problems

from morphobench.studies.torch_measurement import saved_bytes
from varmorph.torch import (
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
    regularised_dilation,
    regularised_graph_dilation,
)

TIGHT = Newton(tolerance=1e-13)
INSTANCES = ["quadratic", "huber edges, ridge", "huber", "joint_opening", "regularised_graph_dilation, all huber"]
every_instance = pytest.mark.parametrize("name", INSTANCES)


def differentiated(name, **options):
    """Give the greatest error of any parameter's gradient, relative to that gradient, and the certificate."""
    problem = problems()[name]
    solution, leaves = problem.call(**options)
    gradients = torch.autograd.grad(solution.value, leaves.values(), problem.cotangent())
    errors = [
        ((found - exact(name)[1][key]).abs().max() / exact(name)[1][key].abs().max()).item()
        for key, found in zip(leaves, gradients, strict=True)
    ]
    return max(errors), solution.certificate


@every_instance
def test_the_implicit_gradient_is_as_exact_as_its_tolerance(name):
    errors = []
    for tolerance in (1e-2, 1e-6, 1e-12):
        error, certificate = differentiated(name, solver=TIGHT, adjoint=Implicit(tolerance=tolerance))
        assert certificate.backward.converged.all()
        assert (certificate.backward.residual <= tolerance).all()
        errors.append(error)
    assert errors[1] <= 1e-5
    assert errors[2] <= 1e-10
    assert errors == sorted(errors, reverse=True)


@every_instance
def test_one_newton_step_is_the_implicit_gradient(name):
    problem = problems()[name]
    found = []
    for adjoint in (Implicit(tolerance=1e-13, max_steps=300, on_failure="warn"), OneStep(tolerance=1e-13)):
        solution, leaves = problem.call(solver=TIGHT, adjoint=adjoint)
        found.append(torch.autograd.grad(solution.value, leaves.values(), problem.cotangent()))
    for one, other in zip(*found, strict=True):
        assert ((one - other).abs().max() / one.abs().max()).item() <= 1e-12


@every_instance
def test_a_neumann_series_approaches_the_gradient_and_says_how_near(name):
    errors, residuals = [], []
    for terms in (1, 30, 300, 3000):
        error, certificate = differentiated(name, solver=TIGHT, adjoint=Neumann(terms=terms))
        errors.append(error)
        residuals.append(certificate.backward.residual.max().item())
    assert errors[0] > 0.1
    assert errors[-1] < 1e-3 * errors[0]
    assert errors == sorted(errors, reverse=True)
    assert residuals == sorted(residuals, reverse=True)


def test_the_jacobian_free_gradient_is_the_first_term_and_far_off():
    first, certificate = differentiated("quadratic", solver=TIGHT, adjoint=Neumann(terms=1))
    free, _ = differentiated("quadratic", solver=TIGHT, adjoint=OneStep(step="relaxation"))
    assert free == first > 0.1
    assert not certificate.backward.converged.any()


UNROLLED = {
    "Newton": Newton(tolerance=1e-12),
    "FixedPoint": FixedPoint(tolerance=1e-12, max_steps=5000),
    "Anderson": Anderson(tolerance=1e-12),
    "AcceleratedGradient": AcceleratedGradient(tolerance=1e-12),
    "PrimalDual": PrimalDual(tolerance=1e-12),
    "ADMM": ADMM(tolerance=1e-12),
}


def small_problem():
    """One sample on which unrolled solvers take few steps, with its implicit gradient."""
    arguments = image_arguments(shape=(1, 2, 4, 4), window=(3, 3))
    arguments |= {"coupling": torch.tensor([0.3, 0.6], dtype=torch.float64)}
    cotangent = drawn(8, 1, 2, 4, 4)

    def gradients(**options):
        leaves = {key: value.clone().requires_grad_() for key, value in arguments.items()}
        solution = regularised_dilation(**leaves, **options)
        return torch.autograd.grad(solution.value, leaves.values(), cotangent), solution.certificate

    return gradients


def furthest(found, expected):
    return max(((one - two).abs().max() / two.abs().max()).item() for one, two in zip(found, expected, strict=True))


@pytest.mark.parametrize("solver", UNROLLED)
def test_a_solver_unrolled_to_convergence_has_the_implicit_gradient(solver):
    gradients = small_problem()
    expected, _ = gradients(solver=TIGHT, adjoint=Implicit(tolerance=1e-13))
    found, certificate = gradients(solver=UNROLLED[solver], adjoint=Unrolled())
    assert furthest(found, expected) <= 1e-8
    assert certificate.backward is None


def test_an_unrolled_gradient_lags_behind_the_implicit_one():
    gradients = small_problem()
    expected, _ = gradients(solver=TIGHT, adjoint=Implicit(tolerance=1e-13))
    early = FixedPoint(tolerance=1e-4)
    lagging, _ = gradients(solver=early, adjoint=Unrolled())
    implicit, _ = gradients(solver=early)
    assert furthest(implicit, expected) < 0.2 * furthest(lagging, expected)


@pytest.mark.parametrize("through", [FixedPoint(), AcceleratedGradient()])
def test_truncated_iterations_approach_the_gradient(through):
    gradients = small_problem()
    expected, _ = gradients(solver=TIGHT, adjoint=Implicit(tolerance=1e-13))
    errors = [
        furthest(gradients(solver=TIGHT, adjoint=Truncated(steps=steps, through=through))[0], expected)
        for steps in (1, 10, 200)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.05
    assert errors[-1] < 1e-3


def test_truncation_through_relaxation_begins_as_the_jacobian_free_gradient():
    gradients = small_problem()
    truncated, _ = gradients(solver=TIGHT, adjoint=Truncated(steps=1))
    free, _ = gradients(solver=TIGHT, adjoint=OneStep(step="relaxation"))
    halved = furthest(truncated, [g / 2 for g in free])  # a sweep that lowers the energy no more is halved
    assert min(furthest(truncated, free), halved) < 1e-9


def test_memory_does_not_depend_on_the_number_of_iterations():
    arguments = {key: value.requires_grad_() for key, value in image_arguments(shape=(1, 2, 12, 12)).items()}

    def kept(tolerance, adjoint):
        solver = FixedPoint(tolerance=tolerance)
        solution, size = saved_bytes(
            lambda: regularised_dilation(**arguments, coupling=2.0, solver=solver, adjoint=adjoint)
        )
        return size, solution.certificate.forward.iterations.max().item()

    (few, early), (many, late) = (kept(tolerance, Implicit()) for tolerance in (1e-2, 1e-6))
    assert late > 3 * early
    assert few == many
    (few, _), (many, _) = (kept(tolerance, Unrolled()) for tolerance in (1e-2, 1e-6))
    assert many > 2.5 * few


class TestSingular:
    """Two pixels held together so strongly that both data residuals are straight: H does not reach a known value."""

    @pytest.fixture
    def x(self):
        """Return such an image, beside an ordinary one."""
        images = torch.tensor([[[[0.0, 1.0]]], [[[0.0, 0.05]]]], dtype=torch.float64)
        return images.requires_grad_()

    ARGUMENTS = (torch.zeros(1, 1, dtype=torch.float64), 0.0, 10.0)
    OPTIONS = {"penalty": "huber", "smoothing": 0.1}  # noqa: RUF012

    def test_the_certificate_says_so(self, x):
        solution = regularised_dilation(x, *self.ARGUMENTS, **self.OPTIONS)
        with pytest.warns(ConvergenceWarning, match=r"backward pass of Implicit\("):
            solution.value.sum().backward()
        assert solution.certificate.backward.singular.tolist() == [True, False]
        assert solution.certificate.forward.unique.tolist() == [False, True]

    def test_policies(self, x):
        solution = regularised_dilation(x, *self.ARGUMENTS, **self.OPTIONS, adjoint=Implicit(on_failure="nan"))
        (gradient,) = torch.autograd.grad(solution.value.sum(), x)
        assert gradient[0].isnan().all()
        torch.testing.assert_close(gradient[1], torch.ones_like(gradient[1]))
        solution = regularised_dilation(x, *self.ARGUMENTS, **self.OPTIONS, adjoint=Implicit(on_failure="raise"))
        with pytest.raises(ConvergenceError, match=r"samples \[0\]"):
            solution.value.sum().backward()

    def test_a_ridge_repairs_it(self, x):
        solution = regularised_dilation(x, *self.ARGUMENTS, **self.OPTIONS, ridge=0.01)
        solution.value.sum().backward()
        assert not solution.certificate.backward.singular.any()


def test_an_adjoint_that_ends_early_says_so_for_its_sample():
    x = drawn(0, 2, 1, 8, 8)
    x[0] = 0.5
    x.requires_grad_()
    solution = regularised_dilation(x, torch.zeros(3, 3).double(), 2.0, 5.0, adjoint=Implicit(max_steps=2))
    cotangent = torch.ones_like(x)
    cotangent[0] = 0  # nothing to solve
    with pytest.warns(ConvergenceWarning, match="max_steps=2"):
        solution.value.backward(cotangent)
    assert solution.certificate.backward.converged.tolist() == [True, False]
    assert solution.certificate.backward.iterations.tolist() == [0, 2]


def test_certificates_of_graphs_have_the_shape_of_their_batch():
    edges = torch.tensor([[0, 1, 2], [1, 2, 0]])
    for shape in ((), (4,)):
        x = drawn(0, *shape, 3, 2).requires_grad_()
        solution = regularised_graph_dilation(x, edges, None, 1.0, 0.5)
        assert solution.certificate.backward is None
        solution.value.sum().backward()
        assert solution.certificate.forward.converged.shape == shape
        assert solution.certificate.backward.converged.shape == shape
        assert solution.certificate.backward.converged.all()


def test_without_gradients_nothing_is_attached():
    x = drawn(0, 1, 1, 4, 4)
    for adjoint in (Implicit(), Unrolled(), Truncated()):
        assert not regularised_dilation(x, torch.zeros(3, 3).double(), 1.0, 1.0, adjoint=adjoint).value.requires_grad
    x.requires_grad_()
    with torch.no_grad():
        for adjoint in (Implicit(), Unrolled(), Truncated()):
            value = regularised_dilation(x, torch.zeros(3, 3).double(), 1.0, 1.0, adjoint=adjoint).value
            assert not value.requires_grad


@pytest.mark.parametrize("level", [-2.0, 1.0])
def test_at_kinks_each_derivative_lies_between_the_one_sided_ones(level):
    """With coupling 0 every pixel is a scalar problem, for which the bracket holds; ties by plateaus."""
    x = torch.zeros(1, 1, 1, 5, dtype=torch.float64)
    x[..., :2] = 1.0
    window = torch.zeros(1, 3, dtype=torch.float64)

    def value(x):
        return regularised_dilation(x, window, level, 0.0, solver=TIGHT).value

    leaf = x.clone().requires_grad_()
    y = value(leaf)
    for i in range(5):
        (row,) = torch.autograd.grad(y[..., i], leaf, retain_graph=True)
        for k in range(5):
            step = torch.zeros_like(x)
            step[..., k] = 1e-6
            slopes = [((value(x + s * step) - y)[..., i] / (s * 1e-6)).item() for s in (1, -1)]
            assert min(slopes) - 1e-6 <= row[..., k].item() <= max(slopes) + 1e-6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Implicit(tolerance=-1.0), "tolerance must be a number >= 0 or None, found -1.0"),
        (lambda: Implicit(on_failure="silent"), "on_failure must be one of 'warn', 'raise', 'nan', found 'silent'"),
        (lambda: Neumann(terms=0), "terms must be a positive integer, found 0"),
        (lambda: OneStep(step="picard"), "step must be 'newton' or 'relaxation', found 'picard'"),
        (lambda: Truncated(steps=0), "steps must be a positive integer, found 0"),
    ],
)
def test_wrong_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_truncation_needs_a_solver():
    with pytest.raises(TypeError, match=r"through must be a solver such as FixedPoint.*found str"):
        Truncated(through="newton")
