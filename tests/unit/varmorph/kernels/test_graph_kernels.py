"""Max-plus on graphs in kernels: as in tensor code, to the bit, whatever the graph."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.library import opcheck

from varmorph.torch import backend, graph_closing, graph_dilation, graph_erosion, graph_opening
from varmorph.torch.backend.ops import graph as ops

OPERATORS = [graph_dilation, graph_erosion, graph_opening, graph_closing]
every_operator = pytest.mark.parametrize("operator", OPERATORS)


def problem(batch, nodes, features, edges, seed, dtype=torch.float32, integers=False):
    generator = torch.Generator().manual_seed(seed)
    shape = (nodes, features) if batch is None else (batch, nodes, features)
    x = torch.randn(shape, generator=generator, dtype=dtype)
    pairs = torch.randint(0, nodes, (2, edges), generator=generator)
    bias = torch.randn(edges, features, generator=generator, dtype=dtype)
    if integers:
        x, bias = x.round(), bias.round()
    bias[torch.rand(bias.shape, generator=generator) < 0.2] = -torch.inf
    return x, pairs, bias


def results(operator, x, pairs, bias, name, **options):
    leaves = [tensor.clone().requires_grad_() for tensor in (x, bias)]
    with backend(name):
        y = operator(leaves[0], pairs, leaves[1], **options)
    finite = y.isfinite()
    cotangent = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    score = (y.where(finite, 0.0) * cotangent).sum()
    return [y.detach(), *torch.autograd.grad(score, leaves, allow_unused=True, materialize_grads=True)]


@every_operator
@settings(deadline=None)  # the first call compiles
@given(
    st.sampled_from([None, 1, 3]), st.integers(1, 7), st.integers(1, 4), st.integers(0, 20), st.integers(0, 1000),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_kernels_agree_with_tensor_code(operator, batch, nodes, features, edges, seed, integers, self_edge):
    x, pairs, bias = problem(batch, nodes, features, edges, seed, torch.float64, integers)
    found, expected = (results(operator, x, pairs, bias, name, self_edge=self_edge) for name in ("cpu", "tensor"))
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1:], expected[1:])


@every_operator
@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf])
def test_numbers_that_are_not_finite_are_taken_as_in_tensor_code(operator, number):
    x, pairs, bias = problem(2, 6, 3, 15, 0)
    x[0, 2] = number
    values = []
    for name in ("cpu", "tensor"):
        with backend(name):
            values.append(operator(x, pairs, bias))
    assert torch.equal(values[0].isnan(), values[1].isnan())
    assert torch.equal(values[0].nan_to_num(), values[1].nan_to_num())


@every_operator
def test_results_do_not_depend_on_the_number_of_threads(operator):
    x, pairs, bias = problem(3, 700, 20, 4000, 0)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(results(operator, x, pairs, bias, "cpu"))
    finally:
        torch.set_num_threads(before)
    for others in found[1:]:
        assert all(map(torch.equal, found[0], others))


@pytest.mark.parametrize("features", [1, 3])
def test_the_supremum_is_a_lawful_op(features):
    x, pairs, bias = problem(2, 5, features, 8, 0, torch.float64)
    shared = bias[:, :1].clone()
    for offsets in (bias, shared):
        leaves = x.clone().requires_grad_(), offsets.clone().requires_grad_()
        opcheck(ops.supremum, (*leaves, *pairs, 1))
        y, chosen = ops.supremum(x, offsets, *pairs, 1)
        opcheck(ops.supremum_backward, (y, chosen, offsets, *pairs, 1))


@pytest.mark.parametrize("shared", [False, True])
def test_second_derivatives_are_those_of_differences(shared):
    x, pairs, bias = problem(None, 5, 2, 8, 0, torch.float64)
    leaves = x.requires_grad_(), (bias[:, 0] if shared else bias).clone().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x, bias: graph_dilation(x, pairs, bias), leaves)
