"""The normalised adjacency matrix A of a graph, and its Perron-Frobenius value.

A_ij = 1 / sqrt(out(i) in(j)) for each edge i -> j, out and in being the degrees, so that column j of X A gathers what flows
into node j. This is D^-1/2 A D^-1/2 where every edge has its reverse, and the matrix of zeros and ones of a directed chain.
Its spectral norm is at most 1 (Schur's test with the square roots of the degrees), and so is every eigenvalue.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

POWER_STEPS = 1000
POWER_TOLERANCE = 1e-6


class Adjacency:
    """The matrix A of one graph as two sparse matrices, since an iteration needs A^T and its adjoint A.

    Parameters
    ----------
    edges : (2, E)
        Sources and targets, int64; an edge that is listed twice counts twice.
    nodes : int
        Number of nodes.
    like : Tensor
        Gives dtype and device.
    """

    def __init__(self, edges: Tensor, nodes: int, like: Tensor):
        self.edges, self.nodes = edges.clone(), nodes
        source, target = edges
        out, into = (torch.bincount(endpoints, minlength=nodes).double() for endpoints in (source, target))
        values = (out[source] * into[target]).rsqrt().to(like.dtype)
        self.matrix = compressed(source, target, values, nodes)
        self.transposed = compressed(target, source, values, nodes)

    def fits(self, edges: Tensor, like: Tensor) -> bool:
        """Say whether this is the matrix of these edges between the nodes of `like` (nodes, F)."""
        same = self.nodes == len(like) and self.matrix.dtype == like.dtype and self.edges.device == edges.device
        return same and torch.equal(self.edges, edges)

    def ones(self) -> Tensor:
        """Return ones (nodes, 1)."""
        return torch.ones(self.nodes, 1, dtype=self.matrix.dtype, device=self.matrix.device)

    def gather(self, y: Tensor) -> Tensor:
        """Return A^T y for y (nodes, hidden): what flows into each node."""
        return torch.sparse.mm(self.transposed, y)

    def scatter(self, y: Tensor) -> Tensor:
        """Return A y for y (nodes, hidden), the adjoint of `gather`."""
        return torch.sparse.mm(self.matrix, y)


def compressed(rows: Tensor, columns: Tensor, values: Tensor, nodes: int) -> Tensor:
    """Return the sparse matrix (nodes, nodes) in compressed rows, several times faster to multiply by than coordinates."""
    places, entry = (rows * nodes + columns).unique(return_inverse=True)
    starts = torch.zeros(nodes + 1, dtype=torch.int64, device=rows.device)
    starts[1:] = torch.bincount(places // nodes, minlength=nodes).cumsum(0)
    entries = values.new_zeros(len(places)).index_add_(0, entry, values)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(starts, places % nodes, entries, (nodes, nodes), check_invariants=True)


@torch.no_grad()
def perron_frobenius(graph: Adjacency) -> float:
    """Return an upper bound of the Perron-Frobenius value of A, tight but for rounding; 1 for graphs without cycles.

    max_i (M v)_i / v_i bounds it from above for every positive v (Collatz and Wielandt); v comes from the power iteration of
    M = A + 1, which converges where that of A oscillates. A graph without cycles has the value 0, which bounds nothing: every
    W is well-posed there. The spectral norm of A, at most 1, takes its place, so that states stay bounded along long paths.
    """
    if acyclic(graph):
        return 1.0
    v, bound = graph.ones(), 1.0
    for _ in range(POWER_STEPS):
        flow = graph.gather(v)
        ratio = flow / v
        bound = min(bound, float(ratio.max()))
        if bound - float(ratio.min()) <= POWER_TOLERANCE:
            break
        v = (v + flow) / (v + flow).max()
        v = v.clamp(min=torch.finfo(v.dtype).tiny)  # what decays against the rest: the bound holds for any positive v
    return bound


def acyclic(graph: Adjacency) -> bool:
    """Say whether no path returns to where it began: the nodes that still have predecessors run out."""
    reached = graph.ones()
    while True:
        further = (graph.gather(reached) > 0).to(reached.dtype)
        if torch.equal(further, reached):
            return not bool(reached.any())
        reached = further
