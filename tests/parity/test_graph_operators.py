"""Max-plus morphology on graphs in PyTorch, JAX and the reference: values, gradients, ties."""

import numpy as np
import pytest

from varmorph import reference

jax = pytest.importorskip("jax", reason="jax is not installed")
torch = pytest.importorskip("torch", reason="torch is not installed")

import varmorph.jax  # noqa: E402
import varmorph.torch  # noqa: E402

FUNCTIONS = ["graph_dilation", "graph_erosion", "graph_opening", "graph_closing"]
NODES, FEATURES, EDGES = 9, 3, 20


def draw(ties, shape):
    """Features of two signals, edges, offsets: one for all, one an edge, or one an edge and feature."""
    rng = np.random.default_rng(0)
    x, bias = rng.standard_normal((2, NODES, FEATURES)), 0.3 * rng.standard_normal(shape)
    if ties:
        x, bias = rng.integers(0, 3, x.shape).astype(float), np.zeros(shape)
    if shape:
        bias[3] = -np.inf
    return x, rng.integers(0, NODES, (2, EDGES)), bias


@pytest.mark.parametrize("backend", ["cpu", "xla"])
@pytest.mark.parametrize("self_edge", [True, False])
@pytest.mark.parametrize("shape", [(), (EDGES,), (EDGES, FEATURES)], ids=["one", "by edge", "by edge and feature"])
@pytest.mark.parametrize("ties", [False, True], ids=["generic", "ties"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_max_plus_on_graphs(function, ties, shape, self_edge, backend):
    x, edges, bias = draw(ties, shape)
    leaves = torch.tensor(x, requires_grad=True), torch.tensor(bias, requires_grad=True)
    with varmorph.torch.backend("tensor"):
        y = getattr(varmorph.torch, function)(leaves[0], torch.tensor(edges), leaves[1], self_edge=self_edge)
    cotangent = np.random.default_rng(1).standard_normal(y.shape)
    expected = torch.autograd.grad(y, leaves, torch.tensor(cotangent))

    @jax.jit
    def value_and_gradients(x, bias):
        with varmorph.jax.backend(backend):
            apply = getattr(varmorph.jax, function)
            value, pullback = jax.vjp(lambda x, bias: apply(x, edges, bias, self_edge=self_edge), x, bias)
            return value, pullback(cotangent)

    value, gradients = value_and_gradients(x, bias)
    np.testing.assert_allclose(value, y.detach(), rtol=0, atol=1e-12)
    for ours, theirs in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10)
    for signal, found in zip(x, value, strict=True):
        wanted = getattr(reference, function)(signal, edges, bias, self_edge=self_edge)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


def test_a_node_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="edges must name nodes from 0 to 1, found numbers from 0 to 5"):
        varmorph.jax.graph_dilation(np.zeros((2, 1)), np.array([[0], [5]]))
