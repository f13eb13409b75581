"""The record that every gradient function returns."""

from __future__ import annotations

from typing import NamedTuple

from varmorph.reference.edges import Array


class Gradients(NamedTuple):
    """Derivatives of a loss with respect to the arguments of an operator, each of its argument's shape; None: no such argument."""

    x: Array
    bias: Array | None = None
    weight: Array | None = None
    logit_level: Array | None = None
    smoothing: Array | None = None
    logit_levels: Array | None = None
    coupling: Array | None = None
    edge_weights: Array | None = None
    edge_smoothing: Array | None = None
    ridge: Array | None = None
    eta: Array | None = None


class ReconstructionGradients(NamedTuple):
    """Derivatives of a loss with respect to the arguments of a reconstruction, each of its argument's shape."""

    marker: Array
    mask: Array
    bias: Array
