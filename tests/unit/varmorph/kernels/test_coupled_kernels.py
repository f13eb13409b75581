"""The regularised dilation in kernels: minimiser, certificates and gradients as in tensor code."""

import itertools

import pytest
import torch
from by_position import by_position
from torch.library import opcheck

from varmorph.torch import (
    FixedPoint,
    Implicit,
    Neumann,
    Newton,
    OneStep,
    Unrolled,
    backend,
    regularised_dilation,
)
from varmorph.torch.backend.ops import coupled as ops

OPTIONS = {
    "plain": {},
    "huber": {"penalty": "huber", "smoothing": 0.4},
    "huber edges": {"edge_penalty": "huber", "edge_smoothing": 0.3},
    "ridge": {"ridge": 0.2},
    "edge weights": {"edge_weights": 1},
    "edge weights by channel": {"edge_weights": 2},
    "all": {
        "penalty": "huber", "smoothing": 0.4, "edge_penalty": "huber", "edge_smoothing": 0.3, "ridge": 0.2,
        "edge_weights": 2,
    },
}  # fmt: skip
every_option = pytest.mark.parametrize("option", OPTIONS)


def problem(option, size=(3, 3), dtype=torch.float64, shape=(2, 2, 6, 7)):
    generator = torch.Generator().manual_seed(0)

    def noise(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    leaves = [noise(*shape), noise(2, *size), noise(2, *size).exp(), torch.tensor([2.0, -1.5], dtype=dtype)]
    leaves += [torch.tensor([0.7, 1.5], dtype=dtype)]
    options = dict(OPTIONS[option])
    if "edge_weights" in options:
        options["edge_weights"] = noise(shape[0], options["edge_weights"], 2, *shape[2:]).exp()
    for name in ("smoothing", "edge_smoothing", "ridge"):
        if name in options:
            options[name] = torch.tensor(options[name], dtype=dtype)
    leaves += [value for value in options.values() if isinstance(value, torch.Tensor)]
    for leaf in leaves:
        leaf.requires_grad_()
    return leaves, options


def solve(name, leaves, options, **methods):
    with backend(name):
        solution = by_position(regularised_dilation)(*leaves[:5], **options, **methods)
        cotangent = torch.randn(solution.value.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        gradients = torch.autograd.grad(solution.value, leaves, cotangent.to(solution.value.dtype))
    return solution, gradients


def assert_same(found, expected, tolerance):
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() <= tolerance * other.abs().max().clamp(min=1e-3)


@every_option
@pytest.mark.parametrize(("size", "padding"), list(itertools.product([(3, 3), (2, 5)], ["geodesic", "circular", 0.5])))
def test_values_and_gradients_are_those_of_tensor_code(option, size, padding):
    leaves, options = problem(option, size)
    tight = {"solver": Newton(tolerance=1e-12), "adjoint": Implicit(tolerance=1e-12), "padding": padding}
    (found, gradients), (expected, others) = (solve(name, leaves, options, **tight) for name in ("cpu", "tensor"))
    torch.testing.assert_close(found.value, expected.value, rtol=1e-9, atol=1e-9)
    assert_same(gradients, others, 1e-7)
    for side in ("forward", "backward"):
        one, other = (getattr(solution.certificate, side)._asdict() for solution in (found, expected))
        assert {key: (v.shape, v.dtype) for key, v in one.items() if isinstance(v, torch.Tensor)} == {
            key: (v.shape, v.dtype) for key, v in other.items() if isinstance(v, torch.Tensor)
        }
    assert found.certificate.forward.converged.all()
    assert found.certificate.backward.converged.all()
    assert torch.equal(found.certificate.forward.unique, expected.certificate.forward.unique)


@every_option
def test_float32_is_as_exact_as_float32_allows(option):
    leaves, options = problem(option, dtype=torch.float32)
    wide = [leaf.detach().double().requires_grad_() for leaf in leaves]
    names = [name for name, value in options.items() if isinstance(value, torch.Tensor)]
    found, gradients = solve("cpu", leaves, options)
    expected, others = solve("tensor", wide, options | dict(zip(names, wide[5:], strict=True)))
    torch.testing.assert_close(found.value.double(), expected.value, rtol=1e-4, atol=1e-4)
    assert_same([gradient.double() for gradient in gradients], others, 1e-3)


@pytest.mark.parametrize("adjoint", [Neumann(terms=30), OneStep()])
def test_adjoints_that_approximate_do_so_as_in_tensor_code(adjoint):
    leaves, options = problem("plain")
    tight = {"solver": Newton(tolerance=1e-12), "adjoint": adjoint}
    (_, gradients), (_, others) = (solve(name, leaves, options, **tight) for name in ("cpu", "tensor"))
    assert_same(gradients, others, 1e-7)


@every_option
def test_results_do_not_depend_on_the_number_of_threads(option):
    leaves, options = problem(option, dtype=torch.float32, shape=(3, 2, 40, 50))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            solution, gradients = solve("cpu", leaves, options)
            results.append((solution.value, *gradients))
    finally:
        torch.set_num_threads(before)
    for others in results[1:]:
        assert all(map(torch.equal, results[0], others))


@pytest.mark.parametrize("option", ["plain", "all"])
def test_its_ops_are_lawful(option):
    (x, bias, weight, level, coupling, *_), options = problem(option)
    bias, weight = bias.flatten(1), weight.flatten(1)
    optional = [options.get(name) for name in ("smoothing", "edge_weights", "edge_smoothing", "ridge")]
    optional = [value.expand(2).clone() if value is not None and value.ndim == 0 else value for value in optional]
    tensors = [x, bias, weight, level.sigmoid(), (-level).sigmoid(), coupling, *optional]
    tensors = [None if value is None else value.detach() for value in tensors]
    for where in (([3, 3], [1, 1], "geodesic", None), ([3, 3], [1, 2], "geodesic", 0.5)):
        opcheck(ops.regularised_minimum, (*tensors, *where, torch.zeros_like(x).detach(), 1e-9, 50, 100))
        y, *_ = ops.regularised_minimum(*tensors, *where, torch.zeros_like(x).detach(), 1e-9, 50, 100)
        for terms in (0, 3):
            opcheck(ops.regularised_adjoint, (torch.ones_like(y), y, *tensors, *where, terms, 1e-9, 100))


def test_a_sample_with_nan_fails_alone():
    leaves, options = problem("plain")
    with torch.no_grad():
        leaves[0][1, 0, 2, 3] = torch.nan
    for name in ("cpu", "tensor"):
        with backend(name), pytest.warns(match="converge"):
            solution = by_position(regularised_dilation)(*leaves, **options)
        assert solution.certificate.forward.converged.tolist() == [True, False]
        assert solution.value[0].isfinite().all()
        assert solution.value[1, 0].isnan().all()


def test_other_solvers_share_the_kernels_of_every_energy():
    leaves, options = problem("plain")
    values = []
    for name in ("cpu", "tensor"):
        with backend(name):
            values.append(by_position(regularised_dilation)(*leaves, **options, solver=FixedPoint()).value)
    torch.testing.assert_close(*values, rtol=1e-6, atol=1e-6)


def test_what_is_unrolled_runs_in_tensor_code():
    leaves, options = problem("plain")
    with backend("cpu"), pytest.raises(ValueError, match="automatic differentiation records every operation"):
        by_position(regularised_dilation)(*leaves, **options, adjoint=Unrolled())
    by_position(regularised_dilation)(*leaves, **options, adjoint=Unrolled())
