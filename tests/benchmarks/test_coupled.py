"""Operators that are found by iteration, beside each other and their peers: see `test_operators`.

Regularised dilation and joint opening have offsets 0, weights 1, window 3 x 3 and logit level 3, on images of normal noise;
solvers stop at the same residual, and every sample must have converged. All are computed in float32 but the small problem
that is compared with cvxpylayers. Calls that take seconds are timed once.
"""

import numpy as np
import pytest
import torch
from by_position import by_position
from scipy import sparse

import varmorph.torch
from varmorph.torch import ADMM, AcceleratedGradient, Anderson, FixedPoint, Newton, PrimalDual, backend

LEVEL, COUPLING, ETA, TOLERANCE = 3.0, 1.0, 0.1, 1e-6
SOLVERS = (Newton, AcceleratedGradient, Anderson, FixedPoint, PrimalDual, ADMM)

# What computes an operator, and the backend that is chosen for it.
CODES = {"kernels": "auto", "tensor code": "tensor"}

every_code = pytest.mark.parametrize("code", CODES)
every_phase = pytest.mark.parametrize("phase", ["forward", "forward and backward"])


def noise(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.fixture
def images(timed, seconds):
    """Return a batch of 16 that takes minutes in all, or a smaller one where less time is given."""
    if not timed:
        return noise(2, 1, 8, 8)
    return noise(16 if seconds >= 1 else 4 if seconds >= 0.1 else 1, 1, 128, 128)


@pytest.fixture
def compare_solutions(compare):
    """Compare as `compare` does, and require that every solve has converged."""

    def compare_solutions(operator, function, leaves, *, solver, phase, once, code="kernels"):
        certificates = []

        def value(*leaves):
            with backend(CODES[code]):
                solution = function(*leaves, solver=solver)
            certificates.append(solution.certificate)
            return solution.value

        name = f"varmorph, {type(solver).__name__}" + (f", {code}" if code != "kernels" else "")
        compare(operator, value, leaves, implementation=name, window=3, phase=phase, once=once)
        assert all(certificate.forward.converged.all() for certificate in certificates)
        if phase != "forward":
            assert certificates[-1].backward.converged.all()

    return compare_solutions


def parameters(*levels):
    """Offsets, weights, and levels with what stands behind them in the arguments."""
    return [torch.zeros(1, 3, 3), torch.ones(1, 3, 3), *map(torch.tensor, levels)]


def with_gradients(leaves):
    return [leaf.requires_grad_() for leaf in leaves]


@pytest.mark.parametrize("solver", SOLVERS)
def test_regularised_dilation_by_every_solver(compare_solutions, images, solver):
    leaves = [images, *parameters(LEVEL, COUPLING)]
    function = by_position(varmorph.torch.regularised_dilation)
    solver = solver(tolerance=TOLERANCE)
    once = not isinstance(solver, Newton)
    compare_solutions("regularised_dilation", function, leaves, solver=solver, phase="forward", once=once)


@every_code
@pytest.mark.parametrize("phase", ["forward and backward", "backward"])
def test_gradient_of_regularised_dilation(compare_solutions, images, phase, code):
    leaves = with_gradients([images, *parameters(LEVEL, COUPLING)])
    function = by_position(varmorph.torch.regularised_dilation)
    solver = Newton(tolerance=TOLERANCE)
    compare_solutions("regularised_dilation", function, leaves, solver=solver, phase=phase, once=False, code=code)


@every_code
@every_phase
def test_joint_opening(compare_solutions, images, phase, code):
    leaves = with_gradients([images, *parameters((-LEVEL, LEVEL), ETA)])
    solver = Newton(tolerance=TOLERANCE)
    function = by_position(varmorph.torch.joint_opening)
    compare_solutions("joint_opening", function, leaves, solver=solver, phase=phase, once=True, code=code)


@pytest.fixture(params=["citations", "grid"])
def graph(request, timed):
    """Features of nodes, and edges: random ones, as many as in Cora, or those of a grid of pixels."""
    if request.param == "citations":
        nodes, count, features = (2708, 10556, 64) if timed else (12, 30, 2)
        edges = torch.randint(0, nodes, (2, count), generator=torch.Generator().manual_seed(0))
        return noise(nodes, features), edges
    side = 256 if timed else 4
    pixel = torch.arange(side * side).view(side, side)
    pairs = [(pixel[:, :-1], pixel[:, 1:]), (pixel[:-1], pixel[1:])]
    edges = torch.cat([torch.stack((one.flatten(), other.flatten())) for one, other in pairs], 1)
    return noise(side * side, 1), torch.cat((edges, edges.flip(0)), 1)


@every_code
@every_phase
def test_graph_dilation(compare, graph, phase, code):
    x, edges = graph
    leaves = with_gradients([x, torch.zeros(edges.shape[1])])

    def dilation(x, bias):
        with backend(CODES[code]):
            return varmorph.torch.graph_dilation(x, edges, bias)

    compare("graph_dilation", dilation, leaves, implementation=f"varmorph, {code}", window=1, phase=phase)


@every_code
@pytest.mark.parametrize("operator", ["regularised_graph_dilation", "joint_graph_opening"])
def test_coupled_graph_operators(compare_solutions, graph, operator, code):
    x, edges = graph
    flat, ones = torch.zeros(edges.shape[1]), torch.ones(edges.shape[1])
    joint = operator == "joint_graph_opening"
    numbers = ((-LEVEL, LEVEL), ETA) if joint else (LEVEL, COUPLING)
    leaves = with_gradients([x, flat, ones, *map(torch.tensor, numbers)])

    def function(x, bias, weight, level, strength, solver):
        further = {"eta": strength} if joint else {"coupling": strength}
        return getattr(varmorph.torch, operator)(x, edges, bias, level, weight=weight, **further, solver=solver)

    solver, phase = Newton(tolerance=TOLERANCE), "forward and backward"
    compare_solutions(operator, function, leaves, solver=solver, phase=phase, once=True, code=code)


def small_dilation(x):
    flat = torch.zeros(3, 3, dtype=x.dtype)
    return varmorph.torch.regularised_dilation(x, flat, LEVEL, COUPLING).value


def convex_layer(cvxpy, cvxpylayers, side):
    """Regularised dilation as a convex program of a modelling language: pixels (side^2,) in, pixels out."""
    place = np.arange(side * side).reshape(side, side)
    padded = np.pad(place, 1, constant_values=-1)
    seen = np.stack([padded[i : i + side, j : j + side].ravel() for i in range(3) for j in range(3)])
    targets, sources = np.broadcast_to(place.ravel(), seen.shape)[seen >= 0], seen[seen >= 0]
    below, right = (place[:-1].ravel(), place[1:].ravel()), (place[:, :-1].ravel(), place[:, 1:].ravel())

    def read(columns):
        return sparse.csr_array((np.ones(columns.size), (np.arange(columns.size), columns)), (columns.size, side**2))

    x, y = cvxpy.Parameter(side**2), cvxpy.Variable(side**2)
    residual = read(sources) @ x - read(targets) @ y
    tau, cotau = 1 / (1 + np.exp(-LEVEL)), 1 / (1 + np.exp(LEVEL))
    data = tau * cvxpy.sum_squares(cvxpy.pos(residual)) + cotau * cvxpy.sum_squares(cvxpy.pos(-residual))
    sides = sum(cvxpy.sum_squares((read(first) - read(second)) @ y) for first, second in (below, right))
    problem = cvxpy.Problem(cvxpy.Minimize((data + COUPLING * sides) / 2))
    return cvxpylayers.CvxpyLayer(problem, parameters=[x], variables=[y])


@pytest.fixture
def small_image(timed):
    side = 24 if timed else 6
    return noise(1, 1, side, side, dtype=torch.float64).requires_grad_()


def test_small_regularised_dilation(compare, small_image):
    options = {"implementation": "varmorph, Newton, float64", "window": 3, "phase": "forward and backward"}
    compare("regularised_dilation", small_dilation, [small_image], **options)


@pytest.mark.filterwarnings("ignore")  # of the libraries, about their own dependencies
def test_cvxpylayers_small_regularised_dilation(compare, small_image):
    reason = "cvxpylayers is not installed"
    cvxpy = pytest.importorskip("cvxpy", reason=reason)
    layers = pytest.importorskip("cvxpylayers.torch", reason=reason)
    layer = convex_layer(cvxpy, layers, small_image.shape[-1])
    accuracy = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-10)

    def dilation(x):
        # Clarabel, since SCS, the default, stops at differences of 1 from the minimiser here.
        (y,) = layer(x.flatten(), solver_args={"solve_method": "Clarabel", **accuracy})
        return y.view_as(x)

    ours, theirs = small_dilation(small_image), dilation(small_image)
    assert (theirs - ours).abs().max() <= 1e-5
    expected, found = (torch.autograd.grad((y * y).sum(), small_image)[0] for y in (ours, theirs))
    assert (found - expected).abs().max() <= 0.05 * expected.abs().max()  # it stops its least squares early
    options = {"implementation": "cvxpylayers, Clarabel, float64", "window": 3, "phase": "forward and backward"}
    compare("regularised_dilation", dilation, [small_image], **options, once=True)
