"""Sums over edges and conjugate gradients in kernels, for energies of every kind: as in tensor code."""

from dataclasses import replace

import pytest
import torch
from coupled_instances import drawn, problems

from varmorph.torch import (
    ADMM,
    AcceleratedGradient,
    DataEdges,
    Edges,
    Energy,
    FixedPoint,
    GraphDataEdges,
    GraphEdges,
    GridEdges,
    Implicit,
    Newton,
    Penalty,
    PrimalDual,
    Ridge,
    Unrolled,
    WindowEdges,
    backend,
    joint_closing,
    joint_graph_opening,
    minimise,
    regularised_dilation,
    regularised_graph_dilation,
)
from varmorph.torch.energy.conjugate_gradients import conjugate_gradients
from varmorph.windows import Geometry, window

N, C, H, W = 2, 3, 4, 5
TIGHT = {"solver": Newton(tolerance=1e-13), "adjoint": Implicit(tolerance=1e-12)}


def penalties(ndim):
    """One penalty of each kind, with numbers for each channel."""
    tau, mu = (drawn(seed, C).sigmoid().view(C, *(1,) * ndim) for seed in (1, 2))
    return {
        "square": Penalty("square"),
        "expectile": Penalty("square", tau, 1 - tau),
        "quantile": Penalty("absolute", tau, 1 - tau),
        "huber": Penalty("huber", tau, 1 - tau, mu),
        "one huber": Penalty("huber", smoothing=torch.tensor(0.4, dtype=torch.float64)),
    }


def image_energy(name):
    """Image edges of every kind: pulls, neighbours, and a window between two parts."""
    rho, plain = penalties(2)[name], Penalty("square")
    wide = rho if rho.tau is None else replace(rho, tau=rho.tau[:, None], cotau=rho.cotau[:, None])
    if wide.smoothing is not None and wide.smoothing.ndim:
        wide = replace(wide, smoothing=wide.smoothing[:, None])
    seen = window(Geometry((H, W), (2, 3), padding="replicate", reverse=True))
    slots = len(seen.elements)
    families = [
        Edges(DataEdges(part=0, parts=2), drawn(3, 4, N, C, H, W), drawn(4, 4, 1, C, 1, 1).exp(), rho),
        Edges(WindowEdges(seen, (H, W), source=0, target=1, parts=2), drawn(5, slots, 1, C, 1, 1), drawn(6, slots, 1, C, H, W).exp(), rho),
        Edges(GridEdges(-1), drawn(7, 1), drawn(8, N, C, 2, H, W - 1).exp(), wide),
        Edges(GridEdges(-2), drawn(7, 1), drawn(9, C, 1, 1, 1).exp(), plain),
    ]  # fmt: skip
    zeros = torch.zeros(N, C, 2, H, W, dtype=torch.float64)
    return Energy(families, zeros, Ridge(drawn(0, C, 1, 1, 1).exp(), drawn(1, N, C, 2, H, W)))


def graph_energy(name):
    """Graph edges of both kinds, with loops, repetitions and a node without edges."""
    rho, nodes = penalties(1)[name], 7
    pulled, source, target = torch.randint(0, nodes - 1, (3, 20), generator=torch.Generator().manual_seed(0))
    families = [
        Edges(GraphDataEdges(pulled, nodes), drawn(3, N, C, 20), drawn(4, 1, 20).exp(), rho),
        Edges(GraphEdges(source, target, nodes), drawn(5, C, 20), drawn(6, C, 1).exp(), rho),
    ]
    return Energy(families, torch.zeros(N, C, nodes, dtype=torch.float64))


ENERGIES = {"image": image_energy, "graph": graph_energy}
every_energy = pytest.mark.parametrize("kind", ENERGIES)


@every_energy
@pytest.mark.parametrize("name", penalties(1))
@torch.no_grad()
def test_an_evaluation_is_that_of_tensor_code(kind, name):
    energy = ENERGIES[kind](name)
    z = drawn(9, *energy.zeros.shape).transpose(-1, 0).contiguous().transpose(-1, 0)  # not in memory order
    found, expected = replace(energy, compiled=True).evaluate(z), energy.evaluate(z)
    for field in ("residuals", "stiffnesses"):
        for one, other in zip(getattr(found, field), getattr(expected, field), strict=True):
            torch.testing.assert_close(one, other.expand(one.shape), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.gradient, expected.gradient, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.diagonal, expected.diagonal, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.value, energy.value(expected), rtol=1e-12, atol=1e-12)


@every_energy
@torch.no_grad()
def test_a_linear_system_is_solved_as_in_tensor_code(kind):
    energy = ENERGIES[kind]("expectile")
    z = drawn(9, *energy.zeros.shape)
    at, tolerance = energy.evaluate(z), torch.tensor([[1e-9, 1e-2, torch.inf]] * N, dtype=torch.float64)
    found, expected = (
        conjugate_gradients(one.hessian(at.residuals), at.gradient, tolerance, 100)
        for one in (replace(energy, compiled=True), energy)
    )
    torch.testing.assert_close(found.value, expected.value, rtol=1e-8, atol=1e-8)
    assert torch.equal(found.steps, expected.steps)
    assert found.steps[:, 2].tolist() == [0] * N
    assert found.residual.dtype == expected.residual.dtype


@pytest.mark.parametrize("name", problems())
def test_solutions_and_gradients_are_those_of_tensor_code(name):
    problem, found = problems()[name], {}
    methods = TIGHT
    for kernels in ("cpu", "tensor"):
        with backend(kernels):
            solution, leaves = problem.call(**methods)
            found[kernels] = [solution, torch.autograd.grad(solution.value, leaves.values(), problem.cotangent())]
    (one, gradients), (other, expected) = found["cpu"], found["tensor"]
    torch.testing.assert_close(one.value, other.value, rtol=1e-9, atol=1e-9)
    for gradient, true in zip(gradients, expected, strict=True):
        assert (gradient - true).abs().max() <= 1e-7 * true.abs().max().clamp(min=1e-3)
    assert torch.equal(one.certificate.forward.unique, other.certificate.forward.unique)
    assert one.certificate.forward.converged.all()


@pytest.mark.parametrize("solver", [FixedPoint(), AcceleratedGradient(), PrimalDual(), ADMM()])
def test_every_solver_may_sum_in_kernels(solver):
    x, values = drawn(0, 2, 1, 6, 7), []
    for kernels in ("cpu", "tensor"):
        with backend(kernels):
            values.append(regularised_dilation(x, torch.zeros(3, 3).double(), 1.0, 0.5, solver=solver).value)
    torch.testing.assert_close(*values, rtol=1e-6, atol=1e-6)


def test_results_do_not_depend_on_the_number_of_threads():
    x, flat, edges = drawn(0, 5, 2, 40, 50).float(), torch.zeros(3, 3), torch.randint(0, 900, (2, 9000))
    leaf, before, results = x.clone().requires_grad_(), torch.get_num_threads(), []
    nodes = drawn(1, 900, 7).float().requires_grad_()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            image = joint_closing(leaf, flat, (3.0, -2.0), 0.2).value
            graph = joint_graph_opening(nodes, edges, None, (-3.0, 2.0), 0.2).value
            gradients = torch.autograd.grad(image.square().sum() + graph.square().sum(), (leaf, nodes))
            results.append((image, graph, *gradients))
    finally:
        torch.set_num_threads(before)
    for others in results[1:]:
        assert all(map(torch.equal, results[0][:2], others[:2]))


def test_what_kernels_cannot_do_is_done_in_tensor_code():
    known, zeros = drawn(0, 1, 1, 1, 4), torch.zeros(1, 1, 4, dtype=torch.float64)
    tau = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    energy = Energy(
        [Edges(DataEdges(), known, torch.ones((), dtype=torch.float64), Penalty("square", tau, 1 - tau))], zeros
    )
    torch.testing.assert_close(minimise(energy).value, known[0])
    with backend("cpu"), pytest.raises(ValueError, match="no kernel for this minimisation: its penalties change"):
        minimise(energy)
    x = drawn(0, 4, 2).requires_grad_()
    edges = torch.tensor([[0, 1, 2], [1, 2, 3]])
    options = {"coupling": 0.5, "solver": FixedPoint(), "adjoint": Unrolled()}
    regularised_graph_dilation(x, edges, None, 1.0, **options).value.sum().backward()
    with backend("cpu"), pytest.raises(ValueError, match="automatic differentiation records every operation"):
        regularised_graph_dilation(x, edges, None, 1.0, **options)
