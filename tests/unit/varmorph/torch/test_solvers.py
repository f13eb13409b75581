"""Solvers: each reaches the specification's minimiser, stops by sample, certifies, and fails aloud."""

import warnings
from dataclasses import replace

import pytest
import torch
from coupled_instances import drawn, exact, image_arguments, problems
from skimage.data import camera

from varmorph.torch import (
    ADMM,
    AcceleratedGradient,
    Anderson,
    ConvergenceError,
    ConvergenceWarning,
    DataEdges,
    Edges,
    Energy,
    FixedPoint,
    GridEdges,
    Implicit,
    Newton,
    Penalty,
    PrimalDual,
    joint_opening,
    minimise,
    regularised_dilation,
)

SOLVERS = {
    "Newton": Newton(tolerance=1e-11),
    "FixedPoint": FixedPoint(tolerance=1e-8, max_steps=20000),
    "Anderson": Anderson(tolerance=1e-10),
    "AcceleratedGradient": AcceleratedGradient(tolerance=1e-10),
    "PrimalDual": PrimalDual(tolerance=1e-10, max_steps=20000),
    "ADMM": ADMM(tolerance=1e-10, max_steps=20000),
}
INSTANCES = [
    "quadratic",
    "huber edges, ridge",
    "huber",
    "huber, huber edges, ridge",
    "joint_opening",
    "regularised_graph_dilation, all huber",
    "joint_graph_closing",
]
every_solver = pytest.mark.parametrize("solver", SOLVERS)


@every_solver
@pytest.mark.parametrize("name", INSTANCES)
def test_every_solver_reaches_the_minimiser(solver, name):
    with torch.no_grad():
        solution, _ = problems()[name].call(solver=SOLVERS[solver])
    expected, _ = exact(name)
    certificate = solution.certificate.forward
    assert certificate.converged.all()
    assert certificate.unique.all()
    assert (certificate.residual <= SOLVERS[solver].tolerance).all()
    # The residual measures local steps; what is held together may be further from the minimiser as a whole.
    assert ((solution.value - expected).abs().max() / expected.abs().max()).item() <= 1e4 * SOLVERS[solver].tolerance


def test_newton_needs_the_fewest_steps():
    name = "huber edges, ridge"
    steps = {}
    for solver, made in SOLVERS.items():
        with torch.no_grad():
            solution, _ = problems()[name].call(solver=replace(made, tolerance=1e-8))
        steps[solver] = solution.certificate.forward.iterations.max().item()
    assert steps["Newton"] == min(steps.values())
    assert steps["Newton"] * 5 < steps["AcceleratedGradient"]


def photograph(size):
    """Give the test photograph in [0, 1]."""
    step = 512 // size
    return torch.as_tensor(camera()[::step, ::step] / 255.0)[None, None]


def noise(size):
    return drawn(1, 1, 1, size, size)


FLAT = torch.zeros(3, 3, dtype=torch.float64)
EIGHT_DIGITS = Newton(tolerance=1e-8)


@pytest.mark.parametrize("image", [photograph, noise])
@pytest.mark.parametrize("level", [2.0, 3.0])
@pytest.mark.parametrize("size", [32, 64])
def test_newton_takes_few_steps(image, level, size):
    x = image(size)
    spread = (x.max() - x.min()).item()

    def steps(coupling, **options):
        solution = regularised_dilation(x, FLAT, level, coupling, solver=EIGHT_DIGITS, **options)
        assert solution.certificate.forward.converged.all()
        return solution.certificate.forward.iterations.item()

    assert steps(1.0, edge_penalty="huber", edge_smoothing=0.05 * spread) <= 8
    for smoothing in (0.02, 0.2):
        assert steps(0.3, penalty="huber", smoothing=smoothing * spread, ridge=0.1) <= 30
    for coupling in (0.1, 1.0, 10.0):
        assert steps(coupling) <= 13


@pytest.mark.parametrize("coupling", [0.1, 1.0, 10.0])
def test_linear_steps_do_not_depend_on_the_size_of_the_image(coupling):
    counts = []
    for size in (32, 64, 128):
        solution = regularised_dilation(noise(size), FLAT, 2.0, coupling, solver=EIGHT_DIGITS)
        counts.append(solution.certificate.forward.linear_steps.item())
    assert max(counts) <= 1.3 * min(counts)


@every_solver
def test_a_sample_does_not_depend_on_the_others(solver):
    arguments = image_arguments(shape=(3, 2, 5, 6), window=(3, 3))
    x = arguments.pop("x")
    x[1] = 0.25  # done at once
    together = regularised_dilation(x, **arguments, coupling=0.5, solver=SOLVERS[solver])
    forward = together.certificate.forward
    for i in range(3):
        alone = regularised_dilation(x[i : i + 1], **arguments, coupling=0.5, solver=SOLVERS[solver])
        torch.testing.assert_close(alone.value[0], together.value[i], rtol=1e-7, atol=1e-7)
        # Sums of another length round otherwise, which may shift the last step.
        assert abs(alone.certificate.forward.iterations.item() - forward.iterations[i].item()) <= 1


@every_solver
def test_a_constant_image_is_left_alone(solver):
    x = torch.full((1, 1, 4, 5), 0.3, dtype=torch.float64)
    solution = regularised_dilation(x, FLAT, 2.0, 1.0, solver=SOLVERS[solver])
    torch.testing.assert_close(solution.value, x)
    assert solution.certificate.forward.iterations.item() == 0
    assert solution.certificate.forward.residual.item() == 0


@every_solver
def test_a_wrong_start_of_a_constant_image_is_corrected(solver):
    for number in (0.0, 1.0):
        x = torch.full((1, 1, 3, 3), number, dtype=torch.float64)
        made = replace(SOLVERS[solver], max_steps=20000)
        value = regularised_dilation(x, FLAT, 1.0, 1.0, start=x + drawn(0, 1, 1, 3, 3), solver=made).value
        torch.testing.assert_close(value, x, rtol=0, atol=1e-12)


def test_a_good_start_saves_steps():
    x = photograph(64)
    first = regularised_dilation(x, FLAT, 2.0, 5.0)
    again = regularised_dilation(x, FLAT, 2.0, 5.0, start=first.unknowns)
    assert again.certificate.forward.iterations.item() == 0
    near = regularised_dilation(x + 1e-6 * noise(64), FLAT, 2.0, 5.0, start=first.unknowns)
    assert near.certificate.forward.linear_steps < first.certificate.forward.linear_steps


class TestFailure:
    """A solve that ends too early says so, in the way that was asked for."""

    ARGUMENTS = (FLAT, 2.0, 1.0)

    @pytest.fixture
    def x(self):
        """Return two samples: the first is constant and done at once."""
        x = drawn(0, 2, 1, 6, 6)
        x[0] = 0.5
        return x

    @pytest.mark.parametrize("kind", [Newton, FixedPoint, Anderson, AcceleratedGradient, PrimalDual, ADMM])
    def test_a_warning_and_a_certificate(self, x, kind):
        with pytest.warns(
            ConvergenceWarning, match=rf"{kind.__name__}\(.*max_steps=1.* did not converge for some samples"
        ):
            solution = regularised_dilation(x, *self.ARGUMENTS, solver=kind(max_steps=1))
        assert solution.certificate.forward.converged.tolist() == [True, False]
        assert solution.certificate.forward.residual[1] > 1e-9
        assert solution.value.isfinite().all()

    def test_python_shows_the_warning_once(self, x):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            for i in range(3):
                regularised_dilation(x * (i + 1), *self.ARGUMENTS, solver=Newton(max_steps=1))
        assert len(caught) == 1

    def test_nan_where_a_sample_failed(self, x):
        solution = regularised_dilation(x, *self.ARGUMENTS, solver=Newton(max_steps=1, on_failure="nan"))
        assert solution.value[0].isfinite().all()
        assert solution.value[1].isnan().all()

    def test_an_error_names_the_samples(self, x):
        with pytest.raises(ConvergenceError, match=r"did not converge for samples \[1\], residuals \[0\.\d+\]; raise"):
            regularised_dilation(x, *self.ARGUMENTS, solver=Newton(max_steps=1, on_failure="raise"))

    @pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
    def test_a_sample_that_is_not_finite_is_nan_and_alone(self, x, number):
        x = torch.cat((x, x[1:]))
        x[1, 0, 2, 2] = number
        for kind in (Newton, FixedPoint, Anderson, AcceleratedGradient, PrimalDual, ADMM):
            with pytest.warns(ConvergenceWarning):
                solution = regularised_dilation(x, *self.ARGUMENTS, solver=kind())
            assert solution.certificate.forward.converged.tolist() == [True, False, True]
            assert solution.value[1].isnan().all()
            expected = regularised_dilation(x[2:], *self.ARGUMENTS).value
            torch.testing.assert_close(solution.value[2:], expected, rtol=1e-6, atol=1e-7)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"tolerance": -1.0}, "tolerance must be a number >= 0 or None, found -1.0"),
            ({"tolerance": float("nan")}, "tolerance must be a number >= 0 or None, found nan"),
            ({"max_steps": 1.5}, "max_steps must be an integer >= 0, found 1.5"),
            ({"on_failure": "ignore"}, "on_failure must be one of 'warn', 'raise', 'nan', found 'ignore'"),
        ],
    )
    def test_wrong_settings_are_named(self, options, message):
        with pytest.raises(ValueError, match=message):
            Newton(**options)

    def test_what_is_no_solver_is_refused(self, x):
        with pytest.raises(TypeError, match=r"solver must be one of .* found str"):
            regularised_dilation(x, *self.ARGUMENTS, solver="newton")
        with pytest.raises(TypeError, match=r"adjoint must be one of .* found Newton"):
            regularised_dilation(x, *self.ARGUMENTS, adjoint=Newton())
        with pytest.raises(ValueError, match=r"start must have shape \(2, 1, 6, 6\), found \(6, 6\)"):
            regularised_dilation(x, *self.ARGUMENTS, start=torch.zeros(6, 6))


class TestQuantile:
    """The penalty with a corner: no gradient to measure, so the duality gap certifies."""

    ARGUMENTS = (FLAT, 1.0, 0.5)

    @pytest.mark.parametrize("ridge", [0.0, 0.2])
    @pytest.mark.parametrize("kind", [PrimalDual, ADMM])
    def test_it_is_the_limit_of_huber(self, kind, ridge):
        x = drawn(0, 1, 1, 5, 5)
        solver = kind(tolerance=1e-9, max_steps=50000)
        found = regularised_dilation(x, *self.ARGUMENTS, penalty="quantile", ridge=ridge, solver=solver)
        close = regularised_dilation(x, *self.ARGUMENTS, penalty="huber", smoothing=1e-6, ridge=ridge)
        torch.testing.assert_close(found.value, close.value, rtol=0, atol=1e-4)
        assert found.certificate.forward.converged.all()
        assert found.certificate.forward.unique.item() is (ridge > 0)

    @pytest.mark.parametrize("kind", [Newton, FixedPoint, Anderson, AcceleratedGradient])
    def test_solvers_that_need_a_derivative_refuse_it(self, kind):
        with pytest.raises(ValueError, match=rf"{kind.__name__} needs penalties with a derivative, found 'quantile'"):
            regularised_dilation(drawn(0, 1, 1, 4, 4), *self.ARGUMENTS, penalty="quantile", solver=kind())

    def test_it_has_no_implicit_gradient(self):
        x = drawn(0, 1, 1, 4, 4).requires_grad_()
        solver = PrimalDual(tolerance=1e-6)
        solution = regularised_dilation(x, *self.ARGUMENTS, penalty="quantile", ridge=0.1, solver=solver)
        with pytest.raises(ValueError, match="no implicit gradient: use 'huber' and a ridge"):
            solution.value.sum().backward()

    def test_joint_operators_refuse_it(self):
        with pytest.raises(ValueError, match="penalty must be 'expectile' or 'huber' for a joint operator"):
            joint_opening(drawn(0, 1, 1, 4, 4), FLAT, (-2.0, 2.0), 0.1, penalty="quantile")


def test_the_certificate_tells_whether_the_minimiser_is_unique():
    x = torch.tensor([[[[0.0, 1.0]]]], dtype=torch.float64)
    single = torch.zeros(1, 1, dtype=torch.float64)
    flat = {"penalty": "huber", "smoothing": 0.1}
    # Two pixels held together so strongly that both residuals are straight: E is constant between them.
    loose = regularised_dilation(x, single, 0.0, 10.0, **flat)
    assert loose.certificate.forward.converged.item()
    assert not loose.certificate.forward.unique.item()
    assert regularised_dilation(x, single, 0.0, 10.0, ridge=0.01, **flat).certificate.forward.unique.item()
    assert regularised_dilation(x, single, 0.0, 10.0).certificate.forward.unique.item()


def test_the_certificate_measures_the_distance_to_a_kink():
    single = torch.zeros(1, 1, dtype=torch.float64)
    for gap in (0.5, 1e-3):
        x = torch.tensor([[[[0.0, gap, 2.0]]]], dtype=torch.float64)
        forward = regularised_dilation(x, single, 1.0, 0.0).certificate.forward
        assert forward.active.margin.item() == 0  # every pixel equals its output
    x = drawn(0, 1, 1, 8, 8)
    forward = regularised_dilation(x, FLAT, 1.0, 0.5, solver=Newton(tolerance=1e-12)).certificate.forward
    assert 0 < forward.active.margin.item() < 0.1
    assert 0 < forward.active.identified.item() <= forward.iterations.item()


def test_an_unknown_that_nothing_pulls_is_nan():
    known = torch.zeros(1, 1, 1, 1, 4, dtype=torch.float64)
    weight = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    between = torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    energy = Energy(
        [
            Edges(DataEdges(), known + 2.0, weight, Penalty("square")),
            Edges(GridEdges(-1), torch.zeros((), dtype=torch.float64), between, Penalty("square")),
        ],
        torch.zeros(1, 1, 1, 4, dtype=torch.float64),
    )
    value = minimise(energy).value.flatten().tolist()
    assert value[:2] == [2.0, 2.0]
    assert all(number != number for number in value[2:])


def test_an_empty_batch_has_an_empty_certificate():
    x = torch.zeros(0, 2, 4, 5, requires_grad=True)
    solution = regularised_dilation(x, torch.zeros(3, 3), 1.0, 0.5)
    assert solution.value.shape == (0, 2, 4, 5)
    assert solution.certificate.forward.converged.shape == (0,)
    assert torch.autograd.grad(solution.value.sum(), x)[0].shape == x.shape
    opened = joint_opening(x, torch.zeros(3, 3), (-1.0, 1.0), 0.5, adjoint=Implicit())
    assert opened.value.shape == (0, 2, 4, 5)


@every_solver
def test_single_precision_reaches_its_tolerance(solver):
    arguments = {name: value.float() for name, value in image_arguments(window=(3, 3)).items()}
    kind = type(SOLVERS[solver])
    solution = regularised_dilation(**arguments, coupling=1.0, edge_penalty="huber", edge_smoothing=0.3, solver=kind())
    assert solution.certificate.forward.converged.all()
    # A large constant on top costs digits, and must not cost convergence.
    arguments["x"] = arguments["x"] + 100
    shifted = regularised_dilation(
        **arguments, coupling=1.0, edge_penalty="huber", edge_smoothing=0.3, solver=kind(tolerance=1e-5)
    )
    assert shifted.certificate.forward.converged.all()
    assert (shifted.value - solution.value - 100).abs().max() < 2e-2
