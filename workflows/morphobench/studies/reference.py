"""The float64 reference of the gradient study: the specification and the closed form of the gradient.

Pixel by pixel and edge by edge, without automatic differentiation: the solution comes from `varmorph.reference`, its
gradients from the implicit function theorem for one unknown y = y(v, w, tau) on the edges of a window,

    dy/dv_k = w_k a_k / S,  dy/dw_k = a_k (v_k - y) / S,  dy/dtau = sum_k w_k abs(v_k - y) / S,  S = sum_k w_k a_k.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import varmorph.reference
from morphobench.studies.instances import Instance

__all__ = ["TIE", "Reference", "solve_reference"]

TIE = 1e-12  # a neighbour nearer to the output than this share of the range counts as a tie


@dataclass(frozen=True)
class Reference:
    """Solution and gradients of an instance in float64.

    Parameters
    ----------
    value : ndarray
        (1, C, H, W).
    gradients : tuple of ndarray
        In the order of `PARAMETERS`.
    active : ndarray
        (1, C, T, H, W), bool: the neighbours at or above the output; places outside the image hold what zero padding
        would give.
    ties : bool
        Whether some neighbour equals its output, so that there may be no derivative.
    spread : float
        Range of the output.
    """

    value: np.ndarray
    gradients: tuple[np.ndarray, ...]
    active: np.ndarray
    ties: bool
    spread: float


def solve_reference(instance: Instance) -> Reference:
    """Solve and differentiate an instance."""
    solve = getattr(varmorph.reference, instance.operator)
    value = np.asarray(solve(*instance.arguments), dtype=np.float64)
    x, bias, weight, logit_level = instance.arguments
    gradients = tuple(np.zeros_like(array) for array in instance.arguments)
    active = np.zeros((1, x.shape[1], bias[0].size, *x.shape[2:]), dtype=bool)
    spread = float(np.ptp(x)) + float(np.ptp(bias))
    ties = False
    sign = -1.0 if instance.erosion else 1.0
    for c, i, j in np.ndindex(x.shape[1:]):
        above, below = (1.0 / (1.0 + np.exp(-side * sign * logit_level[c])) for side in (1.0, -1.0))
        y, cotangent = value[0, c, i, j], instance.cotangent[0, c, i, j]
        edges = _edges(instance, i, j)
        read = [(x[0, c, p, q] if inside else 0.0) + sign * bias[c, r, s] for r, s, p, q, inside in edges]
        residual = np.array(read) - y
        active[0, c, :, i, j] = residual >= 0
        inside = np.array([edge[-1] for edge in edges])
        w = np.where(inside, [weight[c, r, s] for r, s, *_ in edges], 0.0)
        a = np.where(residual >= 0, above, below)
        total = (w * a).sum()
        by_value, by_weight = cotangent * w * a / total, cotangent * inside * a * residual / total
        for k, (r, s, p, q, present) in enumerate(edges):
            gradients[1][c, r, s] += sign * by_value[k]
            gradients[2][c, r, s] += by_weight[k]
            if present:
                gradients[0][0, c, p, q] += by_value[k]
        by_level = (w * np.abs(residual)).sum() / total * above * below
        gradients[3][c] += sign * cotangent * by_level
        ties = ties or bool((np.abs(residual[inside]) <= TIE * spread).any())
    return Reference(value, gradients, active, ties, float(np.ptp(value)))


def _edges(instance: Instance, i: int, j: int) -> list[tuple[int, int, int, int, bool]]:
    """Edges into pixel (i, j): element (r, s) of the window, start (p, q), whether that lies inside the image."""
    height, width = instance.x.shape[2:]
    rows, columns = instance.bias.shape[1:]
    direction = -1 if instance.erosion else 1
    edges = []
    for r, s in np.ndindex(rows, columns):
        p, q = i + direction * (r - rows // 2), j + direction * (s - columns // 2)
        edges.append((r, s, p, q, 0 <= p < height and 0 <= q < width))
    return edges
