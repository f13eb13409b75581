"""The regularised dilation, plane by plane, from arrays to arrays.

Images are (N, C, H, W). The parameters are those of `problem.Parameters`, in this order, None where there is none: `bias` and
`weight` (C, K), `factors` (N, 1 or C, 2, H, W), the others (C,).
"""

from __future__ import annotations

import numpy as np

from varmorph.kernels.arrays import by_element, by_slot, over_samples
from varmorph.kernels.planes import certificate, newton
from varmorph.kernels.planes import gradient as coupled_gradient
from varmorph.kernels.planes.problem import Parameters, WindowLayout
from varmorph.kernels.threads import over_planes
from varmorph.windows import Geometry, shifted_window

__all__ = ["regularised_adjoint", "regularised_minimum"]

# How many times the work of one pass over an image a solve is: it decides how many threads are worth starting.
PASSES = 64

Optional = tuple[np.ndarray | None, ...]


def _arguments(
    x: np.ndarray, parameters: Optional, geometry: Geometry, outside: float | None
) -> tuple[Parameters, WindowLayout]:
    window = shifted_window(geometry)
    kinds = dict(zip(Parameters._fields, parameters, strict=True))
    empty = {name: np.empty((0,) * (5 if name == "factors" else 1), x.dtype) for name in kinds}
    arrays = {name: empty[name] if value is None else value for name, value in kinds.items()}
    for name in ("bias", "weight"):
        arrays[name] = by_slot(arrays[name], window.elements)
    (height, width) = geometry.size
    centre = int(window.offsets[height // 2 * width + width // 2])
    cut = outside is None and window.leaves_image
    layout = WindowLayout(window.rows, window.columns, window.offsets, centre, x.dtype.type(outside or 0.0), cut)
    return Parameters(**arrays), layout


def regularised_minimum(
    x: np.ndarray,
    parameters: Optional,
    start: np.ndarray,
    geometry: Geometry,
    outside: float | None,
    tolerance: float,
    max_steps: int,
    linear_steps: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Minimise by Newton's method: the minimiser, and what `varmorph.torch.backend.ops.coupled` says of it."""
    arrays, layout = _arguments(x, parameters, geometry, outside)
    planes = x.shape[0] * x.shape[1]
    y, counts, unique = np.empty_like(x), np.empty((planes, 3), np.int64), np.empty(planes, np.bool_)
    spreads, residuals, margins = np.empty((3, planes))

    def run(first: int, last: int) -> None:
        newton.minimise(
            x, arrays, layout, start, tolerance, max_steps, linear_steps, y, spreads, residuals, counts, first, last
        )
        certificate.certify(x, y, arrays, layout, spreads, margins, unique, first, last)

    over_planes(run, planes, PASSES * x.size)
    shape = x.shape[:2]
    numbers = np.stack((residuals, margins)).astype(x.dtype)
    return y, numbers.reshape(2, *shape), np.ascontiguousarray(counts.T).reshape(3, *shape), unique.reshape(shape)


def regularised_adjoint(
    grad_y: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    parameters: Optional,
    geometry: Geometry,
    outside: float | None,
    terms: int,
    tolerance: float,
    max_steps: int,
) -> tuple[np.ndarray, list[np.ndarray], np.ndarray, np.ndarray]:
    """Differentiate at the minimiser: gradients of x and of each parameter, residuals (N, C), counts (2, N, C)."""
    arrays, layout = _arguments(x, parameters, geometry, outside)
    samples, channels = x.shape[:2]
    planes, slots = samples * channels, layout.offsets.size
    grad_x, grad_bias, grad_weight = np.empty_like(x), np.zeros((planes, slots)), np.zeros((planes, slots))
    grad_numbers, residuals, counts = np.zeros((planes, 6)), np.empty(planes), np.empty((planes, 2), np.int64)
    grad_factors = np.zeros((samples, channels, 2, *x.shape[2:]) if arrays.factors.size else (0,) * 5, x.dtype)

    def run(first: int, last: int) -> None:
        coupled_gradient.backward(
            grad_y, x, y, arrays, layout, terms, tolerance, max_steps,
            grad_x, grad_bias, grad_weight, grad_numbers, grad_factors, residuals, counts, first, last,
        )  # fmt: skip

    over_planes(run, planes, PASSES * x.size)
    elements = shifted_window(geometry).elements
    functions = [by_element(sums, elements, samples, arrays.bias) for sums in (grad_bias, grad_weight)]
    tau, cotau, strength, mu, nu, ridge = (over_samples(sums, samples, arrays.tau) for sums in grad_numbers.T)
    factors = grad_factors.sum(1, keepdims=True) if arrays.factors.shape[1] == 1 else grad_factors
    found = (*functions, tau, cotau, strength, mu, factors, nu, ridge)
    present = [gradient for p, gradient in zip(parameters, found, strict=True) if p is not None]
    return (
        grad_x,
        present,
        residuals.reshape(samples, channels).astype(x.dtype),
        np.ascontiguousarray(counts.T).reshape(2, samples, channels),
    )
