"""The adjoint of a regularised dilation, plane by plane: H v = dL/dz, then dL/dtheta = -v^T d(grad_z E)/dtheta.

Nothing of the forward solve is needed but the minimiser: the residuals, and with them the Hessian H, are computed anew.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from varmorph.kernels.compilation import kernel, part, plus
from varmorph.kernels.conjugate_gradients import STRETCH
from varmorph.kernels.padded_plane import add_back
from varmorph.kernels.penalties import Penalty, curvature
from varmorph.kernels.planes.certificate import is_regular, weights_to_known
from varmorph.kernels.planes.energy import Plane, curvatures
from varmorph.kernels.planes.laplacian import conjugate_gradients, frame, framed, neumann_series
from varmorph.kernels.planes.problem import Parameters, WindowLayout, load, room

__all__ = ["backward"]


@part
def _pull_back(grad: Any, lanes: int, x: Any, inside: Any, z: Any, v: Any, b: Any, w: Any, penalty: Penalty) -> Any:
    """Give each cell of the padded copy what one edge sends back to it; z and v are those of the pixel that it pulls.

    Return the sums of v rho'', of v h' above and below, and of v rho'' r.
    """
    zero = grad.dtype.type(0)
    curved = above = below = spread = zero
    for j in range(lanes):
        r = x[j] + b - z[j]
        p = v[j] * inside[j]
        c = p * curvature(r, penalty)
        s = p * (r / max(penalty.straight * abs(r), penalty.mu))
        grad[j] += w * c
        curved = plus(curved, c)
        above = plus(above, s if r >= 0 else zero)
        below = plus(below, zero if r >= 0 else s)
        spread = plus(spread, c * r)
    return curved, above, below, spread


@part
def _back_through_data_edges(
    plane: Plane, slots: Any, grad: Any, z: Any, v: Any, front: int, grad_bias: Any, grad_weight: Any, grad_numbers: Any
) -> None:
    """Add what edges from known values send back: to the cells of the padded copy and to their parameters."""
    pull = plane.pull
    for t in range(plane.edges):
        if t > 0 and slots[t] == slots[t - 1]:
            continue  # fills up a group of three
        curved = above = below = spread = 0.0
        for s in range(0, grad.size, STRETCH):
            lanes, at = min(STRETCH, grad.size - s), front - plane.shift[t] + s
            sums = _pull_back(
                grad[s:], lanes, plane.copy[s:], plane.inside[s:], z[at:], v[at:], plane.b[t], plane.w[t], pull
            )
            curved += sums[0]
            above += sums[1]
            below += sums[2]
            spread += sums[3]
        grad_bias[slots[t]] += plane.w[t] * curved
        grad_weight[slots[t]] += pull.tau * above + pull.cotau * below
        grad_numbers[0] += plane.w[t] * above
        grad_numbers[1] += plane.w[t] * below
        grad_numbers[3] -= plane.w[t] * spread / pull.mu * pull.straight


@part
def _back_through_grid_edges(
    here: Any,
    there: Any,
    v_here: Any,
    v_there: Any,
    curved: Any,
    strength: Any,
    factors: Any,
    rows: int,
    columns: int,
    plane: Plane,
    grad_factors: Any,
    grad_numbers: Any,
) -> None:
    """Add what edges between unknowns send back: to their factors, to the coupling and to the smoothing."""
    penalty = plane.between
    for i in range(rows):
        for j in range(columns):
            k = i * plane.pitch + j
            r, d = here[k] - there[k], v_here[k] - v_there[k]
            unit = d * (r / max(penalty.straight * abs(r), penalty.mu))
            if factors.size:
                grad_factors[i, j] = -strength * unit
                grad_numbers[2] -= factors[i, j] * unit
            else:
                grad_numbers[2] -= unit
            grad_numbers[4] += d * curved[k] * r / penalty.mu * penalty.straight


@part
def _read_defined(z: Any, q: Any, y: Any, grad_y: Any, pitch: int) -> None:
    """Write minimiser and cotangent into lanes, 0 where the former is no number."""
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            defined = y[i, j] == y[i, j]
            z[i * pitch + j] = y[i, j] if defined else y.dtype.type(0)
            q[i * pitch + j] = grad_y[i, j] if defined else y.dtype.type(0)


@part
def _back_through_ridge(plane: Plane, z: Any, v: Any, grad_x: Any) -> float:
    """Add what the ridge sends back to the image; return what it sends to its weight."""
    total = 0.0
    for i in range(grad_x.shape[0]):
        for j in range(grad_x.shape[1]):
            k = i * plane.pitch + j
            grad_x[i, j] += plane.ridge * v[k]
            total -= v[k] * (z[k] - plane.anchor[k])
    return total


@kernel
def backward(
    grad_y: Any,
    x: Any,
    y: Any,
    parameters: Parameters,
    layout: WindowLayout,
    terms: int,
    tolerance: float,
    max_steps: int,
    grad_x: Any,
    grad_bias: Any,
    grad_weight: Any,
    grad_numbers: Any,
    grad_factors: Any,
    residuals: Any,
    counts: Any,
    start: int,
    stop: int,
) -> None:
    """Write the derivatives for the planes start..stop; those of the parameters as float64 sums a plane.

    terms : of a Neumann series for v; 0 for conjugate gradients.
    grad_numbers : of tau, 1 - tau, the coupling, the smoothing, the edge smoothing and the ridge.
    residuals, counts : relative residual of v; steps, and whether the Hessian is singular.
    """
    channels, height, width = x.shape[1:]
    plane = room(x, layout)
    dtype, pitch, at, lanes = x.dtype, plane.pitch, frame(plane.pitch), plane.own.size
    slots = np.empty(layout.offsets.size + 2, np.int64)
    z, v, reached = framed(lanes, pitch, dtype), framed(lanes, pitch, dtype), framed(lanes, pitch, np.uint8)
    q, known, weights = np.zeros(lanes, dtype), np.empty(lanes, dtype), np.empty(lanes, dtype)
    across, down = framed(lanes, pitch, dtype), framed(lanes, pitch, dtype)
    # Pixels are asked for from up to `front` lanes before the first.
    front = layout.offsets.max()
    grad = np.empty(plane.copy.size, dtype)
    back_z, back_v = np.zeros(front + grad.size, dtype), np.zeros(front + grad.size, dtype)
    none = np.empty((0, 0), dtype)
    for p in range(start, stop):
        n, c = p // channels, p % channels
        plane = load(plane, x, parameters, layout, slots, n, c)
        _read_defined(z[at:], q, y[n, c], grad_y[n, c], pitch)
        curvatures(plane, z, known, across, down)
        weights_to_known(plane, weights)
        counts[p, 1] = not is_regular(plane, known, across, down, weights, reached)
        found = v[at : at + lanes]
        if terms > 0:
            counts[p, 0], residuals[p] = neumann_series(found, q, known, across, down, pitch, terms)
        else:
            counts[p, 0], residuals[p] = conjugate_gradients(found, q, known, across, down, pitch, tolerance, max_steps)
        for j in range(lanes):
            back_z[front + j], back_v[front + j] = z[at + j], v[at + j]
        grad[:] = 0
        _back_through_data_edges(
            plane, slots, grad, back_z, back_v, front, grad_bias[p], grad_weight[p], grad_numbers[p]
        )
        add_back(grad_x[n, c], grad, layout.rows, layout.columns)
        if parameters.ridge.size:
            grad_numbers[p, 5] += _back_through_ridge(plane, z[at:], v[at:], grad_x[n, c])
        strength = parameters.strength[c]
        for d in range(2):
            o = pitch if d == 0 else 1
            factors, grad_f = none, none
            if parameters.factors.size:
                factors, grad_f = parameters.factors[n, c % parameters.factors.shape[1], d], grad_factors[n, c, d]
            _back_through_grid_edges(
                z[at:],
                z[at + o :],
                v[at:],
                v[at + o :],
                down[at:] if d == 0 else across[at:],
                strength,
                factors,
                height - 1 if d == 0 else height,
                width if d == 0 else width - 1,
                plane,
                grad_f,
                grad_numbers[p],
            )
